"""Bins hold every row once and keep to the budget."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.model.batches.states import bins

lengths_lists = st.lists(st.integers(0, 60), max_size=50)


@given(lengths=lengths_lists, budget=st.integers(1, 200))
def test_every_row_stands_in_exactly_one_bin(lengths: list[int], budget: int) -> None:
    assert sorted(position for group in bins(lengths, budget) for position in group) == list(range(len(lengths)))


@given(lengths=lengths_lists, budget=st.integers(1, 200))
def test_a_padded_bin_keeps_to_the_budget_unless_it_is_one_row(lengths: list[int], budget: int) -> None:
    for group in bins(lengths, budget):
        assert len(group) == 1 or max(lengths[i] for i in group) * len(group) <= budget


@given(lengths=lengths_lists, budget=st.integers(1, 200))
def test_longest_rows_come_first_and_a_bin_ends_only_when_the_next_row_does_not_fit(lengths: list[int], budget: int) -> None:
    groups = bins(lengths, budget)
    flat = [lengths[i] for group in groups for i in group]
    assert flat == sorted(lengths, reverse=True)
    for group in groups[:-1]:
        assert lengths[group[0]] * (len(group) + 1) > budget


@given(lengths=lengths_lists, budget=st.integers(1, 200))
def test_equal_lengths_keep_their_order_so_that_bins_never_vary(lengths: list[int], budget: int) -> None:
    flat = [i for group in bins(lengths, budget) for i in group]
    assert all(a < b for a, b in pairwise(flat) if lengths[a] == lengths[b])


def test_bins_of_a_small_example() -> None:
    assert bins([3, 10, 1, 4, 4], 8) == [[1], [3, 4], [0, 2]]
    assert bins([], 8) == []


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="token_budget is 0"):
        bins([1], 0)
