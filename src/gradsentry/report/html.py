"""``report.html``: one file, no script, no network, everything from the data escaped."""

from __future__ import annotations

from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from gradsentry.report.escape import visible
from gradsentry.verdict.combine import Decision, scored_entropies
from gradsentry.verdict.finding import REASONS

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
        **document,
        bars=histogram(decision),
        width=WIDTH,
        height=HEIGHT,
        verdict=verdict_line(document),
        not_examined=not_examined_line(document),
        reasons=REASONS,
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
        return f"Nothing could be scored in {_rows(counts['rows'])}."
    if counts["flagged"] == 0:
        if counts["scored"] < counts["rows"]:
            return f"Nothing found in the {_rows(counts['scored'])} that could be scored."
        return f"Nothing found in {counts['rows']:,} rows."
    share = 100 * counts["flagged"] / counts["rows"]
    return f"{counts['flagged']:,} of {counts['rows']:,} rows ({share:.1f} %) look poisoned."


def not_examined_line(document: dict[str, Any]) -> str:
    """How many rows nothing is known of, where they are, and why the first is one of them; empty where all were scored.

    The verdict does not speak of them, and who poisons a row may choose that it cannot be read.
    """
    unscored = document["unscored"]
    if not unscored:
        return ""
    place, reason = unscored[0]["place"], " ".join(unscored[0]["reason"].split())
    first = reason if reason.startswith(place) else f"{place}: {reason}"
    count = document["counts"]["rows"] - document["counts"]["scored"]
    were, they, are = ("was", "it", "It is") if count == 1 else ("were", "they", "They are")
    return visible(f"{_rows(count)} {were} NOT examined: {they} could not be read or scored. {are} in kept. The first: {first}")


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
