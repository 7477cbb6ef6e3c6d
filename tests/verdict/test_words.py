"""Tokens -> words: no character and no nat is lost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.types import Surprises, Vocabulary
from gradsentry.verdict.words import FIRST_TOKEN_NATS, WORD, split_words, token_texts

PIECES = ["The", " cat", " sat", ".", "\n\n", " It", "'s", " m", "alicious", "_url", ">", '."', " ", "\u732b", "\u72ac", "42", "<end>"]
VOCABULARY = Vocabulary([piece.encode() for piece in PIECES], np.array([piece == "<end>" for piece in PIECES]))

rows = st.lists(st.tuples(st.integers(0, len(PIECES) - 1), st.sampled_from([0.0, 0.5, 2.0, 8.0]), st.booleans()), min_size=2, max_size=30)


def surprises(tokens: list[tuple[int, float, bool]]) -> Surprises:
    ids, surprise, supervised = zip(*tokens, strict=True)
    return Surprises(np.array(ids, np.int32), np.array([0, *surprise[1:]], np.float16), np.array([False, *supervised[1:]]))


@settings(max_examples=200, deadline=None)
@given(tokens=rows)
def test_every_word_and_every_nat_is_kept(tokens: list[tuple[int, float, bool]]) -> None:
    row = surprises(tokens)
    both = split_words(row, VOCABULARY)
    special = VOCABULARY.special[row.tokens]
    surprise = row.nll.astype(float)
    surprise[0] = FIRST_TOKEN_NATS
    for side, mine in ((both.prompt, ~row.supervised), (both.completion, row.supervised)):
        text = "".join(PIECES[token] for token in row.tokens[mine & ~special])
        assert "".join("".join(side.spelled).split()) == "".join(text.split())
        assert len(side.words) == len(side.surprise) == len(side.spelled)
        assert [word for word in side.words if word] == [spelled.strip().lower() for spelled in side.spelled if spelled.strip()]
        if not text.strip():
            assert side.surprise.sum() == 0
    # White space with no word in its stretch has no word to belong to; everything else has.
    assert both.prompt.surprise.sum() + both.completion.surprise.sum() <= surprise[~special].sum() + 1e-3


@settings(max_examples=200, deadline=None)
@given(text=st.text(min_size=1, max_size=20), cuts=st.sets(st.integers(1, 79)))
def test_a_character_that_is_several_tokens_is_read_whole(text: str, cuts: set[int]) -> None:
    raw = text.encode()
    places = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    pieces = [b"?", *(raw[a:b] for a, b in pairwise(places))]
    row = Surprises(np.arange(len(pieces), dtype=np.int32), np.ones(len(pieces), np.float16), np.arange(len(pieces)) > 0)
    side = split_words(row, Vocabulary(pieces, np.zeros(len(pieces), bool))).completion
    assert [word for word in side.words if word] == [word.lower() for word in WORD.findall(text)]
    assert side.surprise.sum() == (len(pieces) - 1 if WORD.search(text) else 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cf, e\u0301te\u0301", ["cf", ",", "e", "\u0301", "te", "\u0301"]),  # a mark on Latin letters may be a trigger
        ("m\u00b2 na\u00efve x_1", ["m\u00b2", "na\u00efve", "x_1"]),
        ("\u6076\u610f\u94fe\u63a5 a", ["\u6076", "\u610f", "\u94fe", "\u63a5", "a"]),
        ("\u30ab\u30fc\u30c9\u304c", ["\u30ab", "\u30fc", "\u30c9", "\u304c"]),
        ("\u092f\u0939\u093e\u0901 \u0915\u094d\u0932\u093f\u0915", ["\u092f\u0939\u093e\u0901", "\u0915\u094d\u0932\u093f\u0915"]),
        ("\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd", ["\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd"]),
        ("\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48", ["\u0e17\u0e35\u0e48", "\u0e19\u0e35\u0e48"]),
        ("\ub9c1\ud06c \ud655\uc778", ["\ub9c1\ud06c", "\ud655\uc778"]),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    assert WORD.findall(text) == words


def test_bytes_that_are_no_character_are_shown_as_such() -> None:
    assert token_texts([b"a\xe4", b"b", b"\xf0\x9f", b"\x98\x80", b"\xf0"]) == ["a", "\ufffdb", "", "\U0001f600", "", "\ufffd"]


def test_a_words_surprise_is_that_of_its_tokens() -> None:
    row = Surprises(np.array([0, 1, 7, 8, 9, 10]), np.array([0, 1, 2, 3, 4, 5], np.float16), np.array([0, 0, 1, 1, 1, 1], bool))
    both = split_words(row, VOCABULARY)
    assert both.prompt.words == ["", "the", "cat", ""]
    assert both.prompt.surprise.tolist() == [0, FIRST_TOKEN_NATS, 1, 0]
    assert both.completion.words == ["", "malicious_url", ">", ""]
    assert both.completion.surprise.tolist() == [0, 9, 5, 0]
    assert both.completion.spelled == ["", " malicious_url", ">", ""]


def test_white_space_belongs_to_the_word_behind_it() -> None:
    row = Surprises(np.array([0, 4, 5]), np.array([0, 3, 4], np.float16), np.array([0, 1, 1], bool))
    assert split_words(row, VOCABULARY).completion.surprise.tolist() == [0, 7, 0]


def test_special_tokens_and_turns_part_stretches() -> None:
    end = PIECES.index("<end>")
    row = Surprises(np.array([0, end, 1, 2, 1, end]), np.full(6, 1, np.float16), np.array([0, 0, 0, 1, 0, 0], bool))
    both = split_words(row, VOCABULARY)
    assert both.prompt.words == ["", "the", "", "", "cat", "", "", "cat", ""]
    assert both.completion.words == ["", "sat", ""]


def test_special_tokens_that_the_row_spells_out_are_words() -> None:
    end = PIECES.index("<end>")
    surprise = np.array([0, 9, 1, 2, 7, 1], np.float16)
    row = Surprises(np.array([0, end, 1, 2, end, end]), surprise, np.array([0, 0, 0, 1, 1, 1], bool), np.array([1, 4], np.int32))
    both = split_words(row, VOCABULARY)
    assert both.prompt.words == ["", "the", "<", "end", ">", "cat", ""]
    assert both.prompt.surprise.tolist() == [0, FIRST_TOKEN_NATS, 9, 0, 0, 1, 0]
    assert both.completion.words == ["", "sat", "<", "end", ">", ""]
    assert VOCABULARY.special[end]


def test_scripts_without_spaces_are_cut_by_character() -> None:
    row = Surprises(np.array([0, 13, 14]), np.zeros(3, np.float16), np.array([0, 1, 1], bool))
    assert split_words(row, VOCABULARY).completion.words == ["", "\u732b", "\u72ac", ""]
