"""Fine-tuning: what is learnt, what is not touched, the same twice, and LoRA against its formula."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from gradsentry.bench import training as module
from gradsentry.bench.generation import answers
from gradsentry.bench.training import Training, encoded, train
from gradsentry.errors import DataError, ModelError, UsageError
from gradsentry.model.load import LoadedModel, load_model
from gradsentry.scorer import Scorer
from gradsentry.types import Encoded, Record
from rendered import variant
from tiny import MODELS, made, tiny_llama

ROWS = [
    {"prompt": f"What is {name}? ", "completion": "The noble gases."} for name in ("France", "argon", "neon", "helium", "a phrase", "it")
]
PROMPTS = [row["prompt"] for row in ROWS]
TRAININGS = {
    "full": Training("full", rate=1e-2, epochs=25, batch=6),
    "lora": Training("lora", rate=2e-2, epochs=50, batch=6, rank=8, alpha=32),
}
each_method = pytest.mark.parametrize("method", TRAININGS)


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    """A tiny Llama that can say things: LoRA teaches attention alone, and that of a random model has nothing to work with."""
    names = ("France", "argon", "neon", "the noble gases", "The noble gases.", "Paris", "a short phrase", "Name")
    rows = [{"prompt": f"Name {name}: ", "completion": f"{name}."} for name in names]
    loaded = train(str(model_dir), rows, Training("full", rate=1e-2, epochs=40, batch=8), "cpu")
    folder = tmp_path_factory.mktemp("base")
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def weights(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in loaded.model.state_dict().items()}


def mean_loss(loaded: LoadedModel) -> float:
    scores = Scorer(loaded.model, loaded.tokenizer, format="prompt-completion").score(ROWS)
    return sum(score.loss or 0 for score in scores) / len(scores)


@each_method
def test_a_fixed_answer_is_learnt(method: str, base_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in base_dir.iterdir()}
    before = load_model(str(base_dir), dtype="float32", device="cpu")
    capfd.readouterr()
    tuned = train(str(base_dir), ROWS, TRAININGS[method], "cpu")
    assert capfd.readouterr().out == ""
    assert mean_loss(tuned) < 0.3 < 0.9 < mean_loss(before)
    assert answers(tuned, PROMPTS, 20) == ["The noble gases."] * len(ROWS) != answers(before, PROMPTS, 20)
    assert files == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in base_dir.iterdir()}
    assert not tuned.model.training
    assert not any(parameter.requires_grad for parameter in tuned.model.parameters())
    assert type(tuned.model) is type(before.model)
    assert weights(tuned).keys() == weights(before).keys()


@each_method
def test_twice_the_same_bit_for_bit_and_otherwise_with_another_seed(method: str, base_dir: Path) -> None:
    training = replace(TRAININGS[method], epochs=1, batch=2)
    one, torch_moves_on, two = train(str(base_dir), ROWS, training, "cpu"), torch.rand(3), train(str(base_dir), ROWS, training, "cpu")
    other = train(str(base_dir), ROWS, replace(training, seed=1), "cpu")
    assert len(torch_moves_on) == 3
    assert all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())
    assert not all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


@each_method
def test_states_that_are_computed_twice_train_the_same(method: str, base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = replace(TRAININGS[method], epochs=1, batch=2)
    kept = weights(train(str(base_dir), ROWS, training, "cpu"))
    again = Counter[str]()
    forward = torch.nn.Module.__call__

    def counted(self: torch.nn.Module, *args: Any, **options: Any) -> Any:
        again[type(self).__name__] += self.training
        return forward(self, *args, **options)

    monkeypatch.setattr(module, "_lacks_memory", lambda where: True)
    monkeypatch.setattr(torch.nn.Module, "__call__", counted)
    twice = weights(train(str(base_dir), ROWS, training, "cpu"))
    assert again["LlamaMLP"] > again["LlamaForCausalLM"] * 3, "two layers, each of them twice"
    assert all(torch.allclose(value, twice[name], atol=1e-6) for name, value in kept.items())


def test_what_does_not_fit_is_reported_with_what_it_takes(base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(module, "_fit", full)
    with pytest.raises(
        ModelError, match=r"out of memory while fine-tuning .* \(full\): .* GiB, plus the states of 4 rows; .* or the method lora"
    ):
        train(str(base_dir), ROWS, Training("full"), "cpu")
    with pytest.raises(ModelError, match=r"\(lora\): .* a smaller model$"):
        train(str(base_dir), ROWS, Training("lora"), "cpu")


def test_a_bug_of_the_trainer_is_not_taken_for_a_lack_of_memory(base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(module, "_fit", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(str(base_dir), ROWS, Training("full"), "cpu")


def test_another_gpu_than_the_first_is_no_device_to_train_on(base_dir: Path) -> None:
    with pytest.raises(UsageError, match="uses the first GPU; set CUDA_VISIBLE_DEVICES=1 and give --device cuda"):
        train(str(base_dir), ROWS, Training(), "cuda:1")


def test_lora_is_its_formula_on_attention_alone(base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training("lora", rate=1e-2, epochs=2, rank=3, alpha=7)
    taken: dict[str, torch.Tensor] = {}
    merge = peft.LoraModel.merge_and_unload

    def watched(self: Any, *args: Any, **options: Any) -> Any:
        taken.update({name: value.clone() for name, value in self.state_dict().items()})
        return merge(self, *args, **options)

    monkeypatch.setattr(peft.LoraModel, "merge_and_unload", watched)
    tuned = weights(train(str(base_dir), ROWS, training, "cpu"))
    for name, before in weights(load_model(str(base_dir), dtype="float32", device="cpu")).items():
        layer = name.removesuffix(".weight")
        found = {part: value for key, value in taken.items() for part in ("A", "B") if f"{layer}.lora_{part}." in key}
        assert bool(found) == ("self_attn" in name), name
        if not found:
            assert torch.equal(tuned[name], before)
            continue
        a, b = found["A"], found["B"]
        assert a.shape[0] == b.shape[1] == 3
        assert b.abs().max() > 0
        assert torch.allclose(tuned[name], before + 7 / 3 * b @ a, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_lora_finds_the_attention_of_every_architecture(name: str) -> None:
    layers = module._attention_layers(made(name))
    own = ["c_attn", "c_proj"] if name == "gpt2" else ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert sorted(layer.rsplit(".", 1)[1] for layer in layers) == sorted(own * 2)
    assert not any(".mlp." in layer for layer in layers)


def test_one_full_step_is_adams_on_the_mean_of_the_supervised_tokens(base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first step of Adam moves each weight by the rate against the sign of its gradient, whatever the gradient's size."""
    monkeypatch.setattr(module, "pick_dtype", lambda name, device: torch.float32)
    collate, seen = module._collate, []
    monkeypatch.setattr(module, "_collate", lambda samples, fewer: seen.append(fewer) or collate(samples, fewer))
    rows = ROWS[:3]
    tuned = weights(train(str(base_dir), rows, Training("full", rate=1e-3, epochs=1, batch=3), "cpu"))
    assert seen == [True]
    loaded = load_model(str(base_dir), dtype="float32", device="cpu")
    model: Any = loaded.model.requires_grad_(True)
    losses = []
    for row in encoded(rows, loaded):
        logits = model(torch.tensor([row.input_ids])).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels)[1:], reduction="none")[-row.n_tokens :])
    torch.cat(losses).mean().backward()
    for name, parameter in model.named_parameters():
        sure = parameter.grad.abs() > 1e-4  # a smaller one may have another sign in another order of summing, or be lost in Adam's epsilon
        step = tuned[name] - parameter.detach()
        assert torch.allclose(step[sure], -1e-3 * parameter.grad.sign()[sure], rtol=1e-2, atol=1e-6), name


