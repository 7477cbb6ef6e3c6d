"""The published rule with other constants: the same rule on other spectra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradsentry import Scorer, spectrum
from gradsentry.bench.filters import FILTERS
from gradsentry.bench.filters.base import scored
from gradsentry.bench.filters.ours import by_fewer
from gradsentry.bench.training import TargetModel


def test_all_values_are_the_published_rule(target: TargetModel, planted: Any) -> None:
    rows, _ = planted
    measured, chosen = scored(target, rows), np.arange(len(rows))
    published, own = FILTERS["paper"].decide(measured, chosen, rows, 0), by_fewer(16)(measured, chosen, rows, 0)
    assert own.scores == pytest.approx(published.scores, abs=1e-6)
    assert own.flagged.tolist() == published.flagged.tolist()


def test_fewer_values_are_the_entropy_of_those(target: TargetModel, planted: Any) -> None:
    rows, _ = planted
    measured, chosen = scored(target, rows), np.array([7, 150, 3])
    for name, k in (("paper-k4", 4), ("paper-k8", 8)):
        kept = [torch.as_tensor(measured.scores[i].spectrum)[:k] for i in chosen]
        found = FILTERS[name].decide(measured, chosen, [rows[i] for i in chosen], 0).scores
        assert found == pytest.approx([float(spectrum.entropy(values.double(), k)) for values in kept], abs=1e-12)


def test_uncropped_is_a_scorer_without_a_crop(target: TargetModel, planted: Any, model_dir: Any) -> None:
    rows = planted[0][:20]
    found = FILTERS["paper-uncropped"].measure(target, rows).scores
    plain = Scorer(model_dir, crop="none", device="cpu", dtype="float32", format="prompt-completion").score(rows)
    assert [score.entropy for score in found] == [score.entropy for score in plain]
    assert [score.entropy for score in found] != [score.entropy for score in scored(target, rows).scores]
