"""The scores of a row's sides, such as the two answers of a preference pair -> the row's score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from gradsentry.types import Encoded, Score, Surprises


def joined(row: Encoded, scores: Sequence[Score]) -> Score:
    """The score of a row from those of its sides, in their order.

    The row's entropy and spectrum are those of the side with the larger entropy; its supervised tokens are those of all sides. A row of
    which a side has no score has none.
    """
    sides = [row, *row.others]
    if not row.side:
        return replace(scores[0], row=row.row)
    failed = next(((side, score) for side, score in zip(sides, scores, strict=True) if score.status != "scored"), None)
    if failed:
        return replace(failed[1], row=row.row, reason=f"{failed[0].side}: {failed[1].reason}")
    highest = max(scores, key=lambda score: score.entropy or 0.0)
    n_tokens = sum(score.n_tokens for score in scores)
    loss = sum(score.n_tokens * (score.loss or 0.0) for score in scores) / n_tokens
    reason = "; ".join(f"{side.side}: {score.reason}" for side, score in zip(sides, scores, strict=True) if score.reason)
    n_cut = sum(score.n_cut for score in scores)
    return Score(row.row, "scored", highest.entropy, n_tokens, loss, reason, n_cut, _surprises(sides, scores), highest.spectrum)


def _surprises(sides: Sequence[Encoded], scores: Sequence[Score]) -> Surprises:
    """The tokens of all sides, one after the other."""
    parts = [score.surprises for score in scores if score.surprises]
    starts = [0, *accumulate(len(part.tokens) for part in parts)][:-1]
    specials = [part.spelled_specials + start for part, start in zip(parts, starts, strict=True)]
    names = [{"name": side.side, "start": start} for side, start in zip(sides, starts, strict=True)]
    tokens, nll, supervised = (np.concatenate([getattr(part, name) for part in parts]) for name in ("tokens", "nll", "supervised"))
    return Surprises(tokens, nll, supervised, np.concatenate(specials).astype(np.int32), names)
