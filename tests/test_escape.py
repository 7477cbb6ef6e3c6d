"""What a stranger's text may do to a terminal or a page: nothing."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.escape import BIDI, BLANK, is_unseen, json_text, one_line, visible, visible_values


@given(text=st.text(st.characters(), max_size=60))
def test_no_character_is_left_that_cannot_be_seen(text: str) -> None:
    shown = visible(text)
    assert all(char in " \n" or unicodedata.category(char)[0] not in "CZ" for char in shown)
    assert not set(shown) & BLANK
    assert visible(shown) == shown


LATIN = st.characters(categories=["L", "N", "P", "S", "M"], max_codepoint=0x36F)


@given(text=st.text(st.one_of(LATIN, st.sampled_from(" \n漢字かなカナ한글עבריתعربيहिन्दी😀")), max_size=60))
def test_ordinary_text_stays(text: str) -> None:
    shown = visible(text)
    assert shown == "".join(visible(char) if is_unseen(char) else char for char in text)


def test_every_bidi_character_of_unicode_is_written_out() -> None:
    turning = {
        chr(i)
        for i in range(sys.maxunicode + 1)
        if unicodedata.bidirectional(chr(i)) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    }
    assert turning <= BIDI
    for char in BIDI:
        assert visible(f"a{char}b") == f"a\\u{ord(char):04x}b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m"),
        ("\x1b]8;;http://x\x07click", "\\u001b]8;;http://x\\u0007click"),
        ("over\rwritten", "over\\u000dwritten"),
        ("\x9b2J", "\\u009b2J"),
        ("a\x00b\x7f", "a\\u0000b\\u007f"),
        ("in\u202evisible", "in\\u202evisible"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("half \ud83d", "half \\ud83d"),
        ("tag \U000e0041", "tag \\ue0041"),
        ("unassigned tag \U000e0fff", "unassigned tag \\ue0fff"),
        ("variation\ufe0f \U000e0101", "variation\\ufe0f \\ue0101"),
        ("no\u00a0break, wide\u3000, filler\u3164, braille\u2800", "no\\u00a0break, wide\\u3000, filler\\u3164, braille\\u2800"),
        ("line\u2028paragraph\u2029next\x85", "line\\u2028paragraph\\u2029next\\u0085"),
        ("a\ttab", "a\\ttab"),
        ("p\u0430yp\u0430l", "p\\u0430yp\\u0430l"),
        ("прa\u0432да", "пр\\u0061вда"),
        ("\u0391pple Οracle", "\\u0391pple \\u039fracle"),
        ("Δx, ΔT, μm, β-Test, правда, Ελλάδα, naïve", "Δx, ΔT, μm, β-Test, правда, Ελλάδα, naïve"),
        ("kept:\né 漢字 😀 <b>", "kept:\né 漢字 😀 <b>"),
        ("", ""),
    ],
)
def test_texts_as_they_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(text=st.text(max_size=30), width=st.integers(1, 30))
def test_a_long_text_is_cut_to_its_width_with_an_ellipsis_and_a_short_one_is_not(text: str, width: int) -> None:
    expected = visible(text) if len(text) <= width else visible(text[: width - 1]) + "…"
    assert visible(text, width) == expected


def test_a_name_is_one_line() -> None:
    assert one_line("a\nb\rc") == "a\\nb\\u000dc"


@given(
    value=st.recursive(
        st.one_of(st.text(), st.integers(), st.booleans(), st.none()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_ascii_without_controls_and_reads_back(value: object) -> None:
    text = json_text(value)
    assert text.isascii()
    assert all(char == "\n" or (char >= " " and char != "\x7f") for char in text)
    assert json.loads(text) == value
    shown = visible_values(value)
    assert json.loads(json_text(shown)) == shown


@pytest.mark.parametrize("text", ["##[warning]x", "a ##[add-mask]b", "##vso[task.setvariable variable=x]y", "##teamcity[x]"])
def test_json_holds_no_command_of_a_runner(text: str) -> None:
    assert "##" not in json_text({"a": text})
    assert json.loads(json_text({"a": text})) == {"a": text}
