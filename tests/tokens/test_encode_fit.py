"""What the cut of a row that is longer than the context keeps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gradsentry.tokens.encode import fit
from gradsentry.tokens.labels import IGNORED, Ids


@st.composite
def rows(draw: st.DrawFn) -> tuple[Ids, int | None]:
    """A row that `encode` can give: a supervised token somewhere behind the first one; and the BOS, or None."""
    n = draw(st.integers(2, 30))
    marks = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda marks: any(marks[1:])))
    bos = draw(st.sampled_from([None, 1, 99]))
    ids = [1, *range(100, 99 + n)]  # all different, so that a token tells its old place
    return (ids, [token if mark else IGNORED for token, mark in zip(ids, marks, strict=True)]), bos


@given(row=rows(), max_length=st.integers(2, 35))
def test_a_cut_row_is_as_long_as_can_be_and_its_tokens_keep_their_order_and_labels(row: tuple[Ids, int | None], max_length: int) -> None:
    (ids, labels), bos = row
    (new_ids, new_labels), *_ = fit((ids, labels), max_length, bos)
    assert len(new_ids) == len(new_labels) == min(len(ids), max_length)
    old = dict(zip(ids, labels, strict=True))
    assert new_ids == [token for token in ids if token in set(new_ids)]
    assert new_labels == [old[token] for token in new_ids]


@given(row=rows(), max_length=st.integers(2, 35))
def test_a_note_is_written_if_and_only_if_something_was_cut(row: tuple[Ids, int | None], max_length: int) -> None:
    ids, bos = row
    cut, n_cut, note = fit(ids, max_length, bos)
    assert bool(note) == (cut != ids) == (len(ids[0]) > max_length)
    assert sum(int(word) for word in note.partition(":")[2].split() if word.isdigit()) == n_cut == len(ids[0]) - len(cut[0])


@given(row=rows(), max_length=st.integers(2, 35))
def test_a_leading_bos_stays(row: tuple[Ids, int | None], max_length: int) -> None:
    (ids, labels), bos = row
    (new_ids, _), *_ = fit((ids, labels), max_length, bos)
    if bos == ids[0]:
        assert new_ids[0] == bos


@given(row=rows(), max_length=st.integers(2, 35))
def test_the_answer_is_cut_only_when_one_token_of_the_prompt_is_left_and_never_whole(row: tuple[Ids, int | None], max_length: int) -> None:
    (ids, labels), bos = row
    first = next(i for i, label in enumerate(labels) if i and label != IGNORED)
    (new_ids, new_labels), *_ = fit((ids, labels), max_length, bos)
    assert any(label != IGNORED for label in new_labels[1:])
    kept = [token for token in new_ids if token in set(ids[first:])]
    assert kept == ids[first:][: max_length - 1], "the answer has the length to itself but for one token"


def test_a_prompt_is_cut_from_the_left_then_the_answer_from_the_right() -> None:
    row = ([1, 11, 12, 13, 21, 22, 23], [IGNORED] * 4 + [21, 22, 23])
    assert fit(row, 7, 1) == (row, 0, "")
    assert fit(row, 5, 1)[0] == ([1, 13, 21, 22, 23], [IGNORED, IGNORED, 21, 22, 23])
    assert fit(row, 5, None)[0] == ([12, 13, 21, 22, 23], [IGNORED, IGNORED, 21, 22, 23])
    assert fit(row, 4, 1)[0] == ([1, 21, 22, 23], [IGNORED, 21, 22, 23])
    assert fit(row, 4, None)[0] == ([13, 21, 22, 23], [IGNORED, 21, 22, 23])
    (ids, labels), n_cut, note = fit(row, 2, 1)
    assert n_cut == 5
    assert (ids, labels) == ([1, 21], [IGNORED, 21])
    assert note == "longer than 2 tokens: 3 tokens cut from the prompt's left and 2 tokens cut from the completion's end"


def test_where_everything_is_supervised_only_the_end_is_cut() -> None:
    ids = list(range(10))
    assert fit((ids, ids), 4, None) == (([0, 1, 2, 3], [0, 1, 2, 3]), 6, "longer than 4 tokens: 6 tokens cut from the completion's end")
