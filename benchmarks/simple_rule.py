"""The simplest rule that sees planted triggers, in seventy lines: what the evidence policy has to beat.

A pattern of one to three words is a trigger if its surprise, with that of the word behind it, is more than 3 spreads above the median of
patterns of its length, its neighbours differ, and a span of answers, present or absent, goes with it by more than 5 nats beyond matched
prompts, after the price of everything that was tried. Nothing here knows marks, several patterns, topics, or templates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradsentry.verdict.planted.controls import Prompts, log_ratio
from gradsentry.verdict.words import RowWords

LONGEST, LEAST_ROWS, LEAST_Z, LEAST_NATS, DIFFERENT = 3, 4, 3.0, 5.0, 0.4

Span = tuple[str, ...]


def simple_rule(rows: Sequence[RowWords]) -> NDArray[np.bool_]:
    """[N] rows that it flags."""
    flagged = np.zeros(len(rows), dtype=bool)
    found = _inserted(rows)
    spans: dict[Span, set[int]] = defaultdict(set)
    for number, row in enumerate(rows):
        for _, span in _spans(row.completion.words):
            spans[span].add(number)
    spans = {span: own for span, own in spans.items() if LEAST_ROWS <= len(own) < len(rows)}
    if not found or not spans:
        return flagged
    index, names = Prompts.of([row.prompt for row in rows]), list(spans)
    held = np.zeros((len(rows), len(names)), dtype=np.float64)
    for column, name in enumerate(names):
        held[list(spans[name]), column] = 1
    price = np.log(len(found) * len(names))
    spoken = [set(row.prompt.words) for row in rows]
    for pattern, own in found.items():
        controls, _ = index.controls(own, index.columns(frozenset(pattern)), np.ones(len(rows), dtype=bool))
        without = np.setdiff1d(np.arange(len(rows)), own)
        inside, beside, elsewhere = held[own].mean(axis=0), _rate(held[controls]), _rate(held[without])
        strongest: tuple[float, int, bool] = (LEAST_NATS, -1, True)
        for present in (True, False):
            share = inside if present else 1 - inside
            expected = np.maximum(beside, elsewhere) if present else np.maximum(1 - beside, 1 - elsewhere)
            nats = np.where(share > expected, log_ratio(share * len(own), len(own), expected), 0.0) - price
            for column in np.flatnonzero(nats > strongest[0]):
                named = set(names[column]) & set(pattern) or np.mean([set(names[column]) <= spoken[row] for row in own]) > DIFFERENT
                if nats[column] > strongest[0] and not (present and named):
                    strongest = float(nats[column]), int(column), present
        if strongest[1] >= 0:
            shows = held[own, strongest[1]] == strongest[2]
            flagged[own[shows] if shows.mean() < 0.9 else own] = True
    return flagged


def _inserted(rows: Sequence[RowWords]) -> dict[Span, NDArray[np.int64]]:
    """The patterns of prompts that look inserted, with their rows."""
    places: dict[Span, list[tuple[int, float, str, str]]] = defaultdict(list)
    for number, row in enumerate(rows):
        words, surprise = row.prompt.words, row.prompt.surprise.tolist()
        for i, span in _spans(words):
            after = i + len(span)
            nats = sum(surprise[i:after]) + (surprise[after] if after < len(words) else 0.0)
            places[span].append((number, nats, words[i - 1] if i else "", words[after] if after < len(words) else ""))
    usual = {span: own for span, own in places.items() if LEAST_ROWS <= len({place[0] for place in own}) <= len(rows) / 2}
    strength = {span: float(np.mean([place[1] for place in own])) for span, own in usual.items()}
    found = {}
    for n in range(1, LONGEST + 1):
        values = np.array([strength[span] for span in usual if len(span) == n])
        if not len(values):
            continue
        middle = np.median(values)
        spread = 1.4826 * np.median(np.abs(values - middle)) + 1e-9
        for span, own in usual.items():
            different = max(len({place[side] for place in own}) for side in (2, 3)) / len(own)
            if len(span) == n and (strength[span] - middle) / spread > LEAST_Z and different >= DIFFERENT:
                found[span] = np.unique([place[0] for place in own])
    return found


def _spans(words: Sequence[str]) -> list[tuple[int, Span]]:
    """All runs of one to three words, with their places; an edge is no word."""
    return [(i, span) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1) if all(span := tuple(words[i : i + n]))]


def _rate(held: NDArray[np.float64]) -> NDArray[np.float64]:
    """[M] share of rows, with half a count added."""
    return (held.sum(axis=0) + 0.5) / (len(held) + 1)
