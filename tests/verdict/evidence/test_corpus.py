"""Words as numbers: n-grams against lists of words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.verdict.evidence import corpus as module
from gradsentry.verdict.evidence.corpus import NGrams, chunks, is_among, ngrams, once_per_row
from gradsentry.verdict.words import RowWords
from made_words import corpus, side

texts = st.lists(st.lists(st.sampled_from("ab"), max_size=6).map(" ".join), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(texts=texts, chunk=st.sampled_from([1, 7, 1000]))
def test_n_grams_are_those_of_the_words(texts: list[str], chunk: int) -> None:
    before, module.CHUNK_WORDS = module.CHUNK_WORDS, chunk
    try:
        column = corpus([RowWords(side(text, 2.0), side("")) for text in texts]).prompt
        runs = list(chunks(column))
        found = {n: [] for n in (1, 2, 3)}
        for first, stop in runs:
            for n, own in enumerate(ngrams(column, first, stop, 3), start=1):
                found[n] += zip(own.rows.tolist(), own.hashes.tolist(), own.surprise.tolist(), strict=True)
    finally:
        module.CHUNK_WORDS = before
    assert [row for first, stop in runs for row in range(first, stop)] == list(range(len(texts)))
    named: dict[int, tuple[str, ...]] = {}
    for n, own in found.items():
        expected = []
        for row, text in enumerate(texts):
            words = ["", *text.split(), ""]
            expected += [(row, tuple(words[i : i + n])) for i in range(len(words) - n + 1)]
        assert [row for row, _, _ in own] == [row for row, _ in expected]
        for (_, key, nats), (_, words) in zip(own, expected, strict=True):
            assert named.setdefault(key, words) == words  # equal hash, equal words
            assert nats == 2.0 * sum(bool(word) for word in words)
    assert len(set(named.values())) == len(named)  # equal words, equal hash


def test_rows_without_surprises_are_empty() -> None:
    made = corpus([None, RowWords(side("a"), side("b")), None])
    assert len(made) == 3
    assert made.prompt.starts.tolist() == [0, 0, 3, 3]
    assert list(chunks(made.prompt)) == [(0, 3)]
    assert len(corpus([None]).prompt.words) == 0


@pytest.mark.parametrize("word", ["", "a", "\udc80"])
def test_every_word_has_a_number_and_only_the_edge_has_none(word: str) -> None:
    assert (module.word_number(word) == 0) == (word == "")


def test_a_row_counts_once_with_its_highest_surprise() -> None:
    found = once_per_row(NGrams(np.array([1, 0, 1, 1]), np.array([5, 5, 5, 7], np.uint64), np.array([1, 2, 3, 4], np.float32)))
    assert list(zip(found.rows.tolist(), found.hashes.tolist(), found.surprise.tolist(), strict=True)) == [(0, 5, 2), (1, 5, 3), (1, 7, 4)]


@given(keys=st.sets(st.integers(0, 9)), hashes=st.lists(st.integers(0, 12)))
def test_among_is_membership(keys: set[int], hashes: list[int]) -> None:
    found = is_among(np.array(sorted(keys), np.uint64), np.array(hashes, np.uint64))
    assert found.tolist() == [one in keys for one in hashes]
