"""Packed batches against the tree written out by brute force."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.model.batches.prefix_tree import Batch, attention_blocks, pack
from gradsentry.types import Encoded


def encoded(ids: list[int], row: int = 0) -> Encoded:
    return Encoded(row, ids, ids)


rows_lists = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=9).map(encoded), max_size=25)
budgets = st.sampled_from([1, 4, 10, 10_000])


def prefixes_of(batches: list[Batch]) -> list[dict[int, tuple[int, ...]]]:
    """For each batch, the tokens from the row's start up to each node, as the batches hand them on."""
    known: list[dict[int, tuple[int, ...]]] = []
    last: list[tuple[int, ...]] = []
    for batch in batches:
        nodes = dict(enumerate(last[: batch.carried]))
        for path in batch.paths:
            for position, node in enumerate(path.nodes.tolist()):
                before = nodes[int(path.nodes[position - 1])] if position else ()
                if node >= batch.carried:
                    assert batch.positions[node - batch.carried] == position
                    here = (*before, batch.input_ids[node - batch.carried])
                    assert nodes.setdefault(node, here) == here
                else:
                    assert nodes[node][:-1] == before
        known.append(nodes)
        last = [nodes[node] for node in batch.paths[-1].nodes.tolist()]
    return known


@settings(max_examples=150, deadline=None)
@given(rows=rows_lists, budget=budgets)
def test_every_token_of_the_tree_is_computed_once_and_every_row_finds_its_own(rows: list[Encoded], budget: int) -> None:
    batches = list(pack(rows, budget))
    tree = {tuple(row.input_ids[:n]) for row in rows for n in range(1, len(row.input_ids))}  # the last token is not needed
    assert sum(len(batch.input_ids) for batch in batches) == len(tree)
    assert sorted(path.member for batch in batches for path in batch.paths) == list(range(len(rows)))
    for batch, nodes in zip(batches, prefixes_of(batches), strict=True):
        for path in batch.paths:
            assert nodes[int(path.nodes[-1])] == tuple(rows[path.member].input_ids[:-1])


@given(rows=rows_lists, budget=budgets)
def test_a_batch_keeps_to_the_budget_unless_it_is_one_row(rows: list[Encoded], budget: int) -> None:
    for batch in pack(rows, budget):
        adding = [path for path in batch.paths if path.n_shared < len(path.nodes)]
        assert len(batch.input_ids) <= budget or len(adding) == 1


@settings(max_examples=150, deadline=None)
@given(rows=rows_lists, budget=budgets)
def test_stacks_cover_the_batch_and_show_each_token_its_own_beginning(rows: list[Encoded], budget: int) -> None:
    batches = list(pack(rows, budget))
    for batch, nodes in zip(batches, prefixes_of(batches), strict=True):
        queries: list[int] = []
        for stack in attention_blocks(batch):
            queries += stack.queries.tolist()
            assert len(set(stack.keys.tolist())) == len(stack.keys)
            for i, query in enumerate(stack.queries.tolist()):
                own = nodes[query]
                assert stack.query_positions[i] == len(own) - 1
                seen = sorted(nodes[key] for key in stack.keys[stack.visible[i]].tolist())
                assert seen == sorted(own[:n] for n in range(1, len(own) + 1))
            assert [len(nodes[key]) - 1 for key in stack.keys.tolist()] == stack.key_positions.tolist()
        assert sorted(queries) == [batch.carried + n for n in range(len(batch.input_ids))]


def test_short_rows_behind_a_long_beginning_stand_in_one_stack() -> None:
    rows = [encoded([1] * 100 + [2 + i, 3, 4], i) for i in range(20)]
    (batch,) = pack(rows, 1000)
    assert len(batch.input_ids) == 100 + 20 * 2
    first, second = attention_blocks(batch)
    assert (len(first.queries), len(first.keys)) == (102, 102)
    assert (len(second.queries), len(second.keys)) == (19 * 2, 102 + 18 * 2)


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="token_budget is 0"):
        list(pack([encoded([1, 2])], 0))
