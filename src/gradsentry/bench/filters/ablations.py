"""The published rule with another rank k, or without the crop (arXiv 2605.26574, section 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradsentry import spectrum
from gradsentry.bench.filters.base import Filter, Places, Rows, Verdicts
from gradsentry.bench.filters.ours import by_entropy
from gradsentry.bench.filters.passes import Scored, above_threshold, scored, values
from gradsentry.bench.target_model import TargetModel
from gradsentry.scorer import Scorer
from gradsentry.types import Score


def by_fewer(k: int) -> Callable[[Scored, Places, Rows, int], Verdicts]:
    """The published rule on the entropy of the k largest singular values, k below the usual 16."""

    def entropy(score: Score) -> float:
        return float(spectrum.entropy(torch.as_tensor(score.spectrum, dtype=torch.float64), k))

    def decide(measured: Scored, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
        return above_threshold(values(measured, chosen, entropy))

    return decide


def uncropped(target: TargetModel, rows: Rows) -> Scored:
    """One forward pass; the spectra are those of the whole gradient."""
    loaded = target.scorer.loaded
    scorer = Scorer(loaded.model, loaded.tokenizer, crop="none", device=target.device, format="prompt-completion")
    return Scored(scorer.score(rows), scorer.vocabulary)


RANK_4 = Filter("the published rule with k = 4", scored, by_fewer(4))
RANK_8 = Filter("the published rule with k = 8", scored, by_fewer(8))
UNCROPPED = Filter("the published rule on the whole gradient", uncropped, by_entropy)
