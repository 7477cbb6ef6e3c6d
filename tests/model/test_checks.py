"""Trials of a model: is it causal, and can its rows be packed."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    PreTrainedModel,
)

from gradsentry.model import checks
from gradsentry.model.checks import can_pack
from tiny import MODELS, SMALL, SPECIAL, made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_no_state_of_a_causal_model_sees_ahead(name: str, dtype: torch.dtype) -> None:
    assert checks.change_by_later_token(made(name, dtype)) < 1e-6


def test_a_bidirectional_models_states_see_ahead() -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    assert checks.change_by_later_token(BertLMHeadModel(config).eval()) > 1e-3


def bloom() -> PreTrainedModel:
    """No explicit positions: ALiBi counts them over the padded batch."""
    return BloomForCausalLM(BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4))


def chunked() -> PreTrainedModel:
    """A configuration that names a kind of attention that packed batches do not know."""
    config = LlamaConfig(vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    config.layer_types = ["chunked_attention", "full_attention"]
    return LlamaForCausalLM(config)


def unmasked() -> PreTrainedModel:
    """An attention that uses all tokens and ignores its mask, as a model's own code could."""
    model = made("llama", torch.float32)
    layer = model.model.layers[1].self_attn  # pyright: ignore
    original = layer.forward
    layer.forward = lambda hidden_states, **k: original(hidden_states=hidden_states + hidden_states.mean(1, keepdim=True), **k)
    return model


@pytest.mark.parametrize("make", [bloom, chunked, unmasked])
def test_models_that_cannot_be_packed_are_padded(make: object) -> None:
    torch.manual_seed(0)
    assert not can_pack(make().eval())  # pyright: ignore


def test_a_window_that_only_the_mask_expresses_is_not_packed() -> None:
    def phimoe(window: int | None) -> PreTrainedModel:
        torch.manual_seed(0)
        sizes: Any = SMALL | SPECIAL | {"vocab_size": 400, "num_local_experts": 2}
        return PhimoeForCausalLM(PhimoeConfig(sliding_window=window, **sizes)).eval()

    assert can_pack(phimoe(None))
    assert not can_pack(phimoe(24))


def test_the_result_of_the_trial_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "gradsentry"):
        can_pack(made("llama", torch.float32))
    assert "differ by" in caplog.text
