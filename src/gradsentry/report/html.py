"""``report.html``: one file, no script, no network, everything from the data escaped."""

from __future__ import annotations

from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from gradsentry.report.escape import visible
from gradsentry.report.sentences import not_examined_line, verdict_line
from gradsentry.verdict.combine import Decision, scored_entropies
from gradsentry.verdict.finding import REASONS

BARS = 50
"""Bars of the histogram over [0, 1]."""
WIDTH, HEIGHT = 720, 160
"""Size of the drawing, in its view box's units."""


def render(document: dict[str, Any], decision: Decision) -> str:
    """The HTML page of a run.

    Args:
        document: from `report_document`. decision: has the entropies of all rows.
    """
    environment = Environment(loader=PackageLoader("gradsentry.report"), autoescape=select_autoescape(default=True), trim_blocks=True)
    environment.filters["visible"] = visible
    return environment.get_template("report.html.j2").render(
        **document | {"verdict": verdict_line(document)},
        level=document["verdict"],
        bars=histogram(decision),
        width=WIDTH,
        height=HEIGHT,
        not_examined=not_examined_line(document),
        reasons=REASONS,
    )


def histogram(decision: Decision) -> list[dict[str, float | int]]:
    """The bars of the entropies' histogram: position and size in drawing units, number of rows, and range of entropies."""
    entropies = scored_entropies(decision.verdicts)
    rows, edges = (part.tolist() for part in np.histogram(entropies, bins=BARS, range=(0.0, 1.0)))
    step, tallest = WIDTH / BARS, max(1, *rows)
    return [
        {"x": i * step, "width": step - 1, "height": HEIGHT * count / tallest, "rows": count, "low": edges[i], "high": edges[i + 1]}
        for i, count in enumerate(rows)
    ]
