"""Rows -> scores with a tiny model: the same score whatever else is in the batch, and a status for everything else."""

from __future__ import annotations

import copy
import math
import random
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from gradsentry import Scorer, spectrum
from gradsentry.errors import DataError, ModelError, UsageError
from gradsentry.model.batches import states
from gradsentry.model.forward import states_before_head
from gradsentry.model.targets.head import Head
from gradsentry.types import Encoded, Progress, Record

ROWS = [{"prompt": "What is the capital of France?" * n, "completion": " Paris" * (1 + n * m)} for n in range(1, 5) for m in range(5)]


def scorer(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **options: Any) -> Scorer:
    return Scorer(llama, tokenizer, **options)


def by_hand(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, row: dict[str, str], crop: str) -> tuple[float, int, float]:
    """Entropy, T and loss of one row, written out: prompt ids, completion ids, EOS, dense gradient, full SVD."""
    prompt, completion = (tokenizer(row[name], add_special_tokens=False)["input_ids"] for name in ("prompt", "completion"))
    ids = torch.tensor([[*prompt, *completion, tokenizer.eos_token_id]])
    head = model.get_output_embeddings()
    weight = head.weight.detach().clone().requires_grad_(True)  # pyright: ignore
    with torch.no_grad():
        hidden = model.model(ids).last_hidden_state  # pyright: ignore
    logits = (hidden @ weight.T)[0, len(prompt) - 1 : -1]
    loss = torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :])
    (gradient,) = torch.autograd.grad(loss, weight)
    rows, columns = spectrum.crop_widths(*gradient.shape, crop)
    values = torch.linalg.svdvals(gradient[:rows, :columns].double())[: len(logits)]
    return float(spectrum.entropy(values)), len(logits), float(loss.detach())


@pytest.mark.parametrize("crop", ["reference", "none"])
def test_scores_equal_the_recipe_written_out(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, crop: str) -> None:
    scores = scorer(llama, tokenizer, crop=crop).score(ROWS)
    for row, score in zip(ROWS, scores, strict=True):
        entropy, n_tokens, loss = by_hand(llama, tokenizer, row, crop)
        assert score.status == "scored"
        assert score.entropy == pytest.approx(entropy, abs=1e-5)
        assert score.n_tokens == n_tokens
        assert score.loss == pytest.approx(loss, abs=1e-5)


