"""Packed states against the model's own forward pass on each row alone, for several architectures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from gradsentry.model.batches.states import Batches, group_by_rope_length, packed_states, padded_states
from gradsentry.model.checks import can_pack
from gradsentry.model.device import CPU
from gradsentry.types import Encoded
from tiny import MODELS, SMALL, SPECIAL, made


def encoded(row: int, ids: list[int], prompt: int) -> Encoded:
    return Encoded(row, ids, [-100] * prompt + ids[prompt:])


def rows() -> list[Encoded]:
    """Questions on three passages, rows that share nothing, rows that are the same, one of two tokens."""
    generator = torch.Generator().manual_seed(0)

    def tokens(n: int) -> list[int]:
        return torch.randint(3, 400, (n,), generator=generator).tolist()

    passages = [tokens(n) for n in (12, 40, 31)]
    made = [encoded(i, passages[i % 3] + tokens(4 + i % 5), len(passages[i % 3]) + 2) for i in range(12)]
    made += [encoded(12 + i, tokens(10 + 7 * i), 3) for i in range(4)]
    made += [encoded(16, made[1].input_ids, 5), encoded(17, made[1].input_ids, 1), encoded(18, tokens(2), 1)]
    return made


def by_row(batches: Batches) -> dict[int, torch.Tensor]:
    return {i: states for batch in batches for i, (states, _) in zip(batch.members, batch.supervised.by_row(), strict=True)}


def alone(model: PreTrainedModel, row: Encoded) -> torch.Tensor:
    states = model(input_ids=torch.tensor([row.input_ids]), output_hidden_states=True, use_cache=False).hidden_states[-1][0]
    return states[:-1][torch.tensor(row.labels[1:]) != -100]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("budget", [1, 60, 10_000])
@pytest.mark.parametrize("states", [packed_states, padded_states])
def test_states_equal_those_of_the_row_alone(name: str, budget: int, states: object) -> None:
    model = made(name, torch.float64)
    assert can_pack(model)
    found = by_row(states(model, rows(), budget))  # pyright: ignore
    assert sorted(found) == list(range(len(rows())))
    for i, row in enumerate(rows()):
        # The cosines of rotary positions are float32 whatever the model is.
        torch.testing.assert_close(found[i].double(), alone(model, row).detach(), rtol=1e-5, atol=2e-6)


def test_small_groups_change_nothing() -> None:
    model = made("llama", torch.float32)
    expected = by_row(packed_states(model, rows(), 10_000))
    for i, states in by_row(packed_states(model, rows(), 10_000, replace(CPU, gathered_keys=1))).items():
        torch.testing.assert_close(states, expected[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_packs_too(name: str) -> None:
    model = made(name, torch.bfloat16)
    assert can_pack(model)
    found, expected = by_row(packed_states(model, rows(), 60)), by_row(padded_states(model, rows(), 60))
    for i, states in expected.items():
        assert float((found[i] - states).norm() / states.norm()) < 0.02


def test_the_models_own_attention_is_put_back() -> None:
    model = made("llama", torch.float32)
    before = model.config._attn_implementation
    for _ in packed_states(model, rows(), 30):
        assert model.config._attn_implementation == before  # also between batches: the model may be in use elsewhere
    assert model.config._attn_implementation == before


def longrope() -> PreTrainedModel:
    """Phi-3 with a context that LongRoPE stretches beyond 30 tokens; its positions matter."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 16.0, 64.0]}
    rope |= {"original_max_position_embeddings": 30, "factor": 8.0}
    torch.manual_seed(0)
    sizes: Any = SMALL | SPECIAL | {"vocab_size": 400, "max_position_embeddings": 240, "original_max_position_embeddings": 30}
    model = Phi3ForCausalLM(Phi3Config(rope_parameters=rope, **sizes)).eval().double()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(8)
    return model


@pytest.mark.parametrize("states", [packed_states, padded_states])
@pytest.mark.parametrize("budget", [60, 10_000])
def test_where_the_longest_row_turns_all_positions_rows_on_either_side_are_apart(states: Any, budget: int) -> None:
    model = longrope()
    every = rows()
    groups = group_by_rope_length(model, every)
    assert [{len(row.input_ids) - 1 > 30 for row in group} for group in groups] in ([{False}, {True}], [{True}, {False}])
    assert sorted(row.row for group in groups for row in group) == list(range(len(every)))
    expected = {row.row: by_row(padded_states(model, [row], 1))[0] for row in every}
    for group in groups:
        for i, found in by_row(states(model, group, budget)).items():
            torch.testing.assert_close(found, expected[group[i].row], rtol=1e-4, atol=1e-4)
    mixed = by_row(states(model, every, 10_000))
    assert any(not torch.allclose(mixed[i], expected[i], rtol=1e-2, atol=1e-2) for i in expected), "or nothing is tested"
    assert group_by_rope_length(made("llama"), every) == [every]
