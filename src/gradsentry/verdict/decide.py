"""Scores -> verdicts, wiring detectors and policies: for scores in memory, and for the tables of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from gradsentry.config import ScanConfig
from gradsentry.errors import UsageError
from gradsentry.schema import SCORES
from gradsentry.types import Score, Vocabulary
from gradsentry.verdict.combine import Decision
from gradsentry.verdict.detectors import find_in_sides
from gradsentry.verdict.policies import policy_named
from gradsentry.verdict.words import MemoryWords, WordSource

log = logging.getLogger(__name__)


def decide(
    scores: Sequence[Score], vocabulary: Vocabulary, policy: str = "evidence", threshold: str | float = "auto", strict: bool = False
) -> Decision:
    """Verdicts on scores in memory: the same as those of a scan of the same rows, without files.

    Args:
        scores: [N] as `Scorer.score` returns them. In the decision a row's number is its position here, whatever its `Score.row` is.
        vocabulary: of the scorer, `Scorer.vocabulary`.
        policy, threshold, strict: as in `ScanConfig`.

    Raises:
        UsageError: impossible options, or scores without the token surprises that the policy needs.

    Example:
        >>> scorer = Scorer(format="prompt-completion")  # doctest: +SKIP
        >>> decision = decide(scorer.score(rows), scorer.vocabulary)  # doctest: +SKIP
        >>> clean = [row for row, kept in zip(rows, decision.kept) if kept]  # doctest: +SKIP
    """
    config = ScanConfig(policy=policy, threshold=str(threshold), strict=strict)
    if policy_named(config.policy).uses_findings and any(score.status == "scored" and score.surprises is None for score in scores):
        raise UsageError(f"a scored row has no surprises, which policy {config.policy} needs; score it again, or use policy paper")
    columns: dict[str, list[Any]] = {name: [getattr(score, name) for score in scores] for name in SCORES.names}
    columns["row"] = list(range(len(scores)))
    columns["reason"] = [reason.encode("utf-8", "replace").decode() for reason in columns["reason"]]  # Arrow has no lone surrogates
    sides = dict.fromkeys(side["name"] for score in scores if score.surprises for side in score.surprises.sides)
    return decide_table(pa.table(columns, schema=SCORES), partial(MemoryWords.of_scores, scores, vocabulary), config, tuple(sides))


def decide_table(scores: pa.Table, words: Callable[[str], WordSource], config: ScanConfig, sides: Sequence[str] = ()) -> Decision:
    """Verdicts on a table of scores by the policy, threshold and strictness of the options. Their notes are logged as warnings too.

    Args:
        scores: [N] rows, columns of `schema.SCORES`.
        words: opens the words of the same rows, or those of one side of them; called if the policy uses findings.
        sides: names of the sides, which are searched apart; empty where a row has one answer.

    Raises:
        RunError: the words cannot be read.
    """
    policy = policy_named(config.policy)
    notes: list[str] = []
    findings = find_in_sides(words, sides, notes.append) if policy.uses_findings else []
    decision = policy.decide(scores, findings, config.threshold, config.strict, notes)
    decision = replace(decision, keep_unexamined=config.keep_unexamined)
    for note in decision.notes:
        log.warning("%s", note)
    return decision