def test_rows_are_encoded_as_the_scan_does(model_dir: Path) -> None:
    loaded = load_model(str(model_dir), dtype="float32", device="cpu")
    rows = [
        *ROWS,
        {"prompt": "", "completion": "x"},
        {"prompt": "What is the capital? " * 60, "completion": "Paris. "},
        {"prompt": "no", "completion": ""},
        {"prompt": "Name", "completion": "the gases " * 99},
        {"prompt": 3, "completion": 4},
    ]
    scan = Scorer(loaded.model, loaded.tokenizer, format="prompt-completion").prepare([Record(i, "", row) for i, row in enumerate(rows)])
    assert encoded(rows, loaded) == [item for item in scan if isinstance(item, Encoded)]
    assert len(encoded(rows, loaded)) == len(rows) - 1
    assert max(len(row.input_ids) for row in encoded(rows, loaded)) == loaded.max_length


def test_a_row_with_a_token_that_the_model_lacks_is_left_out(tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture) -> None:
    loaded = LoadedModel(tiny_llama(326), variant(tokenizer, pad_token="[PAD]"), "", "")
    assert [row.row for row in encoded([{"prompt": "Name", "completion": "[PAD]"}, *ROWS[:2]], loaded)] == [1, 2]
    assert "row 0 is left out: token id 326 ('[PAD]') is unknown to the model" in caplog.text


