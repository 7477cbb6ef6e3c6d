"""Characters that nobody sees, and letters that look like others."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.report.unseen import is_unseen, look_alikes, named, pieces


@given(text=st.text(st.characters(), max_size=60))
def test_the_pieces_are_the_text_and_plain_ones_can_be_seen(text: str) -> None:
    found = list(pieces(text))
    assert "".join(piece.text for piece in found) == text
    assert all(not any(map(is_unseen, piece.text)) for piece in found if piece.kind != "unseen")
    assert all(all(map(is_unseen, piece.text)) and piece.name for piece in found if piece.kind == "unseen")
    assert not any(map(is_unseen, named(text)))


@given(text=st.text(st.characters(), max_size=60), start=st.integers(0, 60), stop=st.integers(0, 60))
def test_a_part_of_a_text_is_cut_as_the_whole_decides(text: str, start: int, stop: int) -> None:
    start, stop = sorted((min(start, len(text)), min(stop, len(text))))
    kinds = [piece.kind for piece in pieces(text) for _ in piece.text]
    assert [piece.kind for piece in pieces(text, start, stop) for _ in piece.text] == kinds[start:stop]


def test_every_space_but_the_usual_and_every_character_that_unicode_says_to_ignore_is_unseen() -> None:
    for i in range(sys.maxunicode + 1):
        char = chr(i)
        name = unicodedata.name(char, "")
        if unicodedata.category(char) in ("Zs", "Cf", "Zl", "Zp") and char != " ":
            assert is_unseen(char), name
        if name.startswith("VARIATION SELECTOR") or name in ("HANGUL FILLER", "HALFWIDTH HANGUL FILLER", "COMBINING GRAPHEME JOINER"):
            assert is_unseen(char), name
    assert not any(is_unseen(char) for char in " \n\taé漢😀ё")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200b\u200bb", "a[2 × zero width space U+200B]b"),
        ("a\u200b\u200cb", "a[zero width space U+200B][zero width non-joiner U+200C]b"),
        ("hi\U000e0068\U000e0069", "hi[2 tag characters that spell “hi”]"),
        ("hi\U000e0001", "hi[1 tag character]"),
        ("\u2764\ufe0f", "\u2764[variation selector 16]"),
        ("\x1b[2J\r\n", "[escape U+001B][2J[carriage return U+000D]\n"),
        ("\x85", "[U+0085]"),
        ("half \ud83d", "half [U+D83D]"),
        ("p\u0430ypal", "p\u0430[cyrillic small letter a U+0430]ypal"),
        ("kept:\n\té 漢字 😀 <b>", "kept:\n\té 漢字 😀 <b>"),
    ],
)
def test_texts_with_their_names(text: str, shown: str) -> None:
    assert named(text) == shown


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("Click p\u0430ypal now", "\u0430"),
        ("the \u0441\u043e\u0440 is here", "\u0441\u043e\u0440"),  # all Cyrillic, and nobody sees it
        ("He said привет to us", ""),
        ("Скажи cлово сейчас", "c"),  # a Latin letter in Russian text
        ("Он сказал: hello", ""),
        ("a \uff41\uff42 c", "\uff41\uff42"),
        ("a \U0001d41a c", "\U0001d41a"),
        ("α + β in English text", ""),
        ("naïve café Zürich", ""),
    ],
)
def test_letters_that_look_like_those_of_the_text(text: str, marked: str) -> None:
    assert "".join(text[place] for place in sorted(look_alikes(text))) == marked
