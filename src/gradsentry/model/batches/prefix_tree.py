"""Rows -> packed batches: rows with a common prefix share it, so that no token is computed twice.

Rows of one data set often begin with the same instruction, or ask several questions about one passage. A causal model's
state at a token depends on the earlier tokens only, so rows with the same prefix have the same states there. Sorted
lexicographically, the rows are the paths of a prefix tree, and each row adds what follows its common prefix with the
previous row. A batch is the next part of a walk through this tree, without padding. What it needs from earlier batches
lies on the path of the previous batch's last row, and is carried over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradsentry.types import Encoded

Ints = NDArray[np.int64]


CAUSAL_KERNEL_BLOCK_KEYS = 512
"""Keys in one block of torch's causal attention kernel on a CPU (FlashAttentionKernel.cpp). The kernel skips blocks that are masked
throughout, so it saves nothing on fewer keys. `benchmarks/attention_ways.py` times both kernels by length."""


@dataclass(frozen=True)
class RowPath:
    """The path of one row through the tree. A row's last token predicts nothing and is not part of it: S tokens without that one."""

    member: int
    """Index of the row in the list that was packed."""
    n_shared: int
    """Number of leading tokens that earlier rows have put into the tree; the row adds the tokens after those."""
    nodes: Ints
    """[S] node of each token: below `Batch.carried` for states carried over from the previous batch, else in this batch."""


@dataclass(frozen=True)
class Batch:
    """A part of the tree: N tokens that are computed together."""

    carried: int
    """P, number of tokens whose states come from the previous batch: the first P of its last row."""
    input_ids: list[int]
    """[N] the new tokens; token n has node P + n."""
    positions: list[int]
    """[N] position of each new token in its row."""
    paths: list[RowPath] = field(default_factory=list)
    """The rows that end in this batch, in lexicographic order."""


def pack(rows: Sequence[Encoded], token_budget: int) -> Iterator[Batch]:
    """Walk through the prefix tree of the rows in batches of at most `token_budget` new tokens, or of one row.

    Raises:
        ValueError: a budget below 1.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; it must be at least 1")
    batch = Batch(0, [], [])
    previous: list[int] = []
    nodes = np.empty(0, dtype=np.int64)
    for member in sorted(range(len(rows)), key=lambda i: rows[i].input_ids):
        ids = rows[member].input_ids
        length = len(ids) - 1
        shared = min(len(previous), length)
        if previous[:shared] != ids[:shared]:
            shared = int(np.argmax(np.asarray(previous[:shared]) != np.asarray(ids[:shared])))
        if batch.paths and shared < length and len(batch.input_ids) + length - shared > token_budget:
            yield batch
            batch, nodes = Batch(shared, [], []), np.arange(shared, dtype=np.int64)
        new = batch.carried + len(batch.input_ids)
        nodes = np.concatenate([nodes[:shared], np.arange(new, new + length - shared)])
        batch.input_ids.extend(ids[shared:length])
        batch.positions.extend(range(shared, length))
        batch.paths.append(RowPath(member, shared, nodes))
        previous = ids[:length]
    if batch.paths:
        yield batch


@dataclass(frozen=True)
class AttentionBlock:
    """Adjacent rows whose tokens attend in one call. Rows that add little to a long common prefix share a block, so that the
    prefix is gathered once and not for each row."""

    queries: Ints
    """[Q] nodes that the rows add."""
    keys: Ints
    """[K] nodes on the paths of the rows."""
    query_positions: Ints
    """[Q] position of each query in its row."""
    key_positions: Ints
    """[K] position of each key in its row."""
    members: list[RowPath]
    """The rows, in order."""

    @property
    def visible(self) -> NDArray[np.bool_]:
        """[Q, K] whether the key lies on the query's path, at or before it. Computed on demand: a long row does not need it."""
        visible = np.zeros((len(self.queries), len(self.keys)), dtype=bool)
        start = 0
        for member in self.members:
            stop = start + len(member.nodes) - member.n_shared
            on_path = np.isin(self.keys, member.nodes, assume_unique=True)
            visible[start:stop] = on_path & (self.key_positions <= self.query_positions[start:stop, None])
            start = stop
        return visible

    @property
    def causal(self) -> bool:
        """Whether the block uses the plain causal mask over all of its keys.

        That mask is right for one row without a shared prefix. It is also right for a long row with a shorter shared prefix,
        if queries for the prefix are added and their results are dropped. The extra queries cost less than another mask:
        attention kernels skip the upper half of a causal mask, block by block, but compute all of any other mask.
        """
        if len(self.queries) == len(self.keys):
            return True
        return CAUSAL_KERNEL_BLOCK_KEYS <= len(self.keys) < 2 * len(self.queries) and len(self.members[-1].nodes) == len(self.keys)


def attention_blocks(batch: Batch) -> Iterator[AttentionBlock]:
    """Cut a batch's rows into blocks: a block grows while its rows add fewer tokens than they have in common."""
    groups: list[list[RowPath]] = []
    for path in batch.paths:
        group = groups[-1] if groups else []
        common = min([member.n_shared for member in group[1:]] + [path.n_shared])
        added = sum(len(member.nodes) - member.n_shared for member in [*group, path])
        if not group or added > common:
            groups.append([path])
        else:
            group.append(path)
    for group in groups:
        nodes = [member.nodes[member.n_shared :] for member in group]
        positions = [np.arange(member.n_shared, len(member.nodes)) for member in group]
        keys = np.concatenate([group[0].nodes, *nodes[1:]])
        key_positions = np.concatenate([np.arange(len(group[0].nodes)), *positions[1:]])
        yield AttentionBlock(np.concatenate(nodes), keys, np.concatenate(positions), key_positions, group)
