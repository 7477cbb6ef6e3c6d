"""The result, and the explanation of one row, on a terminal. All text from the data passes `visible` and is printed without markup."""

from __future__ import annotations

import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradsentry.config import ScanConfig
from gradsentry.escape import one_line, visible
from gradsentry.report.annotate import LEVELS, annotated, word_surprises
from gradsentry.report.explain import Explanation, Token
from gradsentry.report.sentences import entropy_line, not_examined_line, threshold_text, verdict_line
from gradsentry.report.terminal import Terminal
from gradsentry.report.unseen import named
from gradsentry.verdict.combine import Decision
from gradsentry.verdict.finding import REASONS

STYLES = {"nothing found": "bold green", "look": "bold yellow", "poisoned": "bold red"}
"""Of the verdict, by its level."""
MOST_TRIGGERS = 8
"""Triggers of a finding in the table."""
MOST_LOOKALIKES = 3
"""Findings without flagged rows, beside suspects and dismissed findings, which are all shown."""
SHOWN = 5
"""Flagged rows; the report lists more."""
WIDEST_PLACE = 24
GAP = 2
"""Characters between two columns."""
NARROWEST_TEXT = 8
SHARES_SHOWN = 3
"""Values of a spectrum."""
TOKENS_LISTED = 8
"""Tokens of each side, the most surprising ones, that are listed with their surprise."""


def print_result(document: dict[str, Any], run: Path | None) -> None:
    """Verdict, findings, threshold, counts, the most suspicious rows, and where the rest is.

    Args:
        document: from `report_document`. run: the run directory, if one was kept.
    """
    console = Terminal()
    flagged, counts = document["flagged"], document["counts"]
    not_examined = not_examined_line(document)
    console.print(Text(verdict_line(document), style=STYLES[document["verdict"]]))
    if not_examined:
        console.print(Text(not_examined, style="bold yellow"))
    _print_findings(console, document["findings"])
    if entropy := entropy_line(document):
        console.print(Text(entropy))
    dismissed = f", dismissed {counts['dismissed']:,}" if counts["dismissed"] else ""
    console.print(Text(f"scored {counts['scored']:,}, unscorable {counts['unscorable']:,}, error {counts['error']:,}{dismissed}"))
    _print_dismissed_rows(console, document)
    for note in document["notes"]:
        console.print(Text(f"note: {note}"))
    if flagged:
        triggers = [trigger for finding in document["findings"] if finding["kind"] == "backdoor" for trigger in finding["triggers"]]
        console.print(_flagged(flagged[:SHOWN], triggers, console.width))
        if len(flagged) > SHOWN:
            console.print(Text(f"... and {counts['flagged'] - SHOWN:,} more"))
    if run is not None:
        files = ", ".join(sorted(path.name for path in run.iterdir() if path.name.startswith(("kept.", "flagged.", "unexamined."))))
        console.print(Text(f"{one_line(str(run))}: {files}, verdicts.parquet, report.html", overflow="fold"))


def _print_dismissed_rows(console: Console, document: dict[str, Any]) -> None:
    """The first rows that are dismissed alone, and the reasons."""
    of_findings = {finding["number"] for finding in document["findings"] if finding["kind"] == "dismissed"}
    dismissed = [row for row in document["rows"] if row["review"] and row["review"]["decision"] == "dismissed"]
    alone = [row for row in dismissed if row["finding"] not in of_findings]
    for row in alone[:SHOWN]:
        console.print(Text(visible(f"row {row['row']}, {row['place']}: dismissed: {row['review']['reason']}"), style="dim"))
    if len(alone) > SHOWN:
        console.print(Text(f"... and {len(alone) - SHOWN:,} more rows that are dismissed", style="dim"))


def print_name(name: str) -> None:
    """The heading of one result among several."""
    Terminal().print(Text(f"{one_line(name)}:", style="bold"))


def _print_findings(console: Console, findings: list[dict[str, Any]]) -> None:
    """A table of the backdoors, and a line for each finding that only looks like one."""
    backdoors = [finding for finding in findings if finding["kind"] == "backdoor"]
    if backdoors:
        table = Table(box=None, pad_edge=False)
        for name in ("trigger", "effect on the answers"):
            table.add_column(name, ratio=3, overflow="fold")
        for name in ("rows", "answers", "usual", "nats"):
            table.add_column(name, justify="right", no_wrap=True)
        for finding in backdoors:
            triggers = ", ".join(_one_line(trigger, 60) for trigger in finding["triggers"][:MOST_TRIGGERS])
            effect = _one_line(f'say "{finding["payload"]}"' if finding["payload"] else finding["effect"], 120)
            effect = f"{finding['side']}: {effect}" if finding.get("side") else effect
            answers = f"{finding['answers_with_effect']:,} of {finding['prompts_with_trigger']:,}"
            numbers = f"{len(finding['rows']):,}", answers, f"{100 * finding['expected_share']:.0f} %", f"{finding['nats']:.0f}"
            cells = triggers, effect, *numbers
            table.add_row(*(Text(visible(cell)) for cell in cells))
        console.print(table)
    suspects, dismissed = ([finding for finding in findings if finding["kind"] == kind] for kind in ("suspect", "dismissed"))
    lookalikes = [finding for finding in findings if finding["kind"] not in ("backdoor", "suspect", "dismissed")]
    for finding in [*suspects, *dismissed, *lookalikes[:MOST_LOOKALIKES]]:
        style = "bold yellow" if finding["kind"] == "suspect" else "dim"
        why = f"dismissed: {finding['review']['reason']}" if finding["kind"] == "dismissed" else REASONS[finding["kind"]]
        console.print(Text(visible(f"not flagged ({why}): {finding['sentence']}"), style=style))


