"""The result on a terminal. Everything from the data passes `visible` and is printed without markup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradsentry.evidence.finding import REASONS
from gradsentry.report.page import verdict_line
from gradsentry.report.text import visible

if TYPE_CHECKING:
    from gradsentry.decide import Decision
    from gradsentry.scanning import ScanResult
    from gradsentry.types import Threshold

MOST_TRIGGERS = 8
MOST_ASIDE = 3
SHOWN = 5
"""Flagged rows on the console; the report has the others."""


def print_result(result: ScanResult) -> None:
    """Verdict, counts, threshold, the most suspicious rows, and where the rest is."""
    console = Console(highlight=False)
    flagged = result.document["flagged"]
    console.print(Text(verdict_line(result.document), style="bold red" if flagged else "bold green"))
    _print_findings(console, result.document["findings"])
    if result.threshold is not None:
        console.print(Text(entropy_line(result.document, result.threshold)))
    counts = result.counts
    console.print(Text(f"scored {counts['scored']:,}, unscorable {counts['unscorable']:,}, unreadable {counts['error']:,}"))
    if flagged:
        table = Table(box=None, pad_edge=False, title_justify="left")
        table.add_column("where", overflow="fold", min_width=12, max_width=24)
        table.add_column("entropy", justify="right", min_width=7)
        table.add_column("prompt", ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column("completion", ratio=4, no_wrap=True, overflow="ellipsis")
        for row in flagged[:SHOWN]:
            cells = (row["place"], f"{row['entropy']:.3f}", _tail(row["prompt"], 40), _one_line(row["completion"], 120))
            table.add_row(*(Text(visible(cell)) for cell in cells))
        console.print(table)
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


def print_threshold(decision: Decision) -> None:
    """What a threshold would do."""
    console = Console(highlight=False)
    if decision.threshold is None:
        console.print("no row was scored: there is no threshold")
        return
    counts = decision.counts
    console.print(Text(describe(decision.threshold)))
    console.print(Text(f"it flags {counts['flagged']:,} of {counts['rows']:,} rows"))


def print_identification(found: dict[str, float]) -> None:
    """Recall, precision and F1 against labels that the scan did not see."""
    rates = ", ".join(f"{name} {100 * found[name]:.1f} %" for name in ("recall", "precision", "f1"))
    Console(highlight=False).print(Text(f"against the labels kept aside: {rates}", style="bold"))


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


def _tail(text: str, width: int) -> str:
    """The end of a prompt: a shared template stands before it, what is asked stands last."""
    flat = " ".join(text.split()).removesuffix("### Answer:").rstrip()
    return flat if len(flat) <= width else "\u2026" + flat[-(width - 1) :]
