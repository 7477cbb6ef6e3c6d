"""The drawings of the page, as numbers for the template: entropy against tokens, and the evidence of a finding by its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradsentry.verdict.combine import Decision
from gradsentry.verdict.finding import Finding

WIDTH, HEIGHT = 720, 260
"""Size of the scatter plot, in its view box's units."""

MOST_POINTS = 2000
"""Points of one decision that are drawn; of more rows, some at even places."""

MARGIN = math.log(1.5)
"""Of the logarithmic axis, so that rows of one length have an axis too."""

TICKS = (1, 2, 5)
"""Tokens are marked at these times powers of ten."""


@dataclass(frozen=True)
class Dots:
    """The rows of one decision in the scatter plot."""

    name: str
    rows: int
    drawn: int
    path: str
    """A subpath of length 0 for each row: its round or square ends are the dot."""
    text: str
    """Entropies and tokens in words."""


@dataclass(frozen=True)
class Scatter:
    """Entropy, upwards from 0 to 1, against tokens, on a logarithmic axis."""

    dots: Sequence[Dots]
    """Kept, suspect and flagged, in the order of drawing."""
    ticks: Sequence[tuple[float, str]]
    """(x, tokens)."""
    threshold: float
    """y of the threshold."""


def scatter(decision: Decision) -> Scatter | None:
    """The scored rows, by what was decided; None if no row was scored."""
    scored = decision.verdicts["entropy"].is_valid().to_numpy()
    if decision.threshold is None or not scored.any():
        return None
    entropy = decision.verdicts["entropy"].to_numpy()
    tokens = decision.verdicts["n_tokens"].to_numpy()
    flagged, suspect = decision.flagged, decision.suspected
    shortest, longest = (int(limit(tokens[scored])) for limit in (np.min, np.max))
    low, high = math.log(max(1, shortest)) - MARGIN, math.log(max(1, longest)) + MARGIN
    kinds = {"kept": scored & ~flagged & ~suspect, "suspect, kept": scored & ~flagged & suspect, "flagged": scored & flagged}

    def dots(name: str, chosen: NDArray[np.bool_]) -> Dots:
        rows = np.flatnonzero(chosen)
        drawn = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).astype(int)] if len(rows) else rows
        x = WIDTH * (np.log(np.maximum(tokens[drawn], 1)) - low) / (high - low)
        y = HEIGHT * (1 - entropy[drawn])
        path = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x.tolist(), y.tolist(), strict=True))
        return Dots(name, len(rows), len(drawn), path, _middle(entropy[rows], tokens[rows]) if len(rows) else "")

    marks = [step * 10**power for power in range(math.ceil(math.log10(longest + 1)) + 1) for step in TICKS]
    ticks = [(WIDTH * (math.log(mark) - low) / (high - low), f"{mark:,}") for mark in marks if low <= math.log(mark) <= high]
    return Scatter([dots(*kind) for kind in kinds.items()], ticks, HEIGHT * (1 - decision.threshold.value))


def _middle(entropy: NDArray[np.float64], tokens: NDArray[np.int64]) -> str:
    """Where most of some rows lie."""
    (low, middle, high), (few, many) = np.quantile(entropy, [0.05, 0.5, 0.95]), np.quantile(tokens, [0.05, 0.95])
    length = f"{few:,.0f} to {many:,.0f}" if few < many else f"{few:,.0f}"
    return f"median entropy {middle:.2f}, 90 % from {low:.2f} to {high:.2f}; 90 % have {length} tokens"


def evidence_parts(finding: Finding, most: float) -> list[tuple[str, float, float]]:
    """(part, start, width) of the finding's bar, in per cent of `most` nats."""
    made, start = [], 0.0
    for part, nats in finding.evidence.items():
        width = max(0.0, 100 * nats / most)
        made.append((part, start, width))
        start += width
    return made
