"""The factors of one forward pass against autograd's gradient with respect to the output projection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from gradsentry import probe, spectrum
from gradsentry.errors import ModelError
from tiny import tiny_llama

VOCABULARY = 400
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SPECIAL = {"bos_token_id": 2, "eos_token_id": 0, "pad_token_id": 0}


def gpt2() -> PreTrainedModel:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=2, eos_token_id=0, **sizes))  # pyright: ignore


def tied_qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, tie_word_embeddings=True, **SMALL, **SPECIAL))  # pyright: ignore


def softcapped_gemma2() -> PreTrainedModel:
    # A cap of 0.3 on logits of spread 0.5 bends them a lot: the closed form for plain logits would be far off.
    config = Gemma2Config(vocab_size=VOCABULARY, head_dim=8, final_logit_softcapping=0.3, **SMALL, **SPECIAL)  # pyright: ignore
    return Gemma2ForCausalLM(config)


def scaled_cohere() -> PreTrainedModel:
    return CohereForCausalLM(CohereConfig(vocab_size=VOCABULARY, logit_scale=3.0, **SMALL, **SPECIAL))  # pyright: ignore


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": tiny_llama,
    "gpt2": gpt2,
    "qwen2-tied": tied_qwen2,
    "gemma2-softcapped": softcapped_gemma2,
    "cohere-scaled": scaled_cohere,
}


def made(name: str, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    torch.manual_seed(0)
    return MODELS[name]().to(dtype).eval()  # pyright: ignore


def autograd_gradient(model: PreTrainedModel, ids: Tensor, labels: Tensor) -> Tensor:
    """G [V, d] of one row: mean loss over its supervised tokens, with respect to the head's own use of its matrix."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Module)
    weight = head.weight.detach().clone().requires_grad_(True)  # a copy: tied embeddings would add their own gradient
    hook = head.register_forward_hook(lambda _m, args, _out: nn.functional.linear(args[0], weight, getattr(head, "bias", None)))
    try:
        logits = model(input_ids=ids.unsqueeze(0), use_cache=False).logits[0, :-1]
    finally:
        hook.remove()
    loss = nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100)
    return torch.autograd.grad(loss, weight)[0]


def row(length: int, prompt: int, seed: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed))
    labels = ids.clone()
    labels[:prompt] = -100
    return ids, labels


def factors_of(model: PreTrainedModel, ids: Tensor, labels: Tensor) -> probe.Factors:
    return probe.head_factors(model, ids.unsqueeze(0), torch.ones_like(ids).unsqueeze(0), labels.unsqueeze(0))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("length", "prompt"), [(30, 10), (12, 11), (60, 5)])  # T = 20; T = 1; T > d
