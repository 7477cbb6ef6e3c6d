"""A text on a terminal with a line of marks and numbers below each of its lines."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from gradsentry.escape import shown_characters
from gradsentry.report.explain import Token
from gradsentry.report.locate import Span
from gradsentry.report.rows import Shade
from gradsentry.report.unseen import pieces
from gradsentry.verdict.words import WORD

LEVELS = (8.0, 12.0)
"""Nats of surprise from which a word has its number, and is yellow or red."""
STYLES = ("", "yellow", "bold red")


class Cell(NamedTuple):
    """A character of a text as it is shown."""

    place: int
    """In the text."""
    shown: str
    """Itself, an escape, or the name of an unseen one in brackets."""


def word_surprises(tokens: Sequence[Token]) -> tuple[str, list[Shade]]:
    """The text of some tokens, and its words with the surprise of the tokens that begin in each."""
    text = "".join(token.text for token in tokens)
    spans = [Span(*match.span()) for match in WORD.finditer(text)]
    ends = [span.end for span in spans]
    nats = [0.0] * len(spans)
    place = 0
    for token in tokens:
        word = bisect_right(ends, place + len(token.text) - len(token.text.lstrip()))
        if word < len(spans):
            nats[word] += token.surprise
        place += len(token.text)
    return text, [Shade(span, own) for span, own in zip(spans, nats, strict=True)]


def annotated(text: str, words: Sequence[Shade], spans: Sequence[Span], sign: str, width: int) -> Iterator[Text]:
    """The lines of a text, and below each that has any its marks and the surprise of its surprising words.

    Args:
        spans: what to mark. sign: the character to mark it with. width: terminal cells of a line.
    """
    level = {place: bisect_right(LEVELS, nats) for span, nats in words for place in range(*span)}
    marked = {place for span in spans for place in range(*span)}
    numbers = {span.start: f"{nats:.0f}" for span, nats in words if nats >= LEVELS[0]}

    def style(cell: Cell) -> str:
        return (STYLES[level.get(cell.place, 0)] + " reverse" * (cell.place in marked)).strip()

    for line in _wrapped(_cells(text), width):
        shown = Text()
        for own, run in groupby(line, key=style):
            shown.append("".join(part for _, part in run), style=own)
        yield shown
        below, written, free = "", {}, 0
        for place, part in line:
            number = numbers.pop(place, "")
            if number and len(below) >= free:  # else the number before it stands there
                written[len(below)] = number
                free = len(below) + len(number) + 1
            below += (sign if place in marked else " ") * cell_len(part)
        for column, number in written.items():
            below = below[:column] + number + below[column + len(number) :]
        if below.strip():
            yield Text(below.rstrip(), style="dim")


def _cells(text: str) -> Iterator[Cell]:
    """The characters of a text as a terminal shows them, which has look-alike letters of mixed words as escapes."""
    cells = list(_named(text))
    shown = iter(shown_characters("".join(part for _, part in cells)))
    for place, part in cells:
        yield Cell(place, "".join(islice(shown, len(part))))


def _named(text: str) -> Iterator[Cell]:
    """The characters of a text with the names of those that are unseen or look like others."""
    place = 0
    for kind, part, name in pieces(text):
        if kind == "unseen":
            yield Cell(place, f"[{name}]")
        else:
            yield from (Cell(place + i, "    " if char == "\t" else char) for i, char in enumerate(part))
            if name:
                yield Cell(place + len(part) - 1, f"[{name}]")
        place += len(part)


def _wrapped(cells: Iterator[Cell], width: int) -> Iterator[list[Cell]]:
    """Lines of at most `width` terminal cells, broken at line feeds and, where there is one, after a space."""
    line: list[Cell] = []
    for cell in cells:
        if cell.shown == "\n":
            yield line
            line = []
            continue
        if line and sum(cell_len(shown) for _, shown in line) + cell_len(cell.shown) > width:
            last = max((i for i, (_, shown) in enumerate(line) if shown == " "), default=len(line) - 1)
            yield line[: last + 1]
            line = line[last + 1 :]
        line.append(cell)
    if line:
        yield line
