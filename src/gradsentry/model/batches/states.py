"""Rows -> the states that enter the head where their tokens are predicted, batch by batch.

Two ways give the same states. Packed batches compute no token twice and no padding; they need a model whose attention goes
through transformers' attention interface. Padded batches, one row beside the other, work with any model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradsentry.model.batches.attention import Layers, packed_attention, tree_mask, using_mask
from gradsentry.model.batches.prefix_tree import Ints, pack
from gradsentry.model.forward import states_before_head
from gradsentry.tokens.labels import IGNORED
from gradsentry.types import Encoded


@dataclass(frozen=True)
class RowStates:
    """What enters the head for one row: each state is the one before the token that it predicts."""

    member: int
    """Index of the row in the list."""
    supervised: Tensor
    """[T, d] before the supervised tokens."""
    supervised_at: Ints
    """[T] positions of those tokens."""
    supervised_tokens: Tensor
    """[T] those tokens."""
    n_shared: int
    """Number of leading tokens shared with the previous row; their states were returned with that row."""
    unsupervised: Tensor
    """[M, d] before the other tokens that are neither shared nor first in the row (nothing predicts the first)."""
    unsupervised_at: Ints
    """[M] positions of those tokens."""
    unsupervised_tokens: Tensor
    """[M] those tokens."""


Batches = Iterator[list[RowStates]]


def states_in_batches(
    model: Any, rows: Sequence[Encoded], token_budget: int, packed: bool
) -> Iterator[tuple[list[Encoded], list[RowStates]]]:
    """Rows and their states, batch by batch, in the order in which they are computed.

    Args:
        packed: whether to pack the rows; only for a model that passes `checks.can_pack`.
    """
    states = packed_states if packed else padded_states
    for group in group_by_rope_length(model, rows):
        for batch in states(model, group, token_budget):
            yield [group[state.member] for state in batch], batch


def packed_states(model: Any, rows: Sequence[Encoded], token_budget: int) -> Batches:
    """States of rows in packed batches.

    Raises:
        NotPackable: the model's attention uses a feature that packed batches do not support.
    """
    layers: Layers = {}
    hidden = torch.empty(0)
    for batch, following in pairwise([*pack(rows, token_budget), None]):
        assert batch is not None  # only the last can be
        mask = tree_mask(batch, layers, following.carried if following else 0, model.device)
        ids, positions = (torch.tensor([values], device=model.device) for values in (batch.input_ids, batch.positions))
        with packed_attention(model), using_mask(mask):
            new = states_before_head(model, ids, position_ids=positions)[0]
        hidden = torch.cat([hidden[: batch.carried].to(new), new])
        yield [_row_states(path.member, rows[path.member], path.n_shared, hidden, path.nodes) for path in batch.paths]
        hidden, layers = hidden[mask.carry.to(new.device)], mask.kept


def padded_states(model: Any, rows: Sequence[Encoded], token_budget: int) -> Batches:
    """States of rows in padded batches of similar length.

    Padding is on the right, where no token of a causal model attends, so it needs no mask.
    """
    lengths = [len(row.input_ids) - 1 for row in rows]
    for members in bins(lengths, token_budget):
        ids = torch.zeros(len(members), max(lengths[i] for i in members), dtype=torch.long)
        for place, i in enumerate(members):
            ids[place, : lengths[i]] = torch.tensor(rows[i].input_ids[:-1])
        states = states_before_head(model, ids.to(model.device))
        yield [_row_states(i, rows[i], 0, states[place], np.arange(lengths[i])) for place, i in enumerate(members)]


def bins(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Row indices 0..n-1 grouped so that ``longest row x number of rows <= token_budget`` in every bin.

    The cost of a padded batch is its longest row times its number of rows, so rows are sorted by length to keep the
    padding small. A row longer than the budget gets a bin for itself. The longest rows come first, so that a batch too
    large for the device fails at the start.

    Raises:
        ValueError: a budget below 1.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; it must be at least 1")
    result: list[list[int]] = []
    longest = 0
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not result or longest * (len(result[-1]) + 1) > token_budget:
            result.append([])
            longest = lengths[position]
        result[-1].append(position)
    return result


def _row_states(member: int, row: Encoded, n_shared: int, hidden: Tensor, nodes: Ints) -> RowStates:
    """One row's states from those of a batch.

    Args:
        hidden: [N, d] states of the batch. nodes: [S] index in `hidden` of each of the row's tokens.
    """

    def before(positions: Ints) -> tuple[Tensor, Ints, Tensor]:
        states = hidden[torch.from_numpy(nodes[positions - 1]).to(hidden.device)]
        return states, positions, torch.from_numpy(tokens[positions]).to(hidden.device)

    tokens = np.asarray(row.input_ids, dtype=np.int64)
    supervised = np.flatnonzero(np.asarray(row.labels[1:]) != IGNORED) + 1
    return RowStates(member, *before(supervised), n_shared, *before(unsupervised_positions(row, n_shared)))


def unsupervised_positions(row: Encoded, n_shared: int) -> Ints:
    """[M] positions of the row's unsupervised tokens behind the first `n_shared`, without the row's first token."""
    start = max(1, n_shared)
    return np.flatnonzero(np.asarray(row.labels[start:]) == IGNORED) + start


def group_by_rope_length(model: Any, rows: Sequence[Encoded]) -> list[list[Encoded]]:
    """The rows in groups that may share a batch: LongRoPE chooses the rotation of a whole batch by its longest row."""
    rope: Any = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [kind for kind in rope.values() if isinstance(kind, dict)]
    lengths = {kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"}
    groups: dict[tuple[bool, ...], list[Encoded]] = {}
    for row in rows:
        groups.setdefault(tuple(len(row.input_ids) - 1 > length for length in sorted(lengths)), []).append(row)
    return list(groups.values())
