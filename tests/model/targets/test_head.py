"""Gram matrices and losses of the head against autograd's gradient with respect to its matrix, whatever the block size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gradsentry import spectrum
from gradsentry.model.device import CPU
from gradsentry.model.forward import states_before_head
from gradsentry.model.targets.head import Head
from tiny import MODELS, VOCABULARY, made

ROWS = [(30, 10), (12, 11), (60, 5), (17, 0)]
"""Length and prompt length: T = 20; T = 1; T > d; supervised from the first token, which nothing predicts."""


def autograd_gradient(model: PreTrainedModel, ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """G [V, d] of one row's mean loss with respect to the head's own use of its matrix, and the token losses [T]."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Module)
    weight = head.weight.detach().clone().requires_grad_(True)  # a copy: tied embeddings would add their own gradient
    hook = head.register_forward_hook(lambda _m, args, _out: nn.functional.linear(args[0], weight, getattr(head, "bias", None)))
    try:
        logits = model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0, :-1]
    finally:
        hook.remove()
    losses = nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="none")[labels[1:] != -100]
    return torch.autograd.grad(losses.mean(), weight)[0], losses.detach()


def row(length: int, prompt: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed))
    labels = ids.clone()
    labels[:prompt] = -100
    return ids, labels


def found(head: Head, states: list[Tensor], labels: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For each row, the singular values of the gradient of its summed loss, and its token losses."""
    lengths = [len(part) for part in labels]
    gradients = head.gradients(torch.cat(states), torch.cat(labels), lengths)
    values: dict[int, Tensor] = {}
    for members, pair in zip(gradients.members, gradients.gram_pairs, strict=True):
        values |= zip(members, spectrum.solve(pair), strict=True)
    assert sorted(values) == list(range(len(states)))
    losses = gradients.losses.split(lengths)
    return [(values[i][: head.n_values(lengths[i])], losses[i]) for i in range(len(states))]


def gradients(
    model: PreTrainedModel, rows: list[tuple[Tensor, Tensor]], crop: str = "none", block: int = 2**20, padding: float = 1.0
) -> list[tuple[Tensor, Tensor]]:
    hidden = [states_before_head(model, ids[None, :-1])[0][labels[1:] != -100] for ids, labels in rows]
    head = Head(model, crop, replace(CPU, logit_bytes=block, gram_padding=padding))
    return found(head, hidden, [labels[1:][labels[1:] != -100] for _, labels in rows])


@pytest.mark.parametrize(
    ("name", "crop", "block", "padding"),  # all rows together; a row in pieces; token by token and column by column, which is slow
    [(name, crop, block, 1.0) for name in MODELS for crop in ("none", "reference") for block in (2**20, 40_000)]
    + [(name, crop, 2**20, 20.0) for name in MODELS for crop in ("none", "reference")]
    + [(name, "reference", 1, 1.0) for name in MODELS]
    + [("llama", "none", 1, 1.0)],
)
def test_spectrum_and_losses_equal_autograd_in_fp64(name: str, crop: str, block: int, padding: float) -> None:
    model = made(name)
    rows = [row(*shape, seed) for seed, shape in enumerate(ROWS)]
    for (ids, labels), (values, own_losses) in zip(rows, gradients(model, rows, crop, block, padding), strict=True):
        dense, losses = autograd_gradient(model, ids, labels)
        vocabulary, width = spectrum.crop_widths(*dense.shape, crop)
        expected = torch.linalg.svdvals(dense[:vocabulary, :width])[: len(values)]
        top = min(len(expected), len(losses), spectrum.RANK)
        torch.testing.assert_close(values[:top] / len(losses), expected[:top], rtol=1e-5, atol=1e-9)
        assert float(spectrum.entropy(values)) == pytest.approx(float(spectrum.entropy(expected[: len(losses)])), abs=1e-6)
        torch.testing.assert_close(own_losses.double(), losses, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("block", [2**20, 40_000, 1])
def test_deltas_and_states_are_the_factors_of_autograds_gradient(name: str, block: int) -> None:
    model = made(name)
    ids, labels = row(30, 10, 1)
    hidden = states_before_head(model, ids[None, :-1])[0][9:]
    deltas = list(Head(model, "reference", replace(CPU, logit_bytes=block)).deltas(hidden, ids[10:]))
    assert max(len(delta) for delta in deltas) == max(1, min(20, block // (4 * VOCABULARY)))
    torch.testing.assert_close(torch.cat(deltas).mT @ hidden / 20, autograd_gradient(model, ids, labels)[0])


def test_callers_compute_with_deltas_outside_of_the_models_autocast() -> None:
    model = made("llama", torch.bfloat16)
    for delta in Head(model, "none", replace(CPU, logit_bytes=20_000)).deltas(torch.randn(50, 32), torch.arange(50)):
        assert delta.dtype == torch.float32
        assert not torch.is_autocast_enabled("cpu")
        assert not delta.requires_grad


@pytest.mark.parametrize("name", MODELS)
def test_entropy_equals_autograd_in_fp32(name: str) -> None:
    model = made(name, torch.float32)
    ids, labels = row(30, 10, 2)
    ((values, _),) = gradients(model, [(ids, labels)])
    expected = spectrum.entropy(torch.linalg.svdvals(autograd_gradient(model, ids, labels)[0].double())[:20])
    assert float(spectrum.entropy(values)) == pytest.approx(float(expected), abs=1e-4)


def test_no_block_of_logits_is_larger_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("llama", torch.float32)
    sizes: list[int] = []
    linear = nn.functional.linear

    def watched(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        result = linear(inputs, weight, bias)
        if weight.shape[1] == 32 and result.shape[-1] not in (32, 64, 16):
            sizes.append(result.numel() * 4)
        return result

    rows = [row(250, 3)]
    hidden = [states_before_head(model, ids[None, :-1])[0][labels[1:] != -100] for ids, labels in rows]
    monkeypatch.setattr(nn.functional, "linear", watched)
    found(Head(model, "none", replace(CPU, logit_bytes=20_000)), hidden, [rows[0][1][3:]])
    assert max(sizes) <= 20_000
    assert sum(sizes) >= 2 * 247 * VOCABULARY * 4 * 0.9  # the softmax first needs the whole row's denominators: two passes


def test_an_adapter_on_the_head_is_part_of_the_logits() -> None:
    """The wrapper's output counts, as LoRA's outer module gives it, and the gradient is that of the wrapper's input."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base
            self.extra = nn.Linear(base.in_features, base.out_features, bias=False, dtype=base.weight.dtype)
            self.weight = base.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + self.extra(x)

    torch.manual_seed(0)
    model = made("llama")
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    model.set_output_embeddings(Adapted(head))  # pyright: ignore[reportArgumentType]
    ids, labels = row(40, 5, 9)
    logits = model(input_ids=ids.unsqueeze(0)).logits[0, :-1][labels[1:] != -100]
    delta = logits.softmax(-1) - nn.functional.one_hot(labels[5:], VOCABULARY)
    hidden = states_before_head(model, ids[None, :-1])[0][4:]
    expected = len(delta) * spectrum.singular_values(delta, hidden)
    for block in (2**20, 10_000):
        ((values, _),) = gradients(model, [(ids, labels)], block=block)
        torch.testing.assert_close(values[:16], expected[:16])


def test_low_precision_models_get_a_softmax_in_fp32() -> None:
    model = made("llama", torch.bfloat16)
    head = Head(model, "none")
    hidden = torch.randn(5, 32, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(5)
    ((_, losses),) = found(head, [hidden], [targets])
    assert losses.dtype == torch.float32
    logits = (hidden.bfloat16() @ model.get_output_embeddings().weight.mT).float()  # pyright: ignore
    torch.testing.assert_close(losses, nn.functional.cross_entropy(logits, targets, reduction="none"))


BEHIND = ["gemma2-softcapped", "cohere-scaled", "granite-scaled"]
"""Models that change their head's output."""


@pytest.mark.parametrize("name", MODELS)
def test_a_scaled_or_capped_head_is_recognised(name: str) -> None:
    assert Head(made(name), "none").plain is (name not in BEHIND)


def in_lora(model: PreTrainedModel, *modules: str) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(target_modules=list(modules))).double()  # pyright: ignore


def bodiless(model: PreTrainedModel) -> PreTrainedModel:
    """A model that does not say where its layers are."""
    model.get_decoder = lambda: model  # pyright: ignore
    return model


@pytest.mark.parametrize("name", BEHIND)
@pytest.mark.parametrize(
    ("change", "layers_run"),
    [
        (lambda model: model, False),
        (lambda model: in_lora(model, "q_proj"), False),
        (lambda model: in_lora(model, "lm_head"), False),
        (bodiless, True),
    ],
    ids=["as it is", "lora", "lora on the head", "layers not found"],
)
def test_the_code_behind_the_head_runs_without_the_layers(name: str, change: Callable[[PreTrainedModel], Any], layers_run: bool) -> None:
    model = change(made(name))
    ids, labels = row(40, 5, 9)
    states, targets = [states_before_head(model, ids[None, :-1])[0][4:]], [labels[5:]]
    stubbed, whole = (Head(model, "none", replace(CPU, logit_bytes=20_000)) for _ in range(2))
    whole.__dict__["_model_without_layers"] = model  # as if it could not be stubbed
    found(stubbed, states, targets)  # the first call finds out what can be stubbed
    norms: list[str] = []
    for part, module in model.named_modules():
        if part.endswith("norm"):
            module.register_forward_hook(lambda _module, _args, _output, part=part: norms.append(part))
    ((values, losses),) = found(stubbed, states, targets)
    assert bool(norms) is layers_run
    ((expected, expected_losses),) = found(whole, states, targets)
    assert norms
    assert torch.equal(values, expected)
    assert torch.equal(losses, expected_losses)
