"""Baselines: what a filter has to beat.

`length` and `loss` use the same published threshold as the entropy, so that only the score differs.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from gradsentry.bench.filters.base import Filter, Places, Rows, Scored, Verdicts, above_threshold, nothing, scored, values

DUPLICATES = 0.01
FEWEST = 3
"""`duplicates` flags an answer that at least this share and this number of the rows have."""

SHARE = 0.1
"""Of the rows that `random` flags: the published poison ratio (GradSentry, arXiv 2605.26574, section 5.1)."""


def by_length(measured: Scored, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
    """Long completions: the score is ln T / ln max T, as H <= ln T / ln k bounds the entropy on the same scale."""
    tokens = np.log(values(measured, chosen, lambda score: score.n_tokens))
    longest = np.nanmax(tokens, initial=0.0)
    return above_threshold(tokens / (longest or 1.0))  # all completions of one token: 0, not 0 / 0


def by_loss(measured: Scored, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
    """Unexpected completions: the score is the mean loss / ln V, which is 1 for uniform predictions."""
    return above_threshold(values(measured, chosen, lambda score: score.loss or 0.0) / np.log(len(measured.vocabulary.pieces)))


def by_duplicates(_measured: None, _chosen: Places, rows: Rows, _seed: int) -> Verdicts:
    """Answers that many rows share, ignoring case and spacing; the score is the number of those rows."""
    answers = [" ".join(str(row["completion"]).lower().split()) for row in rows]
    counts = Counter(answers)
    same = np.array([counts[answer] for answer in answers], dtype=np.float64)
    return Verdicts(same >= max(FEWEST, DUPLICATES * len(rows)), same)


def by_chance(_measured: None, chosen: Places, _rows: Rows, seed: int) -> Verdicts:
    """A random share of the rows."""
    scores = np.random.default_rng(seed).random(len(chosen))
    flagged = np.zeros(len(chosen), dtype=bool)
    flagged[np.argsort(-scores)[: round(SHARE * len(chosen))]] = True
    return Verdicts(flagged, scores)


def no_row(_measured: None, chosen: Places, _rows: Rows, _seed: int) -> Verdicts:
    """None."""
    return Verdicts(np.zeros(len(chosen), dtype=bool))


LENGTH = Filter("long completions, at the published threshold", scored, by_length)
LOSS = Filter("completions that the model does not expect, at the published threshold", scored, by_loss)
DUPLICATE = Filter("answers that at least 3 rows and 1 % of them share", nothing, by_duplicates)
RANDOM = Filter("10 % of the rows at random", nothing, by_chance)
NONE = Filter("no filter: every row is kept", nothing, no_row)
