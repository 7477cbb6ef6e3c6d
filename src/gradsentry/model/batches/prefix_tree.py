"""Rows -> batches in which no token is computed twice: rows that begin alike share their beginning, exactly.

Rows of one data set often begin with the same instruction, or several questions stand on one passage. What a causal
model computes for a token depends only on the tokens before it, so rows that agree up to some token agree in all that is
computed there. In lexicographic order the rows are the paths of a tree, and what a row adds to the tree stands behind
what it has in common with the row before. A batch is the next piece of that walk, without padding; what it needs of an
earlier batch lies on the path of that batch's last row and is carried over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradsentry.types import Encoded

Ints = NDArray[np.int64]


SKIPPED = 512
"""Keys from which causal kernels skip what is hidden: torch's takes them in blocks of 512 on a CPU (its FlashAttentionKernel.cpp), so
that a shorter row leaves it nothing to skip. `benchmarks/attention_ways.py` times both ways by length."""


@dataclass(frozen=True)
class Path:
    """One row of a batch. The last token of a row predicts nothing and is never computed."""

    member: int
    """Position of the row in the list that was packed."""
    own: int
    """Tokens of the row that stood in the tree before it: it adds those from this position on."""
    nodes: Ints
    """[S] where the states of its tokens stand: below `Batch.carried` in what was carried over, else in this batch."""


@dataclass(frozen=True)
class Batch:
    """A piece of the tree: N tokens that are computed together."""

    carried: int
    """P, tokens whose states come from the batch before: the beginning of its last row."""
    input_ids: list[int]
    """[N] the new tokens; token n has node P + n."""
    positions: list[int]
    """[N] position of each in its row."""
    paths: list[Path] = field(default_factory=list)
    """The rows that end in this batch, in lexicographic order."""


def _common(a: list[int], b: list[int], limit: int) -> int:
    """Length of the common prefix, at most `limit`."""
    if a[:limit] == b[:limit]:
        return limit
    differ = np.asarray(a[:limit]) != np.asarray(b[:limit])
    return int(np.argmax(differ))


def pack(rows: Sequence[Encoded], token_budget: int) -> Iterator[Batch]:
    """Walk through the tree of the rows in batches of at most `token_budget` new tokens, or one row.

    Raises:
        ValueError: a budget below 1.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; it must be at least 1")
    order = sorted(range(len(rows)), key=lambda i: rows[i].input_ids)
    batch = Batch(0, [], [])
    before: list[int] = []
    nodes = np.empty(0, dtype=np.int64)
    for member in order:
        ids = rows[member].input_ids
        length = len(ids) - 1
        own = _common(before, ids, min(len(before), length))
        if batch.paths and own < length and len(batch.input_ids) + length - own > token_budget:
            yield batch
            batch, nodes = Batch(own, [], []), np.arange(own, dtype=np.int64)
        new = batch.carried + len(batch.input_ids)
        nodes = np.concatenate([nodes[:own], np.arange(new, new + length - own)])
        batch.input_ids.extend(ids[own:length])
        batch.positions.extend(range(own, length))
        batch.paths.append(Path(member, own, nodes))
        before = ids[:length]
    if batch.paths:
        yield batch


@dataclass(frozen=True)
class Stack:
    """Neighbouring rows whose tokens attend together; rows with little of their own behind a long common beginning
    stand in one stack, so that the beginning is gathered once and not for each of them."""

    queries: Ints
    """[Q] nodes that the rows add."""
    keys: Ints
    """[K] nodes of all their paths."""
    query_positions: Ints
    """[Q] position of each query in its row."""
    key_positions: Ints
    """[K] position of each key in its row."""
    members: list[Path]
    """The rows, in order."""

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """[Q, K] whether the key stands on the query's path, at or before it. Made where it is asked for: a long row has no need of it."""
        seen = np.zeros((len(self.queries), len(self.keys)), dtype=bool)
        start = 0
        for member in self.members:
            stop = start + len(member.nodes) - member.own
            on_path = np.isin(self.keys, member.nodes, assume_unique=True)
            seen[start:stop] = on_path & (self.key_positions <= self.query_positions[start:stop, None])
            start = stop
        return seen

    @property
    def causal(self) -> bool:
        """Whether the plain causal mask over all of its keys does.

        It does for one row that shares nothing. It also does for a long one behind a shorter shared beginning, when queries
        for that beginning are put in front and their results thrown away: attention kernels skip the upper half of a causal
        mask, block by block, and compute all of any other.
        """
        if len(self.queries) == len(self.keys):
            return True
        return SKIPPED <= len(self.keys) < 2 * len(self.queries) and len(self.members[-1].nodes) == len(self.keys)


def stacks(batch: Batch) -> Iterator[Stack]:
    """Cut a batch's rows into stacks: a stack grows while what its rows add is less than what they have in common."""
    group: list[Path] = []
    for path in batch.paths:
        common = min([member.own for member in group[1:]] + [path.own])
        added = sum(len(member.nodes) - member.own for member in group) + len(path.nodes) - path.own
        if group and added > common:
            yield _stack(group)
            group = []
        group.append(path)
    if group:
        yield _stack(group)


def _stack(group: list[Path]) -> Stack:
    first = group[0]
    added = [np.arange(member.own, len(member.nodes)) for member in group]
    keys = np.concatenate([first.nodes, *(member.nodes[member.own :] for member in group[1:])])
    key_positions = np.concatenate([np.arange(len(first.nodes)), *added[1:]])
    queries = np.concatenate([member.nodes[member.own :] for member in group])
    query_positions = np.concatenate(added)
    return Stack(queries, keys, query_positions, key_positions, group)
