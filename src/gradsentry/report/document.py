"""The content of ``report.json``, and the rows that it shows as text: ``--json`` prints it, the page and the console show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.compute
from numpy.typing import NDArray

from gradsentry._version import __version__
from gradsentry.config import ScanConfig
from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.detect import parse_mapping, to_sample
from gradsentry.data.sources import Source
from gradsentry.errors import RowProblem
from gradsentry.escape import one_line, visible, visible_values
from gradsentry.report.locate import cut_around, effect_spans, trigger_spans
from gradsentry.report.places import RowPlaces, review_document
from gradsentry.report.rows import RowText, Turn, turns_of
from gradsentry.report.taxonomy import taxonomy
from gradsentry.types import Record, Shard, TokenSample
from gradsentry.verdict.combine import Decision
from gradsentry.verdict.finding import Finding, Kind
from gradsentry.verdict.reviewed import fingerprint_of

pc: Any = pyarrow.compute  # defines its functions at import time, which type checkers cannot see

SCHEMA_VERSION = 1
LISTED = 1000
"""Flagged rows, and unscored rows, that the report lists; ``verdicts.parquet`` has all of them."""
EXAMPLES = 3
"""Rows that the report shows of each finding."""
ROWS_OF: dict[Kind, int] = {"backdoor": 100, "suspect": 20, "explained": EXAMPLES, "dismissed": 20}
"""Rows that the page shows of a finding of each kind."""
LISTED_BY_ENTROPY = 200
"""Rows that the page shows of those flagged for their entropy alone, and of those that a person decided on alone."""
PREVIEW = 600
"""Characters of a prompt or completion in the JSON, around the trigger or the effect; the page has the whole text."""


def rows_to_show(decision: Decision) -> set[int]:
    """The rows whose texts the report needs."""
    of_findings = (row for finding in decision.findings for row in listed_rows(finding))
    return {
        *_flagged(decision),
        *_unscored(decision),
        *entropy_alone(decision)[:LISTED_BY_ENTROPY].tolist(),
        *rows_decided_alone(decision),
        *of_findings,
    }


def entropy_alone(decision: Decision) -> NDArray[np.int64]:
    """The rows that are flagged for their entropy, for no finding and by no person, highest first."""
    alone = decision.flagged.copy()
    alone[list(decision.row_reviews)] = False
    for finding in decision.findings:
        alone[finding.rows] &= finding.kind != "backdoor"
    return _by_entropy(decision, alone)


def rows_decided_alone(decision: Decision) -> list[int]:
    """The rows that a person decided on alone and the page shows."""
    return list(decision.row_reviews)[:LISTED_BY_ENTROPY]


def listed_rows(finding: Finding) -> list[int]:
    """The rows of a finding that the page shows: its examples, then its first rows."""
    examples = _examples(finding)
    others = [row for row in finding.rows[: ROWS_OF[finding.kind]].tolist() if row not in examples]
    return [*examples, *others][: ROWS_OF[finding.kind]]


def _flagged(decision: Decision) -> list[int]:
    """The flagged rows of highest entropy, highest first."""
    return _by_entropy(decision, decision.flagged)[:LISTED].tolist()


def _by_entropy(decision: Decision, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows = chosen.nonzero()[0]
    return rows[np.argsort(-decision.verdicts["entropy"].to_numpy()[rows], kind="stable")]


def _unscored(decision: Decision) -> list[int]:
    """The first rows that could not be scored."""
    return pc.indices_nonzero(pc.not_equal(decision.verdicts["status"], "scored"))[:LISTED].to_pylist()


def _examples(finding: Finding) -> list[int]:
    """The first row of a finding, one in the middle, and the last."""
    rows = finding.rows
    return sorted({int(rows[i]) for i in np.linspace(0, len(rows) - 1, EXAMPLES).astype(int)})


def report_document(decision: Decision, manifest: dict[str, Any], texts: dict[int, RowText], places: RowPlaces) -> dict[str, Any]:
    """The machine-readable result of a run.

    Args:
        texts: by row, of `rows_to_show`. places: of the rows that it wants.
    """
    shown = np.array(list(texts), dtype=np.int64)
    lines = {verdict["row"]: verdict for verdict in decision.verdicts.take(shown).to_pylist()}
    for line in decision.evidence.take(shown).to_pylist():
        lines[line["row"]] |= {"beyond_length": line["beyond_length"], "finding": line["finding"]}

    def listed(rows: list[int]) -> list[dict[str, Any]]:
        names = ("row", "status", "entropy", "beyond_length", "n_tokens", "loss", "reason")
        finding = {row: decision.findings[number - 1] for row in rows if row in lines and (number := lines[row].get("finding"))}
        return [{name: lines[row].get(name) for name in names} | _preview(texts[row], finding.get(row)) for row in rows if row in texts]

    config, model = manifest["config"], manifest["model"]
    document = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "gradsentry", "version": __version__},
        "run": {
            "data": one_line(manifest["data"]["name"]),
            "model": one_line(model["name"]),
            "revision": model["revision"],
            "dtype": model["dtype"],
            "policy": config["policy"],
            "keep_unexamined": decision.keep_unexamined,
            "by_entropy": decision.by_entropy,
            "crop": config["crop"],
            "format": config["format"],
            "supervised": FORMATS[config["format"]].describe_supervised(config.get("loss_on")),
            "started": manifest["started"],
            "seconds": manifest.get("seconds"),
        },
        "verdict": decision.level,
        "answered": decision.answered,
        "threshold": decision.threshold and asdict(decision.threshold) | {"problems": list(decision.threshold.problems)},
        "above_threshold": decision.above,
        "counts": decision.counts,
        "findings": [_finding(number, finding, texts, places) for number, finding in enumerate(decision.findings, start=1)],
        "rows": places.listed(manifest["data"]["name"]),
        "flagged": listed(_flagged(decision)),
        "unscored": listed(_unscored(decision)),
        "listed_at_most": LISTED,
        "taxonomy": taxonomy(),
        "notes": [visible(note) for note in dict.fromkeys([*manifest.get("notes", ()), *decision.notes])],
    }
    return visible_values(document)


def _finding(number: int, finding: Finding, texts: dict[int, RowText], places: RowPlaces) -> dict[str, Any]:
    return {
        "number": number,
        "kind": finding.kind,
        "found_as": finding.found_as or finding.kind,
        "fingerprint": fingerprint_of(finding, places.sha256),
        "review": review_document(finding.review),
        "sentence": visible(finding.sentence),
        "triggers": [visible(trigger, PREVIEW) for trigger in finding.triggers],
        "side": finding.side or None,
        "payload": visible(finding.payload, PREVIEW) or None,
        "effect": visible(finding.effect, PREVIEW) or None,
        "prompts_with_trigger": finding.prompts if finding.triggers else None,
        "answers_with_effect": finding.showing,
        "expected_share": round(finding.expected, 4),
        "evidence": dict(finding.evidence),
        "nats": round(finding.nats, 1),
        "explanation": visible(finding.why, PREVIEW) or None,
        "rows": finding.rows.tolist(),
        "examples": [{"row": row} | _preview(texts[row], finding) for row in _examples(finding) if row in texts],
    }


def _preview(text: RowText, finding: Finding | None) -> dict[str, str]:
    """The row's place, prompt and completion, cut around the trigger and the effect of its finding."""
    prompt, completion = text.side(answer=False), text.side(answer=True)
    trigger, effect = (trigger_spans(finding, [prompt])[0], effect_spans(finding, [completion])[0]) if finding else ([], [])
    cut = {"prompt": cut_around(prompt, trigger, PREVIEW), "completion": cut_around(completion, effect, PREVIEW)}
    return {"place": one_line(text.place)} | {name: visible(value) for name, value in cut.items()}


