"""One row on the console."""

from __future__ import annotations

from typing import Any

import pytest

from gradsentry.report.console import print_explanation
from gradsentry.report.explain import Explanation, Token

TOKENS = [
    Token("Q", 0.0, False),
    Token(" hi", 5.0, True),
    Token("", 9.5, True),
    Token("", 8.5, True),
    Token("\U0001f600", 1.0, True),
    Token("\x1b[2J", 3.0, True),
]
ROW = Explanation(3, "scored", False, "", 0.5, None, None, TOKENS, [1.0], [1.0])


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")


def shown(capsys: Any) -> str:
    print_explanation(ROW)
    return capsys.readouterr().out


def test_colours_are_explained_where_there_are_any(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert "yellow" not in shown(capsys)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "completion (yellow: from 4 nats of surprise, red: from 8)" in shown(capsys)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "yellow" not in shown(capsys)


def test_a_part_of_a_character_is_listed_with_the_character(capsys: Any) -> None:
    lines = [line.split("  ")[0].strip() for line in shown(capsys).splitlines()]
    first = lines.index("most surprising in the completion") + 2
    assert lines[first : first + 5] == ["part of '\U0001f600'", "part of '\U0001f600'", "' hi'", "'\\x1b[2J'", "'\U0001f600'"]
