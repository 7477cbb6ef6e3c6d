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
from gradsentry.model.device import CPU, Sizes, to_device
from gradsentry.model.forward import states_before_head
from gradsentry.tokens.labels import IGNORED
from gradsentry.types import Encoded


@dataclass(frozen=True)
class Predicted:
    """Tokens of the rows of a batch, one row behind the other, and what enters the head before each of them."""

    states: Tensor
    """[N, d] each is the one before the token that it predicts."""
    tokens: Tensor
    """[N] those tokens."""
    positions: list[Ints]
    """For each row, the positions of its tokens in the row; they are N together."""

    @property
    def lengths(self) -> list[int]:
        """Number of tokens of each row."""
        return [len(part) for part in self.positions]

    def by_row(self) -> list[tuple[Tensor, Tensor]]:
        """The states and the tokens of each row: views."""
        return list(zip(self.states.split(self.lengths), self.tokens.split(self.lengths), strict=True))


@dataclass(frozen=True)
class BatchStates:
    """What enters the head for the rows of a batch."""

    members: list[int]
    """Index of each row in the list."""
    n_shared: list[int]
    """Number of leading tokens of each row shared with the previous row; their states were returned with that row."""
    supervised: Predicted
    """The supervised tokens."""
    unsupervised: Predicted
    """The other tokens that are neither shared nor first in the row (nothing predicts the first)."""


Batches = Iterator[BatchStates]


def states_in_batches(
    model: Any, rows: Sequence[Encoded], token_budget: int, packing: Sizes | None
) -> Iterator[tuple[list[Encoded], BatchStates]]:
    """Rows and their states, batch by batch, in the order in which they are computed.

    Args:
        packing: what `checks.pick_packing` found for the model; None pads the rows.
    """
    for group in group_by_rope_length(model, rows):
        batches = padded_states(model, group, token_budget) if packing is None else packed_states(model, group, token_budget, packing)
        for batch in batches:
            yield [group[member] for member in batch.members], batch


def packed_states(model: Any, rows: Sequence[Encoded], token_budget: int, sizes: Sizes = CPU) -> Batches:
    """States of rows in packed batches.

    Raises:
        NotPackable: the model's attention uses a feature that packed batches do not support.
    """
    layers: Layers = {}
    hidden = torch.empty(0)
    for batch, following in pairwise([*pack(rows, token_budget), None]):
        assert batch is not None  # only the last can be
        mask = tree_mask(batch, layers, following.carried if following else 0, model.device, sizes)
        ids, positions = to_device(np.array([batch.input_ids, batch.positions]), model.device).split(1)
        with packed_attention(model), using_mask(mask):
            new = states_before_head(model, ids, position_ids=positions)[0]
        hidden = torch.cat([hidden[: batch.carried].to(new), new])
        yield _batch_states([(path.member, path.n_shared, path.nodes) for path in batch.paths], rows, hidden)
        hidden, layers = hidden[mask.carry.to(new.device)], mask.kept


def padded_states(model: Any, rows: Sequence[Encoded], token_budget: int) -> Batches:
    """States of rows in padded batches of similar length.

    Padding is on the right, where no token of a causal model attends, so it needs no mask.
    """
    lengths = [len(row.input_ids) - 1 for row in rows]
    for members in bins(lengths, token_budget):
        longest = max(lengths[i] for i in members)
        ids = np.zeros((len(members), longest), dtype=np.int64)
        for place, i in enumerate(members):
            ids[place, : lengths[i]] = rows[i].input_ids[:-1]
        states = states_before_head(model, to_device(ids, model.device))
        parts = [(i, 0, place * longest + np.arange(lengths[i])) for place, i in enumerate(members)]
        yield _batch_states(parts, rows, states.flatten(0, 1))


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


def _batch_states(parts: Sequence[tuple[int, int, Ints]], rows: Sequence[Encoded], hidden: Tensor) -> BatchStates:
    """The states of a batch's rows.

    Args:
        parts: of each row its index, `BatchStates.n_shared`, and the [S] indices of its tokens in `hidden` [N, d].
    """

    def predicted(positions: list[Ints]) -> Predicted:
        before = np.concatenate([nodes[at - 1] for (_, _, nodes), at in zip(parts, positions, strict=True)])
        tokens = np.concatenate([ids[i][at] for (i, _, _), at in zip(parts, positions, strict=True)])
        at, wanted = to_device(np.stack([before, tokens]), hidden.device)
        return Predicted(hidden[at], wanted, positions)

    ids = {i: np.asarray(rows[i].input_ids, dtype=np.int64) for i, _, _ in parts}
    supervised = [np.flatnonzero(np.asarray(rows[i].labels[1:]) != IGNORED) + 1 for i, _, _ in parts]
    others = [unsupervised_positions(rows[i], n_shared) for i, n_shared, _ in parts]
    return BatchStates([i for i, _, _ in parts], [n_shared for _, n_shared, _ in parts], predicted(supervised), predicted(others))


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
