"""How a pattern is shown: as one text writes it, with the words around it that nearly all texts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from gradsentry.verdict.planted.controls import OWN_SHARE
from gradsentry.verdict.planted.prompts import place_of
from gradsentry.verdict.words import Side

SHOWN = 30
"""Texts that decide how a pattern is shown."""

LONGEST_SHOWN = 24
"""Words that are shown."""


def as_written(key: tuple[str, ...], sides: Sequence[Side], words: Sequence[Sequence[str]], common: Callable[[str], bool]) -> str:
    """A pattern as most texts write it, with the words around it that nearly all of them share.

    Common words are cut from both ends, but no run of characters without white space is cut: a special token is shown whole.

    Args:
        key: its words. sides: the texts that hold it, at least one. words: of each text, as `key` spells them. common: whether a word is
            in most texts of the data set, so that it is no part of the pattern.
    """
    held = [(own, at, side) for own, side in zip(words[:SHOWN], sides, strict=False) if (at := place_of(key, own)) is not None]
    start, stop = 0, len(key)

    def shared(offset: int) -> bool:
        found = [own[at + offset] if 0 <= at + offset < len(own) else "" for own, at, _ in held]
        word, count = Counter(found).most_common(1)[0]
        return bool(word) and count >= OWN_SHARE * len(found)

    while stop - start < LONGEST_SHOWN and shared(start - 1):
        start -= 1
    while stop - start < LONGEST_SHOWN and shared(stop):
        stop += 1
    windows = [tuple(own[max(0, at + start) : at + stop]) for own, at, _ in held]
    own, at, side = held[windows.index(Counter(windows).most_common(1)[0][0])]
    runs: list[list[int]] = []
    for i in range(max(0, at + start), at + stop):
        if not runs or side.spelled[i][:1].isspace():
            runs.append([])
        runs[-1].append(i)
    while len(runs) > 1 and all(common(own[i]) for i in runs[0]):
        runs.pop(0)
    while len(runs) > 1 and all(common(own[i]) for i in runs[-1]):
        runs.pop()
    return "".join(side.spelled[i] for run in runs for i in run).strip()
