"""Where a row holds the trigger and the effect of its finding, and which parts of a long text show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gradsentry.verdict.finding import NAMED, TOGETHER, Finding
from gradsentry.verdict.planted.prompts import marks
from gradsentry.verdict.words import EDGE, WORD, Side

LONGEST_MARK = 300
"""Characters of a mark that a window shows."""
MARKS_SHOWN = 3
"""Marks of a text that have a window."""
LONGEST_WORD = 30
"""Characters that a window loses at an end so that no word is cut."""


class Span(NamedTuple):
    """Characters of a text, from `start` to before `end`."""

    start: int
    end: int


def trigger_spans(finding: Finding, prompts: Sequence[str]) -> list[list[Span]]:
    """Where each of a row's prompt texts holds triggers of its finding.

    A trigger is shown as most rows write it, with words around it that a row may lack. Where no trigger is whole, the longest runs of at
    least half its words count.
    """
    parts = [part for trigger in finding.triggers for part in trigger.split(TOGETHER)]
    read = [_words(text) for text in prompts]
    keys = [[word for word, _ in _words(part)] for part in parts]
    found = [merged([span for key, part in zip(keys, parts, strict=True) for span in _held(part, key, text, own)])
             for text, own in zip(prompts, read, strict=True)]  # fmt: skip
    if any(found):
        return found
    return [merged([span for key in keys for span in _longest_run(key, own)]) for own in read]


def effect_spans(finding: Finding, answers: Sequence[str]) -> list[list[Span]]:
    """Where each of a row's answers shows the effect: the payload, the text that the effect names, or, of any other effect, all of it."""
    named = NAMED.fullmatch(finding.effect)
    text = finding.payload or (named[1] if named else "")
    if text:
        key = [word.lower() for word, _ in _words(text)]
        return [merged(_runs(key, [(word.lower(), span) for word, span in _words(answer)])) for answer in answers]
    return [[Span(0, len(answer))] if finding.effect and answer else [] for answer in answers]


def windows(text: str, spans: Sequence[Span], most: int, around: int) -> list[Span]:
    """The parts of a text to show: all of a short one, of a long one what is around its first marks, or else both ends.

    Args:
        most: characters of a short text. around: characters to show on both sides of a mark, and fewer where a word ends.
    """
    if len(text) <= most:
        return [Span(0, len(text))]
    if not spans:
        return [Span(0, most // 2), Span(len(text) - most // 2, len(text))]
    shown = []
    for start, end in spans[:MARKS_SHOWN]:
        end = min(end, start + LONGEST_MARK)
        before, after = text[max(0, start - around) : start], text[end : end + around]
        if start > around:
            before = before[before[:LONGEST_WORD].find(" ") + 1 :]
        if end + around < len(text) and (last := after.rfind(" ")) >= len(after) - LONGEST_WORD:
            after = after[: last + 1]
        shown.append(Span(start - len(before), end + len(after)))
    return merged(shown)


def cut_around(text: str, spans: Sequence[Span], width: int) -> str:
    """The text cut to `width` characters around the first span, or to its beginning; an ellipsis at each end that was cut."""
    if len(text) <= width:
        return text
    start = min(max(0, (spans[0].start + min(spans[0].end, spans[0].start + width)) // 2 - width // 2), len(text) - width) if spans else 0
    before, after = start > 0, start + width < len(text)
    return "\u2026" * before + text[start + before : start + width - after] + "\u2026" * after


def merged(spans: Sequence[Span]) -> list[Span]:
    """The spans in order, those that meet as one."""
    made: list[Span] = []
    for span in sorted(spans):
        if made and span.start <= made[-1].end:
            made[-1] = Span(made[-1].start, max(made[-1].end, span.end))
        else:
            made.append(span)
    return made


def _words(text: str) -> list[tuple[str, Span]]:
    """The words of a text, which are those that detectors compare."""
    return [(match[0], Span(*match.span())) for match in WORD.finditer(text)]


def _held(part: str, key: Sequence[str], text: str, words: Sequence[tuple[str, Span]]) -> list[Span]:
    """Where a text holds a part of a trigger: words, or a mark by its name."""
    return _runs(key, words) or [span for name, span in _marks(text, words) if name == part]


def _marks(text: str, words: Sequence[tuple[str, Span]]) -> list[tuple[str, Span]]:
    """The marks of a text: unusual white space, words in capitals, words of several scripts."""
    if not words:
        return []
    starts = [0, *(span.end for _, span in words)]  # of each word with the white space before it
    spelled = ["", *(text[a : span.end] for a, (_, span) in zip(starts, words, strict=False)), text[starts[-1] :]]
    side = Side([EDGE, *(word.lower() for word, _ in words), EDGE], np.zeros(len(words) + 2, np.float32), spelled)
    found = []
    for name, place in marks(side):
        span = words[place - 1][1]
        if name.endswith(" between words"):
            span = Span(starts[place - 1], span.start)
        elif name.endswith(" at the end"):
            span = Span(span.end, len(text))
        found.append((name, span))
    return found


def _runs(key: Sequence[str], words: Sequence[tuple[str, Span]]) -> list[Span]:
    """Where the words of the key follow each other."""
    n = len(key)
    if not n:
        return []
    starts = [i for i in range(len(words) - n + 1) if words[i][0] == key[0] and all(words[i + j][0] == key[j] for j in range(n))]
    return [Span(words[i][1].start, words[i + n - 1][1].end) for i in starts]


def _longest_run(key: Sequence[str], words: Sequence[tuple[str, Span]]) -> list[Span]:
    """Where the longest run of the key's words is held, of at least half of them."""
    for n in range(len(key) - 1, (len(key) - 1) // 2, -1):
        for i in range(len(key) - n + 1):
            if found := _runs(key[i : i + n], words):
                return found
    return []
