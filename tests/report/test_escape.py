"""What a stranger's text may do to a terminal or a page: nothing."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.report.escape import BIDI, visible

STEERING = {"Cc", "Cf", "Cs", "Co", "Cn"}


@given(text=st.text(st.characters(), max_size=60))
def test_no_steering_character_is_left_and_all_others_stay(text: str) -> None:
    shown = visible(text)
    assert all(char in "\n\t" or unicodedata.category(char) not in STEERING for char in shown)
    expected = "".join(c if c in "\n\t" or unicodedata.category(c) not in STEERING else "\\u" + format(ord(c), "x").zfill(4) for c in text)
    assert shown == expected


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
        ("kept:\n\té 漢字 😀 <b>", "kept:\n\té 漢字 😀 <b>"),
        ("", ""),
    ],
)
def test_texts_as_they_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(text=st.text(max_size=30), width=st.integers(1, 30))
def test_a_long_text_is_cut_to_its_width_with_an_ellipsis_and_a_short_one_is_not(text: str, width: int) -> None:
    expected = visible(text) if len(text) <= width else visible(text[: width - 1]) + "…"
    assert visible(text, width) == expected
