"""Rows -> the states before the head where their tokens are predicted, batch by batch.

Two ways to the same states: packed, which computes no token twice and no padding, for models whose attention goes
through transformers' attention interface; and padded, row beside row, for all others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradsentry.errors import ModelError
from gradsentry.model.batches.attention import Layers, NotPackable, packed_attention, seen_through, view
from gradsentry.model.batches.padded import bins
from gradsentry.model.batches.prefix_tree import Batch, Ints, pack
from gradsentry.model.forward import states_before_head, takes_positions
from gradsentry.tokens.labels import IGNORED
from gradsentry.types import Encoded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowStates:
    """What enters the head for one row, each state at the position before the token that it predicts."""

    member: int
    """Position of the row in the list."""
    supervised: Tensor
    """[T, d] before the supervised tokens."""
    supervised_at: Ints
    """[T] positions of those tokens."""
    shared: int
    """The row begins with so many tokens of the row before it: what predicts those was handed out there."""
    others: Tensor
    """[M, d] before the unsupervised tokens after those, the first token of all excepted: nothing predicts it."""
    others_at: Ints
    """[M] positions of those tokens."""


Batches = Iterator[list[RowStates]]


def supervised(row: Encoded) -> Ints:
    """[T] positions of the supervised tokens that have a position before them."""
    return np.flatnonzero(np.asarray(row.labels[1:]) != IGNORED) + 1


def others(row: Encoded, shared: int) -> Ints:
    """[M] positions of the unsupervised tokens after the first `shared`."""
    start = max(1, shared)
    return np.flatnonzero(np.asarray(row.labels[start:]) == IGNORED) + start


def packed_states(model: Any, rows: Sequence[Encoded], token_budget: int) -> Batches:
    """States of rows, packed.

    Raises:
        NotPackable: the model's attention has something that a packed batch has not.
    """
    layers: Layers = {}
    hidden = torch.empty(0)
    for batch, after in pairwise([*pack(rows, token_budget), None]):
        assert batch is not None  # only the last can be
        carry = after.carried if after else 0
        current = view(batch, layers, carry, model.device)
        new = _new_states(model, batch, current)
        hidden = torch.cat([hidden[: batch.carried].to(new), new])
        yield [_row_states(path.member, rows[path.member], path.own, hidden, path.nodes) for path in batch.paths]
        hidden, layers = hidden[current.carry.to(new.device)], current.kept


def _row_states(member: int, row: Encoded, shared: int, hidden: Tensor, nodes: Ints) -> RowStates:
    """One row's states out of a batch's.

    Args:
        hidden: [N, d]. nodes: [S] where those of the row's tokens stand in it.
    """

    def before(positions: Ints) -> Tensor:
        return hidden[torch.from_numpy(nodes[positions - 1]).to(hidden.device)]

    mine, rest = supervised(row), others(row, shared)
    return RowStates(member, before(mine), mine, shared, before(rest), rest)


def _new_states(model: Any, batch: Batch, current: Any) -> Tensor:
    """[N, d] states of the batch's new tokens."""
    ids, positions = (torch.tensor([values], device=model.device) for values in (batch.input_ids, batch.positions))
    with packed_attention(model), seen_through(current):
        return states_before_head(model, ids, position_ids=positions)[0]


def padded_batches(model: Any, rows: Sequence[Encoded], token_budget: int) -> Batches:
    """States of rows in padded batches of like length.

    Padding stands on the right, where no token of a causal model looks: it needs no mask.
    """
    lengths = [len(row.input_ids) - 1 for row in rows]
    for members in bins(lengths, token_budget):
        ids = torch.zeros(len(members), max(lengths[i] for i in members), dtype=torch.long)
        for place, i in enumerate(members):
            ids[place, : lengths[i]] = torch.tensor(rows[i].input_ids[:-1])
        states = states_before_head(model, ids.to(model.device))
        yield [_row_states(i, rows[i], 0, states[place], np.arange(lengths[i])) for place, i in enumerate(members)]


def apart(model: Any, rows: Sequence[Encoded]) -> list[list[Encoded]]:
    """The rows in groups that may be computed together: LongRoPE turns the positions of a whole pass by its longest row."""
    rope: Any = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [kind for kind in rope.values() if isinstance(kind, dict)]
    lengths = {kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"}
    groups: dict[tuple[bool, ...], list[Encoded]] = {}
    for row in rows:
        groups.setdefault(tuple(len(row.input_ids) - 1 > length for length in sorted(lengths)), []).append(row)
    return list(groups.values())


STANDARD = {"full_attention", "sliding_attention"}
"""Kinds of layer that a packed batch knows, as configurations name them."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Largest difference of a state, as a share of its norm, that is put down to rounding."""


def packs(model: Any) -> bool:
    """Whether packed batches give this model's states, found out by trying: a few short rows both ways.

    What a model does in its attention cannot be told from its configuration alone, and a wrong guess would be a wrong score.
    """
    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or STANDARD)
    if not (takes_positions(model) and kinds <= STANDARD and model._can_set_attn_implementation()):
        return False
    rows = _trial_rows(text.vocab_size)
    try:
        packed = {row.member: row.supervised for batch in packed_states(model, rows, 16) for row in batch}
    except (NotPackable, ModelError, RuntimeError, TypeError, ValueError, LookupError) as error:
        log.debug("rows are padded, not packed: %s", error)
        return False
    alone = [next(padded_batches(model, [row], 1))[0].supervised for row in rows]
    worst = max(float(((packed[i] - states).norm(dim=-1) / states.norm(dim=-1)).max()) for i, states in enumerate(alone))
    log.debug("packed and padded states differ by %.1e", worst)
    return worst <= TOLERANCE[model.dtype]


def _trial_rows(vocabulary: int) -> list[Encoded]:
    """Rows that share much, little and nothing, over two batches."""
    token = [(7 * i * i + 3 * i + 1) % vocabulary for i in range(40)]
    ids = [token[:12], [*token[:9], *token[20:24]], [*token[:9], *token[30:36]], token[24:30], token[:12]]
    return [Encoded(i, row, row) for i, row in enumerate(ids)]