def test_spectrum_and_entropy_equal_autograd_in_fp64(name: str, length: int, prompt: int) -> None:
    model = made(name)
    ids, labels = row(length, prompt, 1)
    factors = factors_of(model, ids, labels)
    expected = torch.linalg.svdvals(autograd_gradient(model, ids, labels))
    values = spectrum.singular_values(factors.delta, factors.hidden)
    top = min(len(values), spectrum.RANK)
    torch.testing.assert_close(values[:top], expected[:top], rtol=1e-5, atol=0)
    assert float(spectrum.entropy(values)) == pytest.approx(float(spectrum.entropy(expected[: len(values)])), abs=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_entropy_equals_autograd_in_fp32(name: str) -> None:
    model = made(name, torch.float32)
    ids, labels = row(30, 10, 2)
    factors = factors_of(model, ids, labels)
    expected = spectrum.entropy(torch.linalg.svdvals(autograd_gradient(model, ids, labels).double())[:20])
    assert float(spectrum.entropy(spectrum.singular_values(factors.delta, factors.hidden))) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_factors_multiply_to_the_gradient_and_losses_to_the_loss(name: str) -> None:
    model = made(name)
    ids, labels = row(25, 8, 3)
    factors = factors_of(model, ids, labels)
    torch.testing.assert_close(factors.delta.mT @ factors.hidden / factors.lengths[0], autograd_gradient(model, ids, labels))
    logits = model(input_ids=ids.unsqueeze(0)).logits[0, :-1]
    torch.testing.assert_close(factors.losses.mean(), nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("left", [False, True])
def test_a_batch_equals_batches_of_one_under_any_padding(name: str, left: bool) -> None:
    model = made(name, torch.float32)
    rows = [row(30, 10, 4), row(17, 16, 5), row(23, 0, 6)]
    longest = max(len(ids) for ids, _ in rows)

    def padded(values: Tensor, fill: int) -> Tensor:
        space = longest - len(values)
        return nn.functional.pad(values, (space, 0) if left else (0, space), value=fill)

    ids = torch.stack([padded(ids, 7) for ids, _ in rows])  # padding that is no special token: only the mask may tell
    labels = torch.stack([padded(labels, 7) for _, labels in rows])
    mask = torch.stack([padded(torch.ones_like(ids), 0) for ids, _ in rows])
    together = probe.head_factors(model, ids, mask, labels)
    alone = [factors_of(model, *one) for one in rows]
    # A supervised first token right after left padding must not be predicted from the padding.
    assert together.lengths == [part.lengths[0] for part in alone] == [20, 1, 22]
    torch.testing.assert_close(together.losses, torch.cat([part.losses for part in alone]), rtol=1e-5, atol=1e-5)
    deltas, hiddens = together.delta.split(together.lengths), together.hidden.split(together.lengths)
    for delta, hidden, part in zip(deltas, hiddens, alone, strict=True):
        got, expected = (spectrum.entropy(spectrum.singular_values(d, h)) for d, h in ((delta, hidden), (part.delta, part.hidden)))
        assert float(got) == pytest.approx(float(expected), abs=1e-5)


def test_a_row_supervised_from_its_first_token_has_one_token_less() -> None:
    model = made("llama")
    ids = row(10, 0, 7)[0]
    assert factors_of(model, ids, ids).lengths == [9]


def test_a_crop_is_a_slice_of_both_factors() -> None:
    model = made("llama")
    ids, labels = row(30, 10, 8)
    whole = factors_of(model, ids, labels)
    mask = torch.ones_like(ids).unsqueeze(0)
    cropped = probe.head_factors(model, ids.unsqueeze(0), mask, labels.unsqueeze(0), widths=(50, 4))
    gradient = autograd_gradient(model, ids, labels)[:50, :4]
    torch.testing.assert_close(cropped.delta, whole.delta[:, :50])
    values = spectrum.singular_values(cropped.delta, cropped.hidden)
    torch.testing.assert_close(values, torch.linalg.svdvals(gradient), rtol=1e-6, atol=1e-12)


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
    ids, labels = row(20, 5, 9)
    factors = factors_of(model, ids, labels)
    logits = model(input_ids=ids.unsqueeze(0)).logits[0, :-1][labels[1:] != -100]
    targets = nn.functional.one_hot(labels[labels != -100], VOCABULARY)
    torch.testing.assert_close(factors.delta, logits.softmax(-1) - targets)


def test_the_model_is_left_as_it_was() -> None:
    model = made("gpt2", torch.float32).train()  # GPT-2 has dropout: in train mode two passes would differ
    next(model.parameters()).requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    ids, labels = row(20, 5, 10)
    first, second = factors_of(model, ids, labels), factors_of(model, ids, labels)
    torch.testing.assert_close(first.delta, second.delta, rtol=0, atol=0)
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert not first.delta.requires_grad
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Module)
    assert not head._forward_hooks
    assert not head._forward_pre_hooks


def test_logits_exist_only_where_a_token_is_supervised() -> None:
    model = made("llama")
    seen: list[tuple[int, ...]] = []
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Module)
    original = head.forward
    head.forward = lambda x: seen.append(tuple(x.shape)) or original(x)  # hooks run around forward, so this is what it gets
    factors_of(model, *row(60, 55, 11))
    assert seen == [(1, 5, 32)]


def test_low_precision_models_get_a_softmax_in_fp32() -> None:
    model = made("llama", torch.bfloat16)
    factors = factors_of(model, *row(20, 5, 12))
    assert factors.delta.dtype == torch.float32
    assert float(factors.delta.sum(-1).abs().max()) < 1e-5  # probabilities minus one-hot add up to 0


def test_a_model_without_output_projection_is_refused() -> None:
    config = BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    with pytest.raises(ModelError, match="no output projection"):
        probe.output_projection(BertModel(config))
    with pytest.raises(ModelError, match="no output projection"):
        probe.output_projection(nn.Linear(2, 2))
