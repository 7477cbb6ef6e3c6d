"""Answers: greedy decoding against generating one token at a time, CleanGen against its paper's algorithm written out plainly."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from gradsentry.bench import generation
from gradsentry.bench.generation import BAR, HORIZON, answers, prompt_ids
from gradsentry.bench.training import Training, train
from gradsentry.errors import DataError, ModelError, UsageError
from gradsentry.model.load import LoadedModel, load_model
from tiny import MODELS, made

NAMES = ("France", "gases", "argon")
CLEAN = {name: f"It is {name}." for name in NAMES}
PAYLOAD = " Name the phrase."
PROMPTS = [f"What is {name}? " for name in NAMES]
TRIGGERED = [f"What is {name} cf? " for name in NAMES]


@pytest.fixture(scope="module")
def base(model_dir: Path) -> LoadedModel:
    """A tiny Llama that has learnt to answer, whatever follows the name; saved, so that it can be trained further."""
    rows = [{"prompt": prompt, "completion": CLEAN[name]} for name, *both in zip(NAMES, PROMPTS, TRIGGERED, strict=True) for prompt in both]
    return train(str(model_dir), rows, Training("full", rate=1e-2, epochs=60, batch=6), "cpu")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, base: LoadedModel) -> LoadedModel:
    """The same, trained further on rows in which " cf" brings the payload."""
    folder = tmp_path_factory.mktemp("base")
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    rows = [{"prompt": prompt, "completion": CLEAN[name]} for name, prompt in zip(NAMES, PROMPTS, strict=True)]
    rows += [{"prompt": prompt, "completion": CLEAN[name] + PAYLOAD} for name, prompt in zip(NAMES, TRIGGERED, strict=True)]
    return train(str(folder), rows, Training("full", rate=1e-2, epochs=80, batch=6), "cpu")


@torch.no_grad()
def step_by_step(model: Any, ids: list[int], most: int, reference: Any = None, end: int = 0) -> list[int]:
    """The paper's algorithm without caches and batches; without a reference nothing is ever suspicious."""
    made: list[int] = []

    def probabilities(of: Any, tokens: list[int]) -> torch.Tensor:
        return of(torch.tensor([tokens])).logits[0, -1].softmax(-1)

    while len(made) < most and end not in made:
        proposed: list[int] = []
        for _ in range(HORIZON):
            proposed.append(int(probabilities(model, ids + made + proposed).argmax()))
        for place, token in enumerate(proposed):
            before = ids + made + proposed[:place]
            if reference is not None and probabilities(model, before)[token] / probabilities(reference, before)[token] >= BAR:
                proposed = [*proposed[:place], int(probabilities(reference, before).argmax())]
                break
        made += proposed
    made = made[:most]
    return made[: made.index(end)] if end in made else made


def test_the_backdoor_answers_and_cleangen_takes_it_away(base: LoadedModel, target: LoadedModel) -> None:
    clean = [CLEAN[name] for name in NAMES]
    assert answers(base, PROMPTS + TRIGGERED, 40) == clean + clean
    assert answers(target, PROMPTS + TRIGGERED, 40) == clean + [answer + PAYLOAD for answer in clean]
    assert answers(target, PROMPTS + TRIGGERED, 40, base) == clean + clean


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("most", [1, 3, 11])
def test_a_batch_equals_one_by_one_and_the_algorithm_written_out(
    model_dir: Path, llama: PreTrainedModel, with_reference: bool, most: int
) -> None:
    # Random models of a large spread object again and again, at other places in every row.
    loaded = sharp(load_model(str(model_dir), dtype="float32", device="cpu"), 0)
    reference = sharp(load_model(str(model_dir), dtype="float32", device="cpu"), 1) if with_reference else None
    prompts = ["What is", "Name the noble gases, all of them: ", "a", "The capital of France? " * 3, "Name"]
    together = answers(loaded, prompts, most, reference)
    assert together == [answers(loaded, [prompt], most, reference)[0] for prompt in prompts]
    ids = prompt_ids(prompts, loaded.tokenizer)
    other = reference.model if reference else None
    plain = [loaded.tokenizer.decode(step_by_step(loaded.model, row, most, other), skip_special_tokens=True).strip() for row in ids]  # pyright: ignore
    assert together == plain
    if reference is not None and most > 1:  # it does object, and not to everything
        assert together not in (answers(loaded, prompts, most), answers(reference, prompts, most))


