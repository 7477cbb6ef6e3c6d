"""``report.html``: one file, no script, no network, everything from the data escaped."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from gradsentry.config import ScanConfig
from gradsentry.escape import visible
from gradsentry.report import plots
from gradsentry.report.document import LISTED_BY_ENTROPY, entropy_alone, rows_decided_alone
from gradsentry.report.marked import LEVELS, readable
from gradsentry.report.page import Cards
from gradsentry.report.rows import RowText
from gradsentry.report.sentences import entropy_line, not_examined_line, verdict_line
from gradsentry.verdict.combine import Decision
from gradsentry.verdict.finding import REASONS
from gradsentry.verdict.planted.search import FLAGGED
from gradsentry.verdict.words import RowWords


def environment() -> Environment:
    """Where the templates of pages are; all that they show is escaped."""
    made = Environment(
        loader=PackageLoader("gradsentry.report"), autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"visible": visible, "readable": readable}
    return made


def render(
    document: dict[str, Any],
    decision: Decision,
    manifest: Mapping[str, Any],
    texts: Mapping[int, RowText],
    words: Mapping[int, RowWords],
    kept: Path | None,
) -> str:
    """The HTML page of a run.

    Args:
        document: from `report_document`. manifest: of the run. texts: by row, of `rows_to_show`. words: of the same rows, as far as
            known. kept: where the run writes the rows to keep; None: nowhere.
    """
    cards = Cards(decision, texts, words)
    widest = max([FLAGGED, *(finding.nats for finding in decision.findings)])
    alone = entropy_alone(decision)
    entropy = entropy_line(document)
    findings = [cards.finding(number, widest) for number in range(1, len(decision.findings) + 1)]
    run = document["run"] | {"data": manifest["data"]["name"], "model": manifest["model"]["name"]}  # the page names what JSON escapes
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            **document | {"run": run, "findings": findings, "verdict": verdict_line(document)},
            level={"poisoned": "bad", "look": "look", "nothing found": "ok"}[document["verdict"]],
            not_examined=not_examined_line(document),
            steps=next_steps(document, manifest, kept) if kept else [("Train on the rows that are kept:", "result.clean(data)")],
            reasons=REASONS,
            needed=FLAGGED,
            needed_at=100 * FLAGGED / widest,
            alone=[cards.row(row) for row in alone[:LISTED_BY_ENTROPY].tolist()],
            alone_rows=len(alone),
            decided=[cards.row(row) for row in rows_decided_alone(decision)],
            decided_rows=len(decision.row_reviews),
            plot=plots.scatter(decision),
            width=plots.WIDTH,
            height=plots.HEIGHT,
            entropy=entropy[:1].upper() + entropy[1:],
            shaded=bool(words),
            levels=LEVELS,
            facts=_facts(document, manifest),
        )
    )


def next_steps(document: dict[str, Any], manifest: Mapping[str, Any], kept: Path) -> list[tuple[str, str]]:
    """(what to do after a scan, the command or file for it, which may be empty)."""
    counts, run = document["counts"], shlex.quote(str(kept.parent))
    suspects = any(finding["kind"] == "suspect" for finding in document["findings"])
    steps = []
    if counts["flagged"]:
        flagged = kept.with_name(kept.name.replace("kept", "flagged", 1))
        steps.append(("Read what was found below. If it is poison, train on the rows that are kept:", str(kept)))
        steps.append(("The rows that are flagged are in:", str(flagged)))
        if suspects:
            steps.append(("The rows of suspects are kept too: read them.", ""))
    elif suspects:
        steps.append(("Read the suspects below. Their rows are kept in:", str(kept)))
    elif counts["scored"]:
        steps.append(("Train on the rows that are kept:", str(kept)))
    if counts["flagged"] or suspects:
        steps.append(("Dismiss what is a habit of clean data, and accept the suspects that are poison:", f"gradsentry review {run}"))
        steps.append(("Then split the rows by your decisions:", split_command(manifest, kept.parent)))
    shown = [*document["flagged"], *(row for finding in document["findings"] for row in finding["examples"])]
    if shown:
        steps.append(("Look at one row, by its number or its place:", f"gradsentry explain {run} {shown[0]['row']}"))
    if document["threshold"] is not None and not document["run"]["by_entropy"]:
        steps.append(("See what the published rule would flag; this changes nothing:", f"gradsentry filter {run} --policy paper --dry-run"))
    if counts["scored"] < counts["rows"]:
        data = shlex.quote(str(manifest["data"].get("reopen") or manifest["data"]["name"]))
        again = f"gradsentry scan {data} --out {shlex.quote(str(kept.parent) + '-2')}"
        steps.append(("Mend the rows that were not examined, then scan again:", again))
    return steps


def split_command(manifest: Mapping[str, Any], run: Path) -> str:
    """The command that splits the rows of a run again by the rule that it has; `filter` keeps the policy by itself."""
    config = manifest["config"]
    threshold = f" --threshold {config['threshold']}" if config.get("threshold", "auto") != "auto" else ""
    allow = f" --allow {shlex.quote(config['allow'])}" if config.get("allow") else ""
    return f"gradsentry filter {shlex.quote(str(run))}{threshold}{allow}"


def _facts(document: dict[str, Any], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was scanned, with what, when."""
    run, config = document["run"], manifest["config"]
    usual = asdict(ScanConfig())
    options = [f"{name}={value}" for name, value in config.items() if name not in ("model", "format") and value != usual.get(name)]
    seconds = "" if run["seconds"] is None else f", {run['seconds']:,.0f} seconds"
    return [
        ("data", f"{manifest['data']['name']}, {document['counts']['rows']:,} rows, format {run['format']}"),
        ("data fingerprint", str(manifest["identity"]["data"])),
        ("model", " ".join(str(part) for part in (manifest["model"]["name"], run["revision"], run["dtype"]) if part)),
        ("policy", f"{run['policy']}, {'rows above the threshold are flagged' if run['by_entropy'] else 'the threshold flags nothing'}"),
        ("options", ", ".join(options) or "defaults"),
        ("gradsentry", document["tool"]["version"]),
        ("time", f"{run['started']}{seconds}"),
    ]
