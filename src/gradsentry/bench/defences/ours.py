"""GradSentry itself, both policies of `gradsentry scan`, from one forward pass.

`paper`: spectral entropy of the row's gradient at the output projection, cropped to its first eighths, and the threshold that is
found in the entropies, or 0.7 (GradSentry, arXiv 2605.26574, sections 4.2 and 4.3).

`evidence`: what the scan does unless told otherwise: spans of completion that surprise the model, recur, and go with a trigger in the
prompt (docs/evidence.md). The entropy flags nothing there.
"""

from __future__ import annotations

import numpy as np

from gradsentry.bench.defences import Defence, Rows, Verdicts
from gradsentry.bench.defences.passes import Places, Scored, above_threshold, scored, values
from gradsentry.verdict.detectors import find_all
from gradsentry.verdict.words import MemoryWords

SMALLEST = 1e-300
"""A p below this counts as this: the strongest findings underflow to 0."""


def by_entropy(measured: Scored, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
    """The published rule and nothing else; the score is the entropy."""
    return above_threshold(values(measured, chosen, lambda score: score.entropy or 0.0))


def by_evidence(measured: Scored, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
    """The rows of every finding that is taken for a backdoor.

    The score is -log10 p of the strongest such finding that holds the row (at least 1, as p is at most 0.1), and 0 for all others: the
    policy says nothing of rows that it does not flag, so an AUROC of it is that of its verdicts.
    """
    strength = np.zeros(len(chosen))
    for finding in find_all(MemoryWords.of_scores((measured.scores[i] for i in chosen.tolist()), measured.vocabulary)):
        if finding.kind == "backdoor":
            strength[finding.rows] = np.maximum(strength[finding.rows], -np.log10(max(finding.p, SMALLEST)))
    return Verdicts(strength > 0, strength)


PAPER = Defence(
    "GradSentry's published rule: entropy of the gradient's spectrum, automatic threshold (Zhao et al. 2026)", scored, by_entropy
)
EVIDENCE = Defence("GradSentry's evidence policy: recurrent surprise that goes with a trigger", scored, by_evidence)