class Previews:
    """The texts of some rows. Feed it every record of a pass over the data, or let it read the shards that hold the rows."""

    def __init__(self, wanted: Iterable[int], config: ScanConfig) -> None:
        self.wanted = frozenset(wanted)
        self.rows: dict[int, RowText] = {}
        self._format, self._mapping = FORMATS[config.format or "text"], parse_mapping(config.map)

    def add(self, record: Record) -> None:
        """Keep the record's text if it is a wanted row."""
        if record.row not in self.wanted:
            return
        turns: tuple[Turn, ...] = ()
        is_text = True
        if record.value is not None:
            try:
                sample = to_sample(record.value, self._format, self._mapping)
                turns, is_text = turns_of(sample), not isinstance(sample, TokenSample)
            except RowProblem:
                columns = ", ".join(f"{name}: {value!r}"[:PREVIEW] for name, value in record.value.items())
                turns = (Turn("", columns, True),)
        self.rows[record.row] = RowText(record.place, turns, is_text)

    def read(self, source: Source, shards: Sequence[Shard]) -> dict[int, RowText]:
        """Read the shards that hold wanted rows, and return `rows`."""
        for shard in shards:
            if not self.wanted.isdisjoint(range(shard.start, shard.stop)):
                for record in source.read(shard):
                    self.add(record)
        return self.rows
