"""The published rule with one of its constants changed: what the rank k and the crop are worth (arXiv 2605.26574, section 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradsentry import spectrum
from gradsentry.bench.defences import Defence, Rows, Subject, Verdicts
from gradsentry.bench.defences.ours import by_entropy
from gradsentry.bench.defences.passes import Places, Scored, above_threshold, scored, values
from gradsentry.scorer import Scorer
from gradsentry.types import Score


def by_fewer(k: int) -> Callable[[Scored, Places, Rows, int], Verdicts]:
    """The published rule on the entropy of the k largest singular values, k below the usual 16."""

    def entropy(score: Score) -> float:
        return float(spectrum.entropy(torch.as_tensor(score.spectrum, dtype=torch.float64), k))

    def decide(measured: Scored, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
        return above_threshold(values(measured, chosen, entropy))

    return decide


def uncropped(subject: Subject, rows: Rows) -> Scored:
    """One forward pass; the spectra are of the whole gradient."""
    loaded = subject.scorer.loaded
    scorer = Scorer(loaded.model, loaded.tokenizer, crop="none", device=subject.device, format="prompt-completion")
    return Scored(scorer.score(rows), scorer.vocabulary)


RANK_4 = Defence("the published rule with k = 4", scored, by_fewer(4))
RANK_8 = Defence("the published rule with k = 8", scored, by_fewer(8))
UNCROPPED = Defence("the published rule on the whole gradient", uncropped, by_entropy)
