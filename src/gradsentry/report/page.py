"""``report.html``: one file, no script, no network, everything from the data escaped."""

from __future__ import annotations

from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from gradsentry.decide import Decision, scored_entropies
from gradsentry.evidence.finding import REASONS
from gradsentry.report.text import visible

BARS = 50
"""Bars of the histogram over [0, 1]."""
WIDTH, HEIGHT = 720, 160
"""Size of the drawing in its own units."""


def render(document: dict[str, Any], decision: Decision) -> str:
    """The page of a run.

    Args:
        document: from `report_document`. decision: for the distribution of all entropies.
    """
    environment = Environment(loader=PackageLoader("gradsentry.report"), autoescape=select_autoescape(default=True), trim_blocks=True)
    environment.filters["visible"] = visible
    return environment.get_template("report.html.j2").render(
        **document, bars=histogram(decision), width=WIDTH, height=HEIGHT, verdict=verdict_line(document), reasons=REASONS
    )


def histogram(decision: Decision) -> list[dict[str, float | int]]:
    """Bars of the entropies' distribution: position and size in drawing units, the rows in each, and its range."""
    entropies = scored_entropies(decision.verdicts)
    rows, edges = np.histogram(entropies, bins=BARS, range=(0.0, 1.0))
    tallest = max(1, int(rows.max()))
    step = WIDTH / BARS
    return [
        {
            "x": i * step,
            "width": step - 1,
            "height": HEIGHT * int(count) / tallest,
            "rows": int(count),
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
        }
        for i, count in enumerate(rows)
    ]


def verdict_line(document: dict[str, Any]) -> str:
    """The result in one sentence."""
    counts, threshold = document["counts"], document["threshold"]
    if threshold is None:
        return f"Nothing could be scored: none of the {counts['rows']:,} rows has a supervised token."
    if counts["flagged"] == 0:
        return f"Nothing found in {counts['rows']:,} rows."
    share = 100 * counts["flagged"] / counts["rows"]
    return f"{counts['flagged']:,} of {counts['rows']:,} rows ({share:.1f} %) look poisoned."
