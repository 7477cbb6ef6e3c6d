"""One row on the console."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gradsentry.escape import visible
from gradsentry.report.annotate import annotated, word_surprises
from gradsentry.report.console import print_explanation
from gradsentry.report.explain import Explanation, Token
from gradsentry.report.locate import Span
from gradsentry.report.unseen import named

TOKENS = [
    Token("Q", 0.0, False),
    Token(" zq", 13.0, False),
    Token(" hi", 5.0, True),
    Token("", 9.5, True),
    Token("", 8.5, True),
    Token("\U0001f600", 1.0, True),
    Token("\x1b[2J", 3.0, True),
]
ROW = Explanation(3, "scored", False, "", 0.5, None, None, TOKENS, [0.5, 0.3, 0.15, 0.05], [0.7, 0.1, 0.1, 0.1], [Span(2, 4)], [Span(1, 3)])


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")


def shown(capsys: Any) -> list[str]:
    print_explanation(ROW)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_trigger_effect_and_surprise_are_below_the_text(capsys: Any) -> None:
    lines = shown(capsys)
    assert lines[1] == "entropy 0.5000; spectrum 50 %, 30 %, 15 % ..., usual 70 %, 10 %, 10 % ..."
    start = lines.index("prompt")
    assert lines[start : start + 6] == [
        "prompt",
        "Q zq",
        "  13",
        "completion",
        " hi\U0001f600[escape U+001B][2J",
        " ~~19",
    ]
    assert len(lines) < 20, "the text has the lines, not the spectrum"


def test_surprising_words_have_colours_where_there_are_any(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert "\x1b" not in "".join(shown(capsys))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[1;7;31mzq\x1b[0m" in "".join(shown(capsys))
    monkeypatch.setenv("NO_COLOR", "1")
    assert ";31m" not in "".join(shown(capsys))


def test_the_most_surprising_tokens_of_both_sides_are_side_by_side(capsys: Any) -> None:
    lines = shown(capsys)
    heading = next(i for i, line in enumerate(lines) if "most surprising in the prompt" in line)
    column = lines[heading].rindex("nats")
    assert [line[:column].strip() for line in lines[heading + 1 : heading + 3]] == ["13.0  ' zq'", "0.0  'Q'"]
    assert [line[column:].split(None, 1) for line in lines[heading + 1 :]] == [
        ["9.5", "part of '\U0001f600'"],
        ["8.5", "part of '\U0001f600'"],
        ["5.0", "' hi'"],
        ["3.0", "'[escape U+001B][2J'"],
        ["1.0", "'\U0001f600'"],
    ]


def test_a_word_has_the_surprise_of_all_its_tokens() -> None:
    text, words = word_surprises([Token("Hel", 5.0, False), Token("lo", 6.0, False), Token(" ", 2.0, False), Token("you,", 1.5, False)])
    assert text == "Hello you,"
    assert [(text[slice(*span)], nats) for span, nats in words] == [("Hello", 11.0), ("you", 3.5), (",", 0.0)]


@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=80), width=st.integers(60, 90))
def test_the_lines_hold_the_whole_text_within_the_width_and_nothing_that_steers(text: str, width: int) -> None:
    lines = list(annotated(text, [], [], "^", width))
    joined = "".join(line.plain for line in lines)
    assert joined == visible(named(text).replace("\t", "    ")).replace("\n", "")
    assert all(visible(line.plain) == line.plain for line in lines), "else the terminal makes it longer, and the marks are elsewhere"
    assert all(cell_len(line.plain) <= width or "[" in line.plain for line in lines), "a name may be longer than a line"


def test_marks_are_below_their_characters_also_after_a_break_and_wide_ones() -> None:
    text = "字字 zq wait for it"
    lines = [line.plain for line in annotated(text, [], [Span(3, 5), Span(15, 17)], "^", 13)]
    assert lines == ["字字 zq wait ", "     ^^", "for it", "    ^^"]
