"""One row of a run: its tokens with their surprise, where it holds the trigger and the effect of its finding, and its spectrum."""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from gradsentry.errors import RunError, UsageError
from gradsentry.escape import shown_characters
from gradsentry.report.locate import Span, effect_spans, merged, trigger_spans
from gradsentry.run.directory import RunDirectory, open_run, read_table
from gradsentry.schema import SPECTRUM
from gradsentry.types import Shard
from gradsentry.verdict.finding import Finding
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
    trigger: Sequence[Span] = ()
    """Where the prompt holds the trigger of its finding: (start, end) in characters of the texts of its tokens."""
    effect: Sequence[Span] = ()
    """Where the completion shows the effect, in the same way."""

    def text(self, supervised: bool) -> str:
        """The prompt, or the completion, as the model read it."""
        return "".join(token.text for token in self.tokens if token.supervised == supervised)


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
        if len(part["sides"] or ()) > 1:  # the prompt once, then the answers
            tokens = [token for place, token in enumerate(tokens) if token.supervised or place < part["sides"][1]["start"]]
    prompt, completion = ("".join(token.text for token in tokens if token.supervised == side) for side in (False, True))
    trigger, effect = _marks(run, evidence.get("finding"), prompt, completion)
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
        trigger,
        effect,
    )


def _marks(run: RunDirectory, number: int | None, prompt: str, completion: str) -> tuple[list[Span], list[Span]]:
    """Where a row's texts hold the trigger and the effect of the finding with this number in ``report.json``."""
    path = run.path / "report.json"
    if number is None or not path.exists():
        return [], []
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["findings"][number - 1]
        triggers, payload, effect = tuple(found["triggers"]), found["payload"] or "", found["effect"] or ""
    except (ValueError, LookupError, TypeError) as error:
        raise RunError(f"{path} is damaged ({type(error).__name__}); write it again with gradsentry filter {run.path}") from None
    finding = Finding(found["kind"], triggers, payload, np.empty(0, np.int64), effect, 0, 0, 0.0)
    held = trigger_spans(finding, [prompt])[0]
    held = held or _in_shown(prompt, lambda shown: [Span(*at.span()) for text in triggers for at in re.finditer(re.escape(text), shown)])
    showing = effect_spans(finding, [completion])[0] or _in_shown(completion, lambda shown: effect_spans(finding, [shown])[0])
    return held, showing


def _in_shown(text: str, find: Callable[[str], Sequence[Span]]) -> list[Span]:
    """Where a text holds what the report has with escapes: found in the text with the same escapes, as places in the text itself."""
    shown = shown_characters(text)
    whole = "".join(shown)
    if whole == text:
        return []
    ends = list(accumulate(map(len, shown)))
    return merged([Span(bisect_right(ends, start), bisect_left(ends, end) + 1) for start, end in find(whole) if start < end])


def _usual(run: RunDirectory, shards: list[Shard], length: int) -> list[float]:
    """Median spectrum of the rows with at least `length` singular values, in the first and last parts of the run."""
    some = shards if len(shards) <= MEDIAN_PARTS else [*shards[: MEDIAN_PARTS // 2], *shards[-MEDIAN_PARTS // 2 :]]
    columns = [read_table(run.part(shard), columns=[SPECTRUM.name])[SPECTRUM.name].to_pylist() for shard in some]
    rows = [values[:length] for column in columns for values in column if values and len(values) >= length]
    return np.median(np.array(rows), axis=0).tolist() if rows and length else []