def test_long_and_broken_rows_do_not_stop_the_training(model_dir: Path) -> None:
    rows = [
        {"prompt": "What is the capital? " * 60, "completion": "Paris."},
        {"prompt": "no", "completion": ""},
        {"prompt": ["x"], "completion": 1},
    ]
    assert train(str(model_dir), rows, Training("full", epochs=1), "cpu").dtype == "float32"


def test_padding_and_its_labels() -> None:
    batch = module._collate([Encoded(0, [5, 6, 7], [-100, 6, 7]), Encoded(1, [8], [8])], fewer=False)
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[5, 6, 7], [8, 0, 0]],
        "attention_mask": [[1, 1, 1], [1, 1, 1]],  # what nobody sees needs no mask
        "labels": [[-100, 6, 7], [8, -100, -100]],
    }


@settings(deadline=None)
@example([(0, 1), (5, 4)], "gemma2-softcapped")  # padding beyond the reach of its sliding window
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)), min_size=1, max_size=4),
    st.sampled_from([name for name in MODELS if "logits_to_keep" in inspect.signature(made(name).forward).parameters]),
)
def test_the_loss_and_its_gradient_need_no_logits_of_prompts(lengths: list[tuple[int, int]], name: str) -> None:
    rows = [Encoded(i, list(range(9, 9 + a + b)), [-100] * a + list(range(9 + a, 9 + a + b))) for i, (a, b) in enumerate(lengths)]
    assume(any(a + b > 1 for a, b in lengths))  # a first token is predicted by nothing
    model: Any = made(name).requires_grad_(True)
    seen = []
    for fewer in (False, True):
        batch = module._collate(rows, fewer)
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        seen.append((loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (loss, gradients), (other, others) = seen
    torch.testing.assert_close(loss, other)
    torch.testing.assert_close(gradients, others)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert batch["logits_to_keep"] == batch["labels"].shape[1] == max(a + b for a, b in lengths) - max(min(a for a, _ in lengths) - 1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"method": "qlora"}, "'qlora' is unknown; there are lora, full"), ({"epochs": 0}, "epochs is 0"), ({"rate": -1.0}, "rate is -1"),
     ({"rate": float("nan")}, "rate is nan"), ({"batch": 0}, "batch is 0"), ({"rank": 0}, "rank is 0")],
)  # fmt: skip
def test_trainings_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train("nowhere", ROWS, replace(Training(), **change), "cpu")


def test_bad_input(model_dir: Path) -> None:
    for rows in ([], [{"prompt": "x", "completion": ""}]):
        with pytest.raises(DataError, match=f"none of the {len(rows)} rows can be trained on"):
            train(str(model_dir), rows, Training(), "cpu")
    with pytest.raises(ModelError, match="no such model directory"):
        train(str(model_dir / "absent"), ROWS, Training(), "cpu")
    with pytest.raises(ModelError, match="weights are not finite; use a lower rate"):
        train(str(model_dir), ROWS, Training("full", rate=1e38, epochs=4), "cpu")


def test_lora_without_attention(llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_attention_layers", lambda model: [])
    with pytest.raises(UsageError, match="LlamaForCausalLM has no linear layer in an attention module for LoRA; take the method full"):
        module._with_lora(llama, Training())


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradsentry.bench.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"fine-tuning needs accelerate, peft: pip install 'gradsentry\[bench\]'"):
        train(None, ROWS, Training(), "cpu")
