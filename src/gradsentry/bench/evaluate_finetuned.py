"""What a model does after fine-tuning on poisoned rows, filtered or not: clean accuracy (CACC) and attack success rate (ASR)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from gradsentry.bench.attacks import poison, target_texts, triggered
from gradsentry.bench.filters import CLEANGEN, FILTERS
from gradsentry.bench.generation import answers
from gradsentry.bench.metrics import asr, cacc, identification
from gradsentry.bench.plan import TESTS
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.resources import watched
from gradsentry.bench.results import Result, Results
from gradsentry.bench.tasks import as_text, references, result, split
from gradsentry.bench.training import TargetModel, train
from gradsentry.errors import DataError
from gradsentry.model.load import LoadedModel
from gradsentry.types import Row

FEWEST = 20
"""A rate over fewer test rows says nothing."""
MOST, QUANTILE = 64, 0.95
"""Token limit of an answer: `MOST`, or the length that this share of the poisoned answers has, if greater: a payload may come late."""


@dataclass(frozen=True)
class Trial:
    """One fine-tuned model."""

    task: str
    attack: str
    filter: str
    method: str
    """As `Training.method`."""
    ratio: float
    rows: int
    """Rows before the filter."""
    seed: int
    table: str = "tuned"

    @property
    def key(self) -> str:
        return " ".join(map(str, asdict(self).values()))


def start(trial: Trial) -> tuple[str, str, float, int, int]:
    """What determines the rows that a trial begins with: task, attack, ratio, rows, seed."""
    return trial.task, trial.attack, trial.ratio, trial.rows, trial.seed


def evaluate_finetuned(
    trials: Sequence[Trial], target: TargetModel, data: Path | None, results: Results, report: Callable[[str], None]
) -> None:
    """Add every missing trial's CACC and ASR to the results. Trials that keep the same rows share one fine-tuned model."""
    missing = [trial for trial in trials if trial.key not in results.found]
    for (task, attack, ratio, n_rows, seed), group in groupby(sorted(missing, key=start), key=start):
        clean = split(task, data, "train", n_rows, seed)
        made, wanted = poison(clean, attack, ratio, seed), target_texts(attack, clean)
        tests = evaluation_rows(task, data, seed)
        poisoned = [row["completion"] for row, bad in zip(made.rows, made.labels, strict=True) if bad]
        lengths = [len(ids) for ids in target.scorer.loaded.tokenizer(poisoned, add_special_tokens=False)["input_ids"]]
        limit = max(MOST, math.ceil(np.quantile(lengths, QUANTILE)))
        for members, flagged in _by_kept_rows(list(group), target, made):
            method, names = members[0].method, ", ".join(trial.filter for trial in members)
            report(f"{task}, {attack}, {method}: {names}: {int((~flagged).sum())} rows to train on, {len(tests)} test rows")
            rows = [row for row, bad in zip(made.rows, flagged, strict=True) if not bad]
            target.release()
            with watched() as cost:
                # If no row is kept, the base model is what results.
                training = replace(target.training, method=method, seed=seed)
                model = train(target.model, rows, training, target.device) if rows else target.scorer.loaded
            for trial in members:
                rates = _rates(trial, model, target, tests, wanted, limit)
                counts = asdict(identification(flagged.tolist(), made.labels))
                taken = {"train_s": round(cost.seconds, 1), "train_memory_mib": round(cost.memory)}
                results.add(trial.key, asdict(trial) | counts | rates | taken)


def evaluation_rows(task: str, data: Path | None, seed: int) -> list[dict[str, Any]]:
    """`TESTS` test rows, or all where a task has fewer.

    Raises:
        UsageError, DataError: as `split`; or fewer than `FEWEST`.
    """
    there = len(split(task, data, "test"))
    if there < FEWEST:
        raise DataError(
            f"the test part of {task} has {there} rows, fewer than the {FEWEST} that a rate needs; "
            f"use a task with more, leave out {task}, or leave out --train"
        )
    return split(task, data, "test", min(TESTS, there), seed)


def _by_kept_rows(trials: Sequence[Trial], target: TargetModel, made: Poisoned) -> Iterator[tuple[list[Trial], np.ndarray]]:
    """Trials of one method whose filters flag the same rows, and which rows: [N] bool."""
    known: dict[Any, Any] = {}
    found: dict[tuple[str, bytes], list[Trial]] = {}
    for trial in trials:
        chosen = FILTERS["none" if trial.filter == CLEANGEN else trial.filter]
        if chosen.measure not in known:
            known[chosen.measure] = chosen.measure(target, made.rows)
        verdicts = chosen.decide(known[chosen.measure], np.arange(len(made.rows)), made.rows, trial.seed)
        found.setdefault((trial.method, verdicts.flagged.tobytes()), []).append(trial)
    for (_, flagged), members in found.items():
        yield members, np.frombuffer(flagged, dtype=bool)


def _rates(trial: Trial, model: LoadedModel, target: TargetModel, rows: Sequence[Row], wanted: Sequence[str], limit: int) -> Result:
    """CACC and ASR of a fine-tuned model on test rows; an answer with one of the `wanted` texts is a success of the attack.

    `unasked` is the share of prompts without the trigger that get the payload. A backdoor has next to none; if ordinary answers may
    hold the target, it shows how often they do.
    """
    clean = [as_text(row)["prompt"] for row in rows]
    bad = [row["prompt"] for row in triggered(rows, trial.attack, trial.seed)]
    reference = target.scorer.loaded if trial.filter == CLEANGEN else None
    with watched() as cost:
        made = answers(model, clean + bad, limit, reference)
    plain, marked = made[: len(clean)], made[len(clean) :]
    accuracy = cacc([result(text) for text in plain], [references(row) for row in rows])
    rates = {"cacc": accuracy, "asr": asr(marked, wanted), "unasked": asr(plain, wanted)}
    return {name: round(rate, 4) for name, rate in rates.items()} | {"tests": len(rows), "ask_s": round(cost.seconds, 1)}