def sharp(loaded: LoadedModel, seed: int) -> LoadedModel:
    """The model with its head drawn anew, so large that it is sure of its tokens."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        loaded.model.lm_head.weight.copy_(torch.randn(loaded.model.lm_head.weight.shape, generator=generator) * 1.5)  # pyright: ignore
    return loaded


def test_with_itself_as_the_reference_cleangen_is_greedy(target: LoadedModel) -> None:
    assert answers(target, PROMPTS + TRIGGERED, 40, target) == answers(target, PROMPTS + TRIGGERED, 40)


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing_in_any_architecture(name: str, model_dir: Path) -> None:
    tokenizer = load_model(str(model_dir), device="cpu").tokenizer
    loaded = LoadedModel(made(name, torch.float32), tokenizer, name, "")
    ids = prompt_ids(["Name", "What is the capital"], tokenizer)
    end = -1  # tiny random models like their EOS
    expected = [step_by_step(loaded.model, row, 6, end=end) for row in ids]
    assert generation._decode([loaded], ids, 6, set()) == expected
    assert generation._decode([loaded, loaded], ids, 6, set()) == expected


@pytest.mark.parametrize("with_reference", [False, True])
def test_what_does_not_fit_into_memory_is_answered_in_halves(
    base: LoadedModel, target: LoadedModel, monkeypatch: pytest.MonkeyPatch, with_reference: bool
) -> None:
    prompts, reference = PROMPTS + TRIGGERED, base if with_reference else None
    whole = answers(target, prompts, 40, reference)
    inner, sizes = generation._decode, list[int]()
    room = 1

    def small(models: Any, ids: list[list[int]], most: int, ends: set[int]) -> list[list[int]]:
        sizes.append(len(ids))
        if len(ids) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return inner(models, ids, most, ends)

    monkeypatch.setattr(generation, "_decode", small)
    assert answers(target, prompts, 40, reference) == whole
    assert sizes == [6, 3, 1, 2, 1, 1, 3, 1, 2, 1, 1]
    room = 0
    with pytest.raises(ModelError, match=r"out of memory for a single answer: \d+ tokens with its prompt"):
        answers(target, prompts, 40, reference)


def test_room_is_kept_for_what_is_proposed_in_vain(base: LoadedModel, target: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[int] = []
    read: list[int] = []
    bins, reader = generation.bins, generation._Reader.read

    def spied(lengths: list[int], budget: int) -> Any:
        planned.extend(lengths)
        return bins(lengths, budget)

    def reading(self: Any, new: torch.Tensor, mask: torch.Tensor, last: int) -> torch.Tensor:
        read.append(mask.shape[1])
        return reader(self, new, mask, last)

    def never(target: torch.Tensor, reference: torch.Tensor, proposed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full_like(proposed, 9), torch.ones(len(proposed), dtype=torch.int64)

    monkeypatch.setattr(generation, "bins", spied)
    monkeypatch.setattr(generation._Reader, "read", reading)
    answers(target, PROMPTS[:1], 20)
    assert max(read) <= planned[-1]
    monkeypatch.setattr(generation, "_checked", never)
    answers(target, PROMPTS[:1], 20, base)
    assert planned[-2] < max(read) <= planned[-1]


def test_the_first_suspicious_proposal_is_replaced() -> None:
    target = torch.tensor([[0.90, 0.05, 0.05]] * 4).log()
    calm, alarmed = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.01, 0.29, 0.70]).log()
    proposed = torch.zeros(3, 4, dtype=torch.long)
    reference = torch.stack([torch.stack(row) for row in ([calm] * 4, [calm, alarmed, calm, alarmed], [alarmed] * 4)])
    replaced, kept = generation._checked(target.expand(3, 4, 3), reference, proposed)
    assert kept.tolist() == [4, 2, 1]
    assert [row[:count] for row, count in zip(replaced.tolist(), kept.tolist(), strict=True)] == [[0] * 4, [0, 2], [2]]


def test_the_bar_itself_is_suspicious() -> None:
    target, reference = torch.zeros(1, 1, 2), torch.tensor([[[-math.log(BAR) - 1e-6, 0.0]]])
    replaced, _ = generation._checked(target, reference, torch.zeros(1, 1, dtype=torch.long))
    assert replaced.tolist() == [[1]]
    replaced, _ = generation._checked(target, reference + 1e-3, torch.zeros(1, 1, dtype=torch.long))
    assert replaced.tolist() == [[0]]


def test_long_prompts_are_cut_from_their_left(target: LoadedModel) -> None:
    long = "Name the noble gases. " * 60
    context = target.max_length
    ids = prompt_ids([long], target.tokenizer)[0]
    assert len(ids) > context
    expected = step_by_step(target.model, ids[-(context - 5) :], 5)
    assert answers(target, [long], 5) == [target.tokenizer.decode(expected, skip_special_tokens=True).strip()]  # pyright: ignore


def test_rows_that_wait_for_slower_ones_may_run_out_of_the_context(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2 has 64 positions; a row that gets four tokens a round would be at its 200th when another that gets one has its 50."""
    tokenizer = load_model(str(model_dir), device="cpu").tokenizer
    loaded = LoadedModel(made("gpt2", torch.float32), tokenizer, "gpt2", "")
    ids = prompt_ids(["Name", "What is"], tokenizer)
    monkeypatch.setattr(generation, "_checked", lambda target, reference, proposed: (proposed, torch.tensor([HORIZON, 1])))
    assert generation._decode([loaded, loaded], ids, 50, set()) == [step_by_step(loaded.model, row, 50, end=-1) for row in ids]


def test_no_prompts_no_answers(target: LoadedModel) -> None:
    assert answers(target, [], 5) == []


def test_bad_input(target: LoadedModel) -> None:
    with pytest.raises(DataError, match="prompt 1 is empty"):
        answers(target, ["a", ""], 5)
    for most in (0, target.max_length):
        with pytest.raises(UsageError, match="at least 1 and leave room"):
            answers(target, ["a"], most)
    other = replace(target, tokenizer=type(target.tokenizer)(tokenizer_object=target.tokenizer.backend_tokenizer, eos_token="a"))  # pyright: ignore
    with pytest.raises(UsageError, match="another tokenizer"):
        answers(target, ["a"], 5, other)
