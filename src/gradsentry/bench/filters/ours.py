"""GradSentry itself, both policies of `gradsentry scan`, from one forward pass.

`paper`: spectral entropy of the row's gradient at the output projection, cropped to its first eighths, and a threshold chosen from the
entropies, or 0.7 (GradSentry, arXiv 2605.26574, sections 4.2 and 4.3).

`evidence`: the default of a scan: triggers that look inserted and change the answers (docs/evidence.md). The entropy flags nothing there.

`paper-k4`, `paper-k8`, `paper-uncropped`: the published rule with another rank k, or without the crop (section 5 of the paper).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from gradsentry import spectrum
from gradsentry.bench.filters.base import Filter, Places, Rows, Scored, Verdicts, above_threshold, scored, values
from gradsentry.bench.training import TargetModel
from gradsentry.scorer import Scorer
from gradsentry.types import Score
from gradsentry.verdict.detectors import find_all
from gradsentry.verdict.words import MemoryWords


def by_entropy(measured: Scored, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
    """The published rule alone; the score is the entropy."""
    return above_threshold(values(measured, chosen, lambda score: score.entropy or 0.0))


def by_evidence(measured: Scored, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
    """The rows of every finding of kind "backdoor".

    The score is the nats of the row's strongest such finding, and 0 for all other rows: the policy does not rank rows that it does not
    flag, so its AUROC is that of its verdicts.
    """
    strength = np.zeros(len(chosen))
    for finding in find_all(MemoryWords.of_scores((measured.scores[i] for i in chosen.tolist()), measured.vocabulary)):
        if finding.kind == "backdoor":
            strength[finding.rows] = np.maximum(strength[finding.rows], finding.nats)
    return Verdicts(strength > 0, strength)


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


PAPER = Filter(
    "GradSentry's published rule: entropy of the gradient's spectrum, automatic threshold (Zhao et al. 2026)", scored, by_entropy
)
EVIDENCE = Filter("GradSentry's evidence policy: triggers that look inserted and change the answers", scored, by_evidence)
RANK_4 = Filter("the published rule with k = 4", scored, by_fewer(4))
RANK_8 = Filter("the published rule with k = 8", scored, by_fewer(8))
UNCROPPED = Filter("the published rule on the whole gradient", uncropped, by_entropy)
