"""One row on the console."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradsentry.explain import Explanation
from gradsentry.report.text import visible

SHADES = ((4.0, ""), (8.0, "yellow"), (float("inf"), "bold red"))
"""Style of a token up to a surprise in nats."""
BAR = 40
"""Characters of a bar that stands for everything."""
LISTED = 12
"""Tokens of the completion that are listed with their surprise, the most surprising ones."""


def print_explanation(explained: Explanation) -> None:
    """Verdict, tokens, spectrum."""
    console = Console(highlight=False)
    verdict = "flagged" if explained.flagged else "kept"
    console.print(Text(visible(f"row {explained.row}: {verdict}, {explained.status}"), style="bold red" if explained.flagged else "bold"))
    if explained.reason:
        console.print(Text(visible(explained.reason)))
    if not explained.tokens:
        return
    beyond = "" if explained.beyond_length is None else f", {explained.beyond_length:+.1f} standard deviations for its length"
    console.print(Text(f"entropy {explained.entropy:.4f}{beyond}"))
    for title, mine in (("prompt", False), ("completion", True)):
        console.print(Text(f"{title} (yellow: from 4 nats of surprise, red: from 8)", style="dim"))
        line = Text()
        for token in explained.tokens:
            if token.supervised == mine:
                line.append(visible(token.text), style=next(style for limit, style in SHADES if token.surprise < limit))
        console.print(line)
    console.print(_surprises(explained))
    console.print(_spectrum(explained))


def _surprises(explained: Explanation) -> Table:
    """The tokens of the completion that the base model expected least."""
    table = Table("token", "nats", title="most surprising", title_justify="left", box=None, pad_edge=False)
    own = [token for token in explained.tokens if token.supervised]
    for token in sorted(own, key=lambda token: -token.surprise)[:LISTED]:
        table.add_row(Text(visible(repr(token.text))), f"{token.surprise:.1f}")
    return table


def _spectrum(explained: Explanation) -> Table:
    """Each singular value's share, beside the median of the data set's."""
    table = Table("value", "this row", "usual", "", title="spectrum, shares of the sum", title_justify="left", box=None, pad_edge=False)
    for number, (own, usual) in enumerate(zip(explained.spectrum, explained.usual, strict=True), start=1):
        table.add_row(str(number), f"{own:.3f}", f"{usual:.3f}", "#" * round(BAR * own))
    return table
