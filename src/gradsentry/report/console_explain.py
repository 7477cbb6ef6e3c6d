"""The explanation of one row on a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from gradsentry.report.escape import visible
from gradsentry.report.explain import Explanation, Token
from gradsentry.report.terminal import Terminal

SHADES = ((4.0, ""), (8.0, "yellow"), (float("inf"), "bold red"))
"""Style of a token with a surprise below so many nats."""
BAR = 40
"""Characters of a bar of 100 %."""
LISTED = 12
"""Tokens of the completion, the most surprising ones, that are listed with their surprise."""


def print_explanation(explained: Explanation) -> None:
    """Verdict, entropy, tokens and spectrum."""
    console = Terminal()
    verdict = "flagged" if explained.flagged else "kept"
    console.print(Text(visible(f"row {explained.row}: {verdict}, {explained.status}"), style="bold red" if explained.flagged else "bold"))
    if explained.reason:
        console.print(Text(visible(explained.reason)))
    if not explained.tokens:
        return
    beyond = "" if explained.beyond_length is None else f", {explained.beyond_length:+.1f} standard deviations for its length"
    console.print(Text(f"entropy {explained.entropy:.4f}{beyond}"))
    coloured = console.color_system is not None and not console.no_color
    legend = " (yellow: from 4 nats of surprise, red: from 8)" if coloured else ""
    for title, mine in (("prompt", False), ("completion", True)):
        console.print(Text(title + legend, style="dim"))
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
    own = [place for place, token in enumerate(explained.tokens) if token.supervised]
    for place in sorted(own, key=lambda place: -explained.tokens[place].surprise)[:LISTED]:
        table.add_row(Text(visible(_name(explained.tokens, place))), f"{explained.tokens[place].surprise:.1f}")
    return table


def _name(tokens: list[Token], place: int) -> str:
    """A token's text in quotes; for a part of a character, the text of the token that completes the character."""
    if tokens[place].text:
        return repr(tokens[place].text)
    whole = next((token.text for token in tokens[place:] if token.text), "")
    return f"part of {whole!r}"


def _spectrum(explained: Explanation) -> Table:
    """Each singular value's share, beside the data set's median."""
    table = Table("value", "this row", "usual", "", title="spectrum, shares of the sum", title_justify="left", box=None, pad_edge=False)
    for number, (own, usual) in enumerate(zip(explained.spectrum, explained.usual, strict=True), start=1):
        table.add_row(str(number), f"{own:.3f}", f"{usual:.3f}", "#" * round(BAR * own))
    return table