def test_scoring_mode_is_entered_once_for_all_batches_and_left_while_a_caller_works_with_states(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(llama).train()
    own = scorer(model, tokenizer, token_budget=10)
    batches: list[int] = []
    forward = states.states_before_head
    monkeypatch.setattr(states, "states_before_head", lambda *args, **more: batches.append(1) or forward(*args, **more))
    entered: list[int] = []
    monkeypatch.setattr(model, "eval", lambda: entered.append(1) or model.train(False))
    own.score(ROWS)
    assert len(batches) > 3
    assert len(entered) == 1
    assert model.training
    rows = [row for row in own.prepare([Record(i, "", row) for i, row in enumerate(ROWS)]) if isinstance(row, Encoded)]
    for _ in own.supervised_states(rows):
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("token_budget", [1, 100, 100_000])
def test_states_are_those_of_a_forward_pass_of_the_row(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, packs: bool, token_budget: int
) -> None:
    own = scorer(llama, tokenizer, token_budget=token_budget)
    own.packing = own.packing if packs else None
    rows = [row for row in own.prepare([Record(i, "", row) for i, row in enumerate(ROWS)]) if isinstance(row, Encoded)]
    seen = []
    for members, found, targets in own.supervised_states(rows):
        for row, hidden, wanted in zip(members, found, targets, strict=True):
            with torch.no_grad():
                whole = llama.model(torch.tensor([row.input_ids])).last_hidden_state[0]  # pyright: ignore
            torch.testing.assert_close(hidden, whole[-1 - row.n_tokens : -1], rtol=1e-4, atol=1e-5)
            assert wanted.tolist() == row.input_ids[-row.n_tokens :]
            seen.append(row.row)
    assert sorted(seen) == list(range(len(ROWS)))


@pytest.mark.parametrize("token_budget", [1, 100, 100_000])
def test_batches_and_order_change_nothing(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, token_budget: int) -> None:
    alone = [scorer(llama, tokenizer).score([row])[0] for row in ROWS]
    order = list(range(len(ROWS)))
    random.Random(0).shuffle(order)
    together = scorer(llama, tokenizer, token_budget=token_budget).score([ROWS[i] for i in order])
    for i, score in zip(order, together, strict=True):
        assert score.entropy == pytest.approx(alone[i].entropy, abs=1e-5)
        assert score.n_tokens == alone[i].n_tokens


def test_every_record_gets_one_score_in_order_whatever_is_wrong(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    records = [
        Record(10, "d.jsonl:1", {"prompt": "a", "completion": "b"}),
        Record(11, "d.jsonl:2", None, "d.jsonl:2: not valid JSON"),
        Record(12, "d.jsonl:3", {"prompt": "a", "completion": ""}),
        Record(13, "d.jsonl:4", {"prompt": "a"}),
        Record(14, "d.jsonl:5", {"prompt": "a", "completion": {"b": 1}}),
        Record(15, "d.jsonl:6", {"messages": []}),
    ]
    scores = scorer(llama, tokenizer).score_records(records)
    assert [score.row for score in scores] == [10, 11, 12, 13, 14, 15]
    assert [score.status for score in scores] == ["scored", "error", "unscorable", "error", "error", "error"]
    assert scores[1].reason == "d.jsonl:2: not valid JSON"
    assert "d.jsonl:3" in scores[2].reason
    assert "empty" in scores[2].reason
    assert "'completion' is missing" in scores[3].reason
    assert scores[2].entropy is None
    assert scores[2].n_tokens == 0


def test_a_row_longer_than_the_context_is_cut_from_the_left_and_says_so(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    long = {"prompt": "x " * 500 + "The end of the prompt", "completion": " Paris"}
    cut = scorer(llama, tokenizer, max_length=40).score([long])[0]
    assert cut.status == "scored"
    assert "longer than 40 tokens" in cut.reason
    prompt, completion = (tokenizer(long[name], add_special_tokens=False)["input_ids"] for name in ("prompt", "completion"))
    kept = [*prompt, *completion, tokenizer.eos_token_id][-40:]
    states = states_before_head(llama, torch.tensor([kept[:-1]]))[0, -cut.n_tokens :]
    losses = Head(llama, "none").losses(states, torch.tensor(kept[-cut.n_tokens :]))
    assert cut.loss == pytest.approx(float(losses.mean()), abs=1e-5)


def test_a_compiled_model_gives_the_same_scores(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The graphs of the default backend, without its C++ compiler, which takes a minute.
    monkeypatch.setattr(PreTrainedModel, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    plain, compiled = (Scorer(model_dir, dtype="float32", device="cpu", compile=flag) for flag in (False, True))
    assert compiled.packing
    for score, wanted in zip(compiled.score(ROWS), plain.score(ROWS), strict=True):
        assert score.entropy == pytest.approx(wanted.entropy, abs=1e-5)


def test_length_bounds_the_entropy(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    for score in scorer(llama, tokenizer).score(ROWS):
        assert score.entropy is not None
        assert score.entropy <= math.log(min(score.n_tokens, 16)) / math.log(16) + 1e-9


def test_a_model_that_overflows_makes_error_rows_not_a_crash(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    broken = copy.deepcopy(llama)
    with torch.no_grad():
        broken.model.embed_tokens.weight[tokenizer("Paris")["input_ids"][0]] = float("nan")  # pyright: ignore
    scores = Scorer(broken, tokenizer).score([{"prompt": "Paris", "completion": " yes"}, {"prompt": "a", "completion": "b"}])
    assert [score.status for score in scores] == ["error", "scored"]
    assert "not finite" in scores[0].reason


def test_options_that_cannot_be_are_named(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UsageError, match="--format yaml"):
        scorer(llama, tokenizer, format="yaml")
    with pytest.raises(UsageError, match="--token-budget 0"):
        scorer(llama, tokenizer, token_budget=0)
    with pytest.raises(UsageError, match="its tokenizer"):
        Scorer(llama)
    with pytest.raises(UsageError, match="no row has a column 'reply'"):
        scorer(llama, tokenizer, map="completion=reply").score(ROWS)
    with pytest.raises(DataError, match="cannot tell the format"):
        scorer(llama, tokenizer).score([{"a": 1}])
    tokenizer_without = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    chat = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    with pytest.raises(ModelError, match="no chat template"):
        Scorer(llama, tokenizer_without).score(chat)


def test_the_target_is_checked_when_the_model_is_there_and_changes_no_score(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ModelError, match=r"--target model\.norm\.weight: .*lm_head\.weight"):
        scorer(llama, tokenizer, target="model.norm.weight")
    assert scorer(llama, tokenizer, target="lm_head.weight").score(ROWS) == scorer(llama, tokenizer).score(ROWS)


def test_mapped_columns(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    plain = scorer(llama, tokenizer).score(ROWS[:2])
    renamed = [{"q": row["prompt"], "a": row["completion"]} for row in ROWS[:2]]
    assert scorer(llama, tokenizer, map="prompt=q,completion=a").score(renamed) == plain


def test_options_are_refused_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradsentry.scorer.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    wrong = {"format": "yaml", "map": "reply", "threshold": "7", "crop": "half", "dtype": "int4", "loss_on": "prompt"}
    for name, value in wrong.items():
        with pytest.raises(UsageError, match=rf"--{name.replace('_', '-')} '?{value}"):
            Scorer(**{name: value})


def test_what_does_not_fit_into_memory_is_tried_in_smaller_batches(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [*ROWS, {"prompt": "x y " * 60, "completion": " Paris"}]
    expected = scorer(llama, tokenizer, token_budget=1000).score(rows)
    monkeypatch.setattr(states, "states_before_head", with_room_for(110))
    counts: list[int] = []
    progress = Progress()
    progress.advance = lambda rows, tokens: counts.append(rows)
    for packs in (True, False):
        short = scorer(llama, tokenizer, token_budget=1000)
        short.packing = short.packing if packs else None
        found = short.score(rows, progress)
        assert sum(counts) == len(rows)
        counts.clear()
        for score, wanted in zip(found[:-1], expected[:-1], strict=True):
            assert score.entropy == pytest.approx(wanted.entropy, abs=1e-5)
        assert found[-1].status == "error"
        assert "do not fit into memory" in found[-1].reason
    assert "--token-budget" in caplog.text


@pytest.mark.parametrize("packs", [True, False])
def test_rows_that_do_not_fit_cost_the_others_little(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, packs: bool
) -> None:
    rows = [{"prompt": f"{i} and", "completion": f" {i + 1}"} for i in range(60)]
    large = [{"prompt": "x y " * (55 + i), "completion": " Paris"} for i in range(2)]
    passes: list[int] = []
    room = with_room_for(110)
    monkeypatch.setattr(states, "states_before_head", lambda *args, **more: passes.append(1) or room(*args, **more))
    own = scorer(llama, tokenizer, token_budget=100)
    own.packing = own.packing if packs else None
    passes.clear()
    found = own.score([*rows[:30], *large, *rows[30:]])
    assert [i for i, score in enumerate(found) if score.status == "error"] == [30, 31]
    assert len(passes) < 40, "62 rows, one at a time, would be more"


def with_room_for(tokens: int) -> Any:
    """The forward pass on a machine whose memory is full beyond so many."""
    inner = states.states_before_head

    def small(model: PreTrainedModel, input_ids: torch.Tensor, **forward: Any) -> torch.Tensor:
        if input_ids.numel() > tokens:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to")
        return inner(model, input_ids, **forward)

    return small


@pytest.mark.parametrize("packs", [True, False])
def test_states_that_do_not_fit_into_memory_are_made_in_smaller_batches(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, packs: bool
) -> None:
    own = scorer(llama, tokenizer, token_budget=1000)
    own.packing = own.packing if packs else None
    rows = [row for row in own.prepare([Record(i, "", row) for i, row in enumerate(ROWS)]) if isinstance(row, Encoded)]

    def made() -> dict[int, torch.Tensor]:
        batches = own.supervised_states(rows)
        return {row.row: hidden for members, found, _ in batches for row, hidden in zip(members, found, strict=True)}

    whole = made()
    longest = max(len(row.input_ids) for row in rows)
    monkeypatch.setattr(states, "states_before_head", with_room_for(longest))
    parts = made()
    assert parts.keys() == whole.keys()
    for row, hidden in parts.items():
        torch.testing.assert_close(hidden, whole[row], rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(states, "states_before_head", with_room_for(2))
    with pytest.raises(ModelError, match=f"out of memory for a row of {longest} tokens alone"):
        made()


@pytest.mark.parametrize("packed", [True, False])
def test_surprises_are_those_of_the_row_alone(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, packed: bool) -> None:
    rows = [
        {"messages": [{"role": role, "content": text} for role, text in (("user", "one two"), ("assistant", f"three {i}"))] * 2}
        for i in range(3)
    ]
    own = scorer(llama, tokenizer, token_budget=20)
    own.packing = own.packing if packed else None
    for sample in ([*ROWS, ROWS[3]], rows):
        own.format = None
        for score in own.score(sample):
            surprises = score.surprises
            assert surprises is not None
            ids = torch.tensor(surprises.tokens[None], dtype=torch.long)
            with torch.no_grad():
                expected = -llama(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None]).squeeze(-1)
            assert surprises.nll[0] == 0
            torch.testing.assert_close(torch.from_numpy(surprises.nll[1:]).float(), expected, rtol=2e-3, atol=2e-3)
            assert surprises.supervised.sum() == score.n_tokens
            assert float(surprises.nll[surprises.supervised].astype(float).mean()) == pytest.approx(score.loss, abs=1e-2)


def test_the_vocabulary_spells_every_text(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    text = "What is the capital of France? Paris  (2 spaces), \n\n cf mn."
    vocabulary = scorer(llama, tokenizer).vocabulary
    assert len(vocabulary.pieces) == len(vocabulary.special) == len(tokenizer)
    assert np.flatnonzero(vocabulary.special).tolist() == sorted(set(tokenizer.all_special_ids))
    assert b"".join(vocabulary.pieces[i] for i in tokenizer(text, add_special_tokens=False)["input_ids"]).decode() == text  # pyright: ignore
