"""Decisions and documents made from entropies alone, without a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from gradsentry.config import ScanConfig
from gradsentry.data.sources import open_source
from gradsentry.report.document import Previews, report_document, rows_to_show
from gradsentry.report.html import render
from gradsentry.report.places import RowPlaces, Visitors
from gradsentry.report.rows import RowText
from gradsentry.schema import SCORES
from gradsentry.verdict.combine import Decision, combine
from gradsentry.verdict.words import RowWords


def manifest(**names: str) -> dict[str, Any]:
    """What `scan` writes of a run, as far as the report reads it."""
    return {
        "data": {"name": names.get("data", "data.jsonl")},
        "identity": {"data": "f1"},
        "model": {"name": names.get("model", "tiny"), "revision": "", "dtype": "float32"},
        "config": {"policy": "paper", "crop": "reference", "format": "prompt-completion"},
        "started": "2026-01-01T00:00:00+00:00",
        "notes": [names["note"]] if "note" in names else [],
    }


def decision_of(entropies: list[float | None], threshold: str, reasons: list[str] | None = None) -> Decision:
    """A decision on rows with these entropies; None is a row that could not be read."""
    reasons = reasons or ["" if entropy is not None else "broken" for entropy in entropies]
    lines = [
        {"row": i, "status": "error" if e is None else "scored", "entropy": e, "n_tokens": 3, "loss": 1.0, "reason": r}
        for i, (e, r) in enumerate(zip(entropies, reasons, strict=True))
    ]
    return combine(pa.Table.from_pylist(lines, schema=SCORES), threshold)


def texts_of(decision: Decision, rows: list[dict[str, Any]]) -> dict[int, RowText]:
    """The texts of the rows that a report shows."""
    source = open_source(rows)
    return Previews(rows_to_show(decision), ScanConfig(format="prompt-completion")).read(source, source.plan(2))


def document_of(decision: Decision, rows: list[dict[str, Any]], **names: str) -> dict[str, Any]:
    """The content of ``report.json``."""
    source, places = open_source(rows), RowPlaces(decision)
    Visitors(places).read(source, source.plan(2))
    return report_document(decision, manifest(**names), texts_of(decision, rows), places)


def html_of(decision: Decision, rows: list[dict[str, Any]], words: dict[int, RowWords] | None = None, **names: str) -> str:
    """The page, as a run writes it."""
    texts = texts_of(decision, rows)
    return render(document_of(decision, rows, **names), decision, manifest(**names), texts, words or {}, Path("run/kept.jsonl"))
