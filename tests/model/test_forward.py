"""What enters the head, taken by a hook, against the model's own hidden states."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from gradsentry.errors import ModelError
from gradsentry.model import forward
from tiny import MODELS, made


def ids_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 400, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MODELS)
def test_states_are_those_behind_the_last_layer(name: str) -> None:
    model = made(name, torch.float32)
    expected = model(input_ids=ids_of(3, 30), output_hidden_states=True, use_cache=False).hidden_states[-1]
    torch.testing.assert_close(forward.states_before_head(model, ids_of(3, 30)), expected.detach(), rtol=1e-4, atol=1e-5)


def test_no_token_goes_through_the_head() -> None:
    model = made("llama")
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Module)
    seen: list[tuple[int, ...]] = []
    original = head.forward
    head.forward = lambda x: seen.append(tuple(x.shape)) or original(x)  # hooks run around forward, so this is what it gets
    forward.states_before_head(model, ids_of(4, 60))
    assert seen == [(4, 0, 32)]


def test_the_model_is_left_as_it_was() -> None:
    model = made("gpt2", torch.bfloat16).train()  # GPT-2 has dropout: in train mode two passes would differ
    next(model.parameters()).requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    first, second = (forward.states_before_head(model, ids_of(2, 20)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not first.requires_grad
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not torch.is_autocast_enabled("cpu")


def test_entering_scoring_mode_again_changes_nothing_and_leaves_the_outer_one_on() -> None:
    model = made("llama", torch.bfloat16).train()
    with forward.scoring(model):
        norm = model.get_parameter("model.norm.weight").data
        with forward.scoring(model):
            pass
        assert not model.training
        assert model.get_parameter("model.norm.weight").dtype == norm.dtype == torch.float32
        other = made("llama", torch.bfloat16).train()
        with forward.scoring(other):
            assert not other.training
        assert other.training
    assert model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_nearer_to_float32_with_wide_states(name: str) -> None:
    ids = ids_of(8, 30)
    rounded = made(name, torch.bfloat16)
    exact = made(name, torch.float32)
    exact.load_state_dict(rounded.state_dict())  # the same weights: what is left is the rounding of states
    expected = forward.states_before_head(exact, ids)
    states = forward.states_before_head(rounded, ids)
    assert states.dtype == torch.float32
    plain = rounded(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[-1].detach().float()
    assert float((states - expected).norm()) < 0.9 * float((plain - expected).norm())


def test_half_precision_is_kept_where_the_first_parameter_is_a_vector() -> None:
    """A model's dtype is that of its first parameter, which is widened."""
    model = made("llama", torch.bfloat16)
    model.first = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    assert next(model.parameters()).ndim == 1
    with forward.scoring(model):
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") is torch.bfloat16
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert forward.states_before_head(model, ids_of(1, 4)).dtype == torch.float32


def test_a_model_without_output_projection_is_refused() -> None:
    config = BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    with pytest.raises(ModelError, match="no output projection"):
        forward.output_projection(BertModel(config))
    with pytest.raises(ModelError, match="no output projection"):
        forward.output_projection(nn.Linear(2, 2))


def test_a_model_that_goes_around_its_projection_is_refused() -> None:
    model = made("llama", torch.float32)
    unused = nn.Linear(32, 400)
    model.get_output_embeddings = lambda: unused  # pyright: ignore
    with pytest.raises(ModelError, match="did not send its states through"):
        forward.states_before_head(model, ids_of(1, 4))
