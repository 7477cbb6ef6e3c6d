"""The result on a terminal. Everything from the data passes `visible` and is printed without markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradsentry.report.escape import visible
from gradsentry.report.html import not_examined_line, verdict_line
from gradsentry.report.terminal import Terminal
from gradsentry.verdict.finding import REASONS

if TYPE_CHECKING:
    from gradsentry.api import ScanResult
    from gradsentry.config import ScanConfig
    from gradsentry.types import Threshold
    from gradsentry.verdict.combine import Decision

MOST_TRIGGERS = 8
MOST_ASIDE = 3
SHOWN = 5
"""Flagged rows on the console; the report has the others."""
WIDEST_PLACE = 24
GAP = 2
"""Characters between two columns."""
NARROWEST_TEXT = 8


def print_result(result: ScanResult) -> None:
    """Verdict, counts, threshold, the most suspicious rows, and where the rest is."""
    console = Terminal()
    flagged = result.document["flagged"]
    not_examined = not_examined_line(result.document)
    console.print(Text(verdict_line(result.document), style="bold red" if flagged else "bold" if not_examined else "bold green"))
    if not_examined:
        console.print(Text(not_examined, style="bold yellow"))
    _print_findings(console, result.document["findings"])
    if result.threshold is not None:
        console.print(Text(entropy_line(result.document, result.threshold)))
    counts = result.counts
    console.print(Text(f"scored {counts['scored']:,}, unscorable {counts['unscorable']:,}, error {counts['error']:,}"))
    if flagged:
        triggers = [trigger for finding in result.document["findings"] if finding["kind"] == "backdoor" for trigger in finding["triggers"]]
        console.print(_flagged(flagged[:SHOWN], triggers, console.width))
        if len(flagged) > SHOWN:
            console.print(Text(f"... and {counts['flagged'] - SHOWN:,} more"))
    if result.run is not None:
        files = ", ".join(sorted(path.name for path in result.run.iterdir() if path.name.startswith(("kept.", "flagged."))))
        console.print(Text(f"{result.run}: {files}, verdicts.parquet, report.html", overflow="fold"))


def _print_findings(console: Console, findings: list[dict[str, Any]]) -> None:
    """What rows are flagged for, as a table; what only looks like a backdoor, in a line each."""
    backdoors = [finding for finding in findings if finding["kind"] == "backdoor"]
    if backdoors:
        table = Table(box=None, pad_edge=False)
        for name in ("payload", "trigger"):
            table.add_column(name, ratio=3, overflow="fold")
        for name in ("rows", "with trigger", "p"):
            table.add_column(name, justify="right", no_wrap=True)
        for finding in backdoors:
            more = f" (and {finding['variants'] - 1} variants)" if finding["variants"] > 1 else ""
            triggers = ", ".join(_one_line(trigger, 60) for trigger in finding["triggers"][:MOST_TRIGGERS])
            share = f"{100 * finding['p_trigger_given_payload']:.0f} %"
            cells = (_one_line(finding["payload"], 120) + more, triggers, f"{finding['rows']:,}", share, f"{finding['p']:.0e}")
            table.add_row(*(Text(visible(cell)) for cell in cells))
        console.print(table)
    for finding in [finding for finding in findings if finding["kind"] != "backdoor"][:MOST_ASIDE]:
        console.print(Text(visible(f"not flagged ({REASONS[finding['kind']]}): {finding['sentence']}"), style="dim"))


def _flagged(rows: list[dict[str, Any]], triggers: list[str], width: int) -> Table:
    """Flagged rows in `width` characters; the texts share what the other columns leave. `row` is the number that `explain` takes."""
    number, place = (max(len(title), *(len(str(row[name])) for row in rows)) for title, name in (("row", "row"), ("where", "place")))
    place = min(place, WIDEST_PLACE)
    rest = max(width - number - place - len("entropy") - 4 * GAP, 2 * NARROWEST_TEXT)
    prompt = rest * 3 // 7
    table = Table(box=None, pad_edge=False)
    table.add_column("row", justify="right", no_wrap=True, min_width=number)
    table.add_column("where", overflow="fold", max_width=WIDEST_PLACE)
    table.add_column("entropy", justify="right", no_wrap=True, min_width=len("entropy"))
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", max_width=prompt)
    table.add_column("completion", no_wrap=True, overflow="ellipsis", max_width=rest - prompt)
    for row in rows:
        texts = _around(row["prompt"], triggers, prompt), _one_line(row["completion"], rest - prompt)
        cells = (str(row["row"]), row["place"], f"{row['entropy']:.3f}", *texts)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def print_threshold(decision: Decision, config: ScanConfig) -> None:
    """What a policy and a threshold would flag, and how many rows lie above the threshold, flagged or not."""
    console = Terminal()
    threshold, counts = decision.threshold, decision.counts
    if threshold is None:
        console.print("no row was scored: there is no threshold")
        return
    rule = config.policy + (" with --strict" if config.strict else "")
    if config.threshold != "auto":
        rule += f" with --threshold {config.threshold}"
    flagged = f"policy {rule} flags {counts['flagged']:,} of {counts['rows']:,} rows"
    published = "published " if threshold.method in ("valley", "fallback") else ""
    console.print(Text(f"{flagged}; {decision.above:,} lie above the {published}{describe(threshold)}"))


def print_identification(found: dict[str, float]) -> None:
    """Recall, precision and F1 against labels that the scan did not see."""
    rates = ", ".join(f"{name} {100 * found[name]:.1f} %" for name in ("recall", "precision", "f1"))
    Terminal().print(Text(f"against the labels kept aside: {rates}", style="bold"))


def entropy_line(document: dict[str, Any], threshold: Threshold) -> str:
    """The published rule: as the verdict, or as what it would have said."""
    if document["run"]["by_entropy"]:
        return describe(threshold)
    reliable = "reliable" if threshold.reliable else "not reliable"
    return f"entropy alone: {document['above_threshold']:,} rows lie above the published threshold ({reliable}); --strict flags them"


def describe(threshold: Threshold) -> str:
    """``threshold 0.553 (valley, reliable)``."""
    told = "reliable" if threshold.reliable else "not reliable: " + "; ".join(threshold.problems)
    return f"threshold {threshold.value:.4f} ({threshold.method}, {told})"


def _one_line(text: str, width: int) -> str:
    return visible(" ".join(text.split()), width)


def _around(text: str, triggers: list[str], width: int) -> str:
    """A prompt cut to `width` cells of a terminal around the first trigger that it holds; without one, to its end.

    A shared template stands at the beginning, what is asked at the end.
    """
    flat = " ".join(text.split()).removesuffix("### Answer:").rstrip()
    if cell_len(flat) <= width:
        return flat
    width = max(NARROWEST_TEXT, width * len(flat) // cell_len(flat))  # in characters, of which some take two cells
    parts = [" ".join(part.split()) for trigger in triggers for part in trigger.split(" ... ")]
    found = next((match for part in parts if part and (match := re.search(rf"(?<!\w){re.escape(part)}(?!\w)", flat))), None)
    middle = (found.start() + found.end()) // 2 if found else len(flat)
    start = min(max(0, middle - width // 2), len(flat) - width)
    cut = flat[start : start + width]
    before, after = start > 0, start + width < len(flat)
    return "\u2026" * before + cut[before : width - after] + "\u2026" * after
