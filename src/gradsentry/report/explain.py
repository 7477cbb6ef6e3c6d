"""One row of a run: its tokens with their surprise, its spectrum beside the data set's median, and its finding."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from gradsentry.errors import RunError, UsageError
from gradsentry.run.directory import RunDirectory, open_run, read_table
from gradsentry.schema import SPECTRUM
from gradsentry.types import Shard
from gradsentry.verdict.words import token_texts

MEDIAN_PARTS = 20
"""Parts of the run whose rows give the median spectrum."""


@dataclass(frozen=True)
class Token:
    """One token of a row."""

    text: str
    """As in the row; a character of several tokens appears with the last of them."""
    surprise: float
    """Nats; 0 for the first, which nothing predicts."""
    supervised: bool
    """Whether it belongs to the completion."""


@dataclass(frozen=True)
class Explanation:
    """What a run says about one row."""

    row: int
    """Position in the data, from 0."""
    status: str
    flagged: bool
    reason: str
    entropy: float | None
    """These four as in ``verdicts.parquet``."""
    beyond_length: float | None
    """Standard deviations above the usual entropy of its length."""
    finding: int | None
    """Number of its finding, from 1."""
    tokens: list[Token]
    """Empty if the row was not scored."""
    spectrum: list[float]
    """Its singular values as shares of their sum, largest first."""
    usual: list[float]
    """Median of the same over the scored rows with at least as many."""


def explain(run_path: str | os.PathLike[str], row: int) -> Explanation:
    """Explain one row of a finished run, without its model and data.

    Args:
        row: its position in the data, from 0.

    Raises:
        RunError: there is no run, or it is not finished. UsageError: there is no such row.
    """
    run, _, shards = open_run(run_path)
    rows = shards[-1].stop
    if not 0 <= row < rows:
        raise UsageError(f"row {row}: the run has rows 0 to {rows - 1}")
    try:
        verdict = read_table(run.path / "verdicts.parquet", filters=[("row", "=", row)]).to_pylist()[0]
    except FileNotFoundError:
        raise RunError(f"{run.path} is not complete: it has no verdicts.parquet; run the same scan again to finish it") from None
    evidence_path = run.path / "evidence.parquet"
    evidence = read_table(evidence_path, filters=[("row", "=", row)]).to_pylist()[0] if evidence_path.exists() else {}
    (shard,) = (shard for shard in shards if shard.start <= row < shard.stop)
    part = read_table(run.part(shard), filters=[("row", "=", row)]).to_pylist()[0]
    own = part[SPECTRUM.name] or []
    tokens: list[Token] = []
    if own:
        pieces = run.vocabulary().pieces
        *texts, rest = token_texts(pieces[token] for token in part["tokens"])
        texts[-1] += rest
        tokens = [Token(*values) for values in zip(texts, part["nll"], part["supervised"], strict=True)]
    return Explanation(
        row,
        verdict["status"],
        verdict["flagged"],
        verdict["reason"],
        verdict["entropy"],
        evidence.get("beyond_length"),
        evidence.get("finding"),
        tokens,
        own,
        _usual(run, shards, len(own)),
    )


def _usual(run: RunDirectory, shards: list[Shard], length: int) -> list[float]:
    """Median spectrum of the rows with at least `length` singular values, in the first and last parts of the run."""
    some = shards if len(shards) <= MEDIAN_PARTS else [*shards[: MEDIAN_PARTS // 2], *shards[-MEDIAN_PARTS // 2 :]]
    columns = [read_table(run.part(shard), columns=[SPECTRUM.name])[SPECTRUM.name].to_pylist() for shard in some]
    rows = [values[:length] for column in columns for values in column if values and len(values) >= length]
    return np.median(np.array(rows), axis=0).tolist() if rows and length else []
