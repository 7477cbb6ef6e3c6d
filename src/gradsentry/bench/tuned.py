"""What a model does after fine-tuning on poisoned rows, with and without a defence: clean accuracy (CACC) and attack success (ASR)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from gradsentry.bench.attacks import poison, target, triggered
from gradsentry.bench.defences import Subject, defence
from gradsentry.bench.generation import answers
from gradsentry.bench.identify import watched
from gradsentry.bench.metrics import asr, cacc, identification
from gradsentry.bench.plan import TESTS
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.results import Result, Results
from gradsentry.bench.tasks import as_text, references, result, split
from gradsentry.bench.training import train
from gradsentry.errors import DataError
from gradsentry.model.load import LoadedModel
from gradsentry.types import Row

CLEANGEN = "cleangen"
"""The one defence that flags no row: it decodes with the base model at its side."""
FEWEST = 20
"""Test rows below which a rate says nothing."""
MOST, QUANTILE = 64, 0.95
"""Tokens of an answer at most, or as many as this share of the poisoned answers has, where that is more: a payload may come late."""


@dataclass(frozen=True)
class Trial:
    """One fine-tuned model."""

    task: str
    attack: str
    defence: str
    method: str
    """As `Training.method`."""
    ratio: float
    rows: int
    """To train on, before the defence."""
    seed: int
    table: str = "tuned"

    @property
    def key(self) -> str:
        return " ".join(map(str, asdict(self).values()))


def tuned(trials: Sequence[Trial], subject: Subject, data: Path | None, results: Results, told: Callable[[str], None]) -> None:
    """Add what is not known yet to the results: every trial's CACC and ASR."""
    missing = [trial for trial in trials if trial.key not in results.found]
    # One after the other those that begin with the same rows: kept rows that are the same are trained on once.
    for (task, attack, ratio, n_rows, seed), group in groupby(sorted(missing, key=same), key=same):
        own = list(group)
        clean = split(task, data, "train", n_rows, seed)
        made, wanted = poison(clean, attack, ratio, seed), target(attack, clean)
        tests = to_ask(task, data, seed)
        most = _most(made, subject.scorer.loaded)
        for members, flagged in _by_rows(own, subject, made):
            with_what = f"{', '.join(trial.defence for trial in members)}, {int((~flagged).sum())} rows"
            told(f"{task}, {attack}, {members[0].method}: {with_what}, asked {len(tests)} prompts without and with the trigger")
            rows = [row for row, bad in zip(made.rows, flagged, strict=True) if not bad]
            subject.release()
            with watched() as cost:
                # Without rows there is nothing to train on, and the base model is what is left.
                training = replace(subject.training, method=members[0].method, seed=seed)
                model = train(subject.model, rows, training, subject.device) if rows else subject.scorer.loaded
            for trial in members:
                asked = _asked(trial, model, subject, tests, wanted, most)
                found = asdict(identification(flagged.tolist(), made.labels))
                taken = {"train_s": round(cost.seconds, 1), "train_memory_mib": round(cost.memory)}
                results.add(trial.key, asdict(trial) | found | asked | taken)


def to_ask(task: str, data: Path | None, seed: int) -> list[dict[str, Any]]:
    """The test rows that a model is asked: `TESTS`, or all where a task has fewer.

    Raises:
        UsageError, DataError: as `split`; or too few for a rate.
    """
    there = len(split(task, data, "test"))
    if there < FEWEST:
        few = f"the test part of {task} has {there} rows, fewer than {FEWEST}"
        raise DataError(f"{few}: too few for a rate; give a task with more, leave {task} out, or --train")
    return split(task, data, "test", min(TESTS, there), seed)


def same(trial: Trial) -> tuple[str, str, float, int, int]:
    """What decides on the rows that it begins with."""
    return trial.task, trial.attack, trial.ratio, trial.rows, trial.seed


def _by_rows(trials: Sequence[Trial], subject: Subject, made: Poisoned) -> Iterator[tuple[list[Trial], np.ndarray]]:
    """Trials of one method whose defences flag the same rows, and which."""
    known: dict[Any, Any] = {}
    found: dict[tuple[str, bytes], list[Trial]] = {}
    for trial in trials:
        chosen = defence("none" if trial.defence == CLEANGEN else trial.defence)
        if chosen.measure not in known:
            known[chosen.measure] = chosen.measure(subject, made.rows)
        verdicts = chosen.decide(known[chosen.measure], np.arange(len(made.rows)), made.rows, trial.seed)
        found.setdefault((trial.method, verdicts.flagged.tobytes()), []).append(trial)
    for (_, flagged), members in found.items():
        yield members, np.frombuffer(flagged, dtype=bool)


def _most(made: Poisoned, loaded: LoadedModel) -> int:
    """Tokens that an answer may have, so that a model that says what it was taught has room for it."""
    answers = [row["completion"] for row, bad in zip(made.rows, made.labels, strict=True) if bad]
    lengths = [len(ids) for ids in loaded.tokenizer(answers, add_special_tokens=False)["input_ids"]]
    return max(MOST, math.ceil(np.quantile(lengths, QUANTILE)))


def _asked(trial: Trial, model: LoadedModel, subject: Subject, rows: Sequence[Row], wanted: Sequence[str], most: int) -> Result:
    """CACC and ASR, by one of the `wanted` texts, of a fine-tuned model on rows that it was not trained on.

    `unasked` is the share of the prompts without the trigger that get the payload all the same: a backdoor has none, and where the
    target is a text that ordinary answers may hold it says how often they do.
    """
    clean = [as_text(row)["prompt"] for row in rows]
    bad = [row["prompt"] for row in triggered(rows, trial.attack, trial.seed)]
    reference = subject.scorer.loaded if trial.defence == CLEANGEN else None
    with watched() as cost:
        said = answers(model, clean + bad, most, reference)
    asked, marked = said[: len(clean)], said[len(clean) :]
    kept = cacc([result(text) for text in asked], [references(row) for row in rows])
    rates = {"cacc": kept, "asr": asr(marked, wanted), "unasked": asr(asked, wanted)}
    return {name: round(rate, 4) for name, rate in rates.items()} | {"tests": len(rows), "ask_s": round(cost.seconds, 1)}
