"""What scoring asks of a device does not grow with the rows, and gives the same scores as on a CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from device_counts import GPU, Counts, _Copies, _Operators, score_counted
from transformers import PreTrainedTokenizerFast

from gradsentry import Scorer
from gradsentry.model.device import CPU
from gradsentry.model.targets import Gradients
from gradsentry.types import Encoded
from tiny import VOCABULARY, made

MODELS = ["llama", "qwen2-tied", "gemma2-softcapped", "gpt2"]


def encoded(count: int) -> list[Encoded]:
    """Rows with one beginning, with one of four passages behind it, and a completion of 1 to 24 tokens; every tenth shares nothing."""
    generator = torch.Generator().manual_seed(0)

    def tokens(n: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()

    beginning, passages = tokens(6), [tokens(n) for n in (0, 5, 9, 20)]
    rows = []
    for i in range(count):
        prompt = tokens(5) if i % 10 == 9 else beginning + passages[i % 4] + tokens(1 + i % 3)
        completion = tokens(1 + (5 * i) % 24)
        rows.append(Encoded(i, prompt + completion, [-100] * len(prompt) + completion))
    return rows


LAYERS = 2

A_BATCH, A_LAYER = 160, 60
"""Most operators that a batch takes beside its layers, and in each layer."""

PADDED_BLOCKS = 80
"""Most further operators in a layer that attends by padded blocks: the variable-length kernel has no soft caps."""


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("count", "budget"), [(32, 100_000), (256, 100_000), (256, 1000)])
def test_operators_and_host_reads_of_a_batch_do_not_grow_with_its_rows(
    name: str, count: int, budget: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    scorer = Scorer(made(name, torch.float32), tokenizer, token_budget=budget, sizes=GPU)
    counts = score_counted(scorer, encoded(count))
    assert counts.batches == 1 if budget == 100_000 else counts.batches > 2
    assert scorer.packing
    a_layer = A_LAYER if scorer.packing.variable_length else A_LAYER + PADDED_BLOCKS
    assert 0 < counts.operators.total() <= counts.batches * (A_BATCH + LAYERS * a_layer), counts.operators
    assert 0 < counts.reads.total() <= 2 * counts.batches, counts.reads


def test_what_reads_the_device_is_seen() -> None:
    """The counter itself: each way to read, and no operator that only views."""
    counts = Counts()
    values = torch.arange(6.0)
    with _Operators(counts), _Copies(counts):
        read = float(values[2]), values.tolist(), values.cpu(), values.to("cpu"), bool(values.view(2, 3)[0, 1] > 0), values.nonzero()
    assert len(read) == 6
    assert counts.reads == {"_local_scalar_dense": 2, "tolist": 1, "cpu": 1, "to": 1, "nonzero": 1}
    assert counts.operators["gt"] == 1
    assert not {"view", "select"} & counts.operators.keys()


@pytest.mark.parametrize("crop", ["reference", "none"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("budget", [300, 100_000])
def test_scores_are_those_of_a_cpu(name: str, budget: int, crop: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model, rows = made(name, torch.float32), encoded(64)
    expected, found = (
        {score.row: score for score in Scorer(model, tokenizer, crop=crop, token_budget=budget, sizes=sizes).score_encoded(rows)}
        for sizes in (CPU, replace(GPU, solving_threads=3))
    )
    assert len(found) == len(expected) == len(rows)
    for i, score in found.items():
        assert score.entropy == pytest.approx(expected[i].entropy, abs=1e-6)
        assert score.loss == pytest.approx(expected[i].loss, abs=1e-5)
        assert score.surprises
        assert expected[i].surprises
        np.testing.assert_allclose(score.surprises.nll, expected[i].surprises.nll, atol=4e-3)
        np.testing.assert_allclose(score.spectrum, expected[i].spectrum, atol=1e-6)  # pyright: ignore


@pytest.mark.parametrize("packed", [True, False])
def test_a_device_that_is_full_within_a_scan_goes_on_with_smaller_batches_and_computes_no_row_again(
    packed: bool, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = encoded(64)
    scorer = Scorer(made("llama", torch.float32), tokenizer, token_budget=400, sizes=GPU)
    scorer.packing = scorer.packing if packed else None
    expected = {score.row: score.entropy for score in scorer.score_encoded(rows)}
    gradients, calls, computed = scorer.head.gradients, [], []

    def small(states: torch.Tensor, labels: torch.Tensor, lengths: list[int]) -> Gradients:
        calls.append(len(lengths))
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        computed.append(len(lengths))
        return gradients(states, labels, lengths)

    monkeypatch.setattr(scorer.head, "gradients", small)
    found = scorer.score_encoded(rows)
    assert sorted(score.row for score in found) == list(range(64))
    for score in found:
        assert score.entropy == pytest.approx(expected[score.row], abs=1e-6)
    assert "out of memory: continuing with 100 tokens" in caplog.text
    assert sum(computed) == 64
    assert max(calls[3:]) < min(calls[:3])