def _flagged(rows: list[dict[str, Any]], triggers: list[str], width: int) -> Table:
    """Flagged rows in `width` characters; prompt and completion share what the other columns leave. `row` is the argument of `explain`."""
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
    """How many rows a policy and a threshold flag, and how many lie above the threshold, flagged or not."""
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
    console.print(Text(f"{flagged}; {decision.above:,} lie above the {published}{threshold_text(threshold)}"))
    for note in decision.notes:
        console.print(Text(f"note: {visible(note)}"))


def print_identification(found: dict[str, float]) -> None:
    """Recall, precision and F1 by labels that the scan did not see."""
    rates = ", ".join(f"{name} {100 * found[name]:.1f} %" for name in ("recall", "precision", "f1"))
    Terminal().print(Text(f"against the labels kept aside: {rates}", style="bold"))


def _one_line(text: str, width: int) -> str:
    return visible(" ".join(text.split()), width)


def _around(text: str, triggers: list[str], width: int) -> str:
    """A prompt cut to `width` terminal cells around the first trigger in it; without a trigger, its end.

    The beginning is often a template that all rows share; the question follows.
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


def print_explanation(explained: Explanation) -> None:
    """Verdict and numbers, the text with its marks and the surprise of its words below them, the most surprising tokens."""
    console = Terminal()
    verdict = "flagged" if explained.flagged else "kept" if explained.status == "scored" else "not examined"
    console.print(Text(visible(f"row {explained.row}: {verdict}, {explained.status}"), style="bold red" if explained.flagged else "bold"))
    if explained.reason:
        console.print(Text(visible(explained.reason)))
    if not explained.tokens:
        return
    beyond = "" if explained.beyond_length is None else f", {explained.beyond_length:+.1f} standard deviations for its length"
    console.print(
        Text(f"entropy {explained.entropy:.4f}{beyond}; spectrum {_shares(explained.spectrum)}, usual {_shares(explained.usual)}")
    )
    console.print(Text(f"below the text: nats of surprise of words from {LEVELS[0]:.0f}, ^ trigger, ~ effect", style="dim"))
    for title, mine, spans, sign in (("prompt", False, explained.trigger, "^"), ("completion", True, explained.effect, "~")):
        console.print(Text(title, style="dim"))
        text, words = word_surprises([token for token in explained.tokens if token.supervised == mine])
        for line in annotated(text, words, spans, sign, console.width - 1):
            console.print(line, no_wrap=True, overflow="ignore")
    console.print(_most_surprising(explained.tokens))


def _shares(spectrum: list[float]) -> str:
    """The first values of a spectrum; ``--json`` has all."""
    return ", ".join(f"{100 * share:.0f} %" for share in spectrum[:SHARES_SHOWN]) + (" ..." if len(spectrum) > SHARES_SHOWN else "")


def _most_surprising(tokens: list[Token]) -> Table:
    """The most surprising tokens of the prompt beside those of the completion."""
    table = Table(box=None, pad_edge=False)
    columns = []
    for title, mine in (("prompt", False), ("completion", True)):
        table.add_column("nats", justify="right", no_wrap=True)
        table.add_column(f"most surprising in the {title}", ratio=1, overflow="fold")
        own = [place for place, token in enumerate(tokens) if token.supervised == mine]
        first = sorted(own, key=lambda place: -tokens[place].surprise)[:TOKENS_LISTED]
        columns.append([(f"{tokens[place].surprise:.1f}", _name(tokens, place)) for place in first])
    for left, right in zip_longest(*columns, fillvalue=("", "")):
        table.add_row(*(Text(cell) for cell in (*left, *right)))
    return table


def _name(tokens: list[Token], place: int) -> str:
    """A token's text in quotes; for a part of a character, the text of the token that completes the character."""
    whole = next((token.text for token in tokens[place:] if token.text), "")
    shown = one_line(named(whole))
    return f"'{shown}'" if tokens[place].text else f"part of '{shown}'"
