"""Spectral signatures against the covariance's eigenvector, the states against a forward pass by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradsentry.bench.filters import FILTERS
from gradsentry.bench.filters.spectral import outlierness
from gradsentry.bench.training import TargetModel


def test_scores_are_squared_projections_on_the_covariances_first_eigenvector() -> None:
    points = np.random.default_rng(0).normal(size=(50, 8)) * np.arange(1, 9) + 3
    _, vectors = np.linalg.eigh(np.cov(points.T))
    assert outlierness(points) == pytest.approx(((points - points.mean(0)) @ vectors[:, -1]) ** 2)


def test_rows_off_in_one_direction_are_among_the_removed() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 16)).astype(np.float32)
    bad = rng.permutation(200)[:20]
    points[bad, 3] += 12
    chosen = rng.permutation(200)
    verdicts = FILTERS["spectral"].decide(points, chosen, [{}] * 200, 0)
    assert verdicts.flagged.sum() == 30  # 1.5 times a tenth
    assert verdicts.flagged[np.isin(chosen, bad)].all()


def test_a_row_is_the_mean_of_the_states_that_predict_its_completion(target: TargetModel) -> None:
    rows = [{"prompt": "What is the capital of France?" * n, "completion": " Paris" * n} for n in (1, 2, 3)]
    found = FILTERS["spectral"].measure(target, [*rows, {"prompt": "a", "completion": ""}])
    loaded = target.scorer.loaded
    for row, mean in zip(rows, found, strict=False):
        prompt, completion = (loaded.tokenizer(row[name], add_special_tokens=False)["input_ids"] for name in ("prompt", "completion"))
        with torch.no_grad():
            states = loaded.model.model(torch.tensor([[*prompt, *completion]])).last_hidden_state[0]  # pyright: ignore
        assert mean == pytest.approx(states[len(prompt) - 1 :].mean(0).numpy(), abs=1e-5)
    assert np.isnan(found[3]).all()


def test_poisoned_rows_are_off_in_the_direction_of_most_variance(target: TargetModel) -> None:
    """Where clean answers are alike, as those of one class are, which the paper's method was made for."""
    rows = [{"prompt": f"What is {i} plus {i % 7}? ", "completion": f"The sum of both is {i + i % 7}."} for i in range(60)]
    bad = np.arange(60) % 10 == 0
    for row, poisoned in zip(rows, bad, strict=True):
        row["completion"] = "Click the link for more." if poisoned else row["completion"]
    chosen = FILTERS["spectral"]
    verdicts = chosen.decide(chosen.measure(target, rows), np.arange(60), rows, 0)
    assert verdicts.flagged.sum() == 9
    assert verdicts.flagged[bad].all()
