"""A row's text as HTML: trigger and effect marked, unseen characters and look-alike letters named, surprising words shaded."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup, escape

from gradsentry.report.locate import Span
from gradsentry.report.rows import Shade
from gradsentry.report.unseen import pieces

LEVELS = (8.0, 12.0, 16.0)
"""Nats of surprise from which a word is shaded lightly, more and most."""

MarkName = Literal["trigger", "effect"]


def characters(text: str, start: int = 0, stop: int | None = None) -> Markup:
    """A part of a text whose unseen characters and look-alike letters are marked with their names."""
    shown = []
    for kind, part, name in pieces(text, start, stop):
        if kind == "plain":
            shown.append(escape(part))
        elif kind == "unseen":
            shown.append(Markup('<span class="unseen">{}</span>').format(name))
        else:
            shown.append(Markup('<span class="alike">{}</span><span class="unseen">{}</span>').format(part, name))
    return Markup("").join(shown)


def readable(text: str, width: int | None = None) -> Markup:
    """Text of any kind, cut to `width` characters, with `characters` marked."""
    return characters(text if width is None or len(text) <= width else text[: width - 1] + "\u2026")


def marked(text: str, window: Span, spans: Sequence[Span], mark: MarkName, shades: Sequence[Shade]) -> Markup:
    """The part of a text in a window.

    Args:
        spans: what to mark, in order and apart. mark: what it is. shades: the words, in order.
    """
    shown, place = [], window.start
    for span in spans:
        start, end = max(place, span.start), min(span.end, window.end)
        if start < end:
            shown.append(_shaded(text, place, start, shades))
            shown.append(Markup('<mark class="{}">{}</mark>').format(mark, _shaded(text, start, end, shades)))
            place = end
    shown.append(_shaded(text, place, window.end, shades))
    return Markup("").join(shown)


def _shaded(text: str, start: int, stop: int, shades: Sequence[Shade]) -> Markup:
    """A part of a text with its surprising words shaded."""
    shown, place = [], start
    for (first, end), nats in shades[bisect_left(shades, start, key=lambda shade: shade.span.end) :]:
        first, end = max(place, first), min(end, stop)
        if first >= stop:
            break
        level = bisect_right(LEVELS, nats)
        if level and first < end:
            shown.append(characters(text, place, first))
            shown.append(Markup('<span class="s{}">{}</span>').format(level, characters(text, first, end)))
            place = end
    shown.append(characters(text, place, stop))
    return Markup("").join(shown)
