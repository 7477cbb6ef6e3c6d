"""A bench from its plan to its tables: ``gradsentry bench``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradsentry.bench import needs_bench
from gradsentry.bench.attacks import ATTACKS, needs_model, poison, triggered
from gradsentry.bench.evaluate_filters import evaluate_filters
from gradsentry.bench.evaluate_finetuned import Trial, evaluate_finetuned, evaluation_rows, start
from gradsentry.bench.filters import CLEANGEN, FILTERS, ONE_PASS
from gradsentry.bench.plan import COMPARED, Plan, clean_rows
from gradsentry.bench.results import Result, opened
from gradsentry.bench.tables import document
from gradsentry.bench.tasks import fingerprint, split
from gradsentry.bench.training import TargetModel, Training, check_device
from gradsentry.errors import DataError, UsageError
from gradsentry.model import embedded
from gradsentry.model.load import pick_device, pick_dtype
from gradsentry.run.job import MATHS_VERSION

PACKAGES = ("sklearn", "umap", "peft", "accelerate", "rouge_score")
"""The packages of the extra, by the names that are imported."""


@dataclass(frozen=True)
class Bench:
    """What a bench wrote."""

    results: list[Result]
    """All lines of ``results.jsonl``, those of earlier calls included."""
    table: str
    """All tables, as in ``tables.md``."""
    files: list[Path]


def run_bench(
    plan: Plan, target: TargetModel, out: Path, data: Path | None, trials: Sequence[Trial] = (), report: Callable[[str], None] = print
) -> Bench:
    """Measure what is not in `out` yet, and write its tables.

    Args:
        data: folder of the data sets; None reads the Hub.
        trials: models to fine-tune.
        report: called with a line on what is about to run.

    Raises:
        RunError: `out` holds results of another configuration, other rows or another attack of the same name, or cannot be written.
        DataError: a data set is unreachable, or an attack cannot be made of its rows.
        UsageError: the extra is missing, an unknown filter, or CleanGen without trials.
    """
    needs_bench("the bench", *PACKAGES)  # this and the checks below run before anything is measured, not after an hour
    if CLEANGEN in plan.filters and not trials:
        raise UsageError(f"{CLEANGEN} flags no row, it decodes beside a fine-tuned model: add --train")
    if trials:
        check_device(target.device)
    filters = [name for name in plan.filters or ONE_PASS if name != CLEANGEN]
    for name in (*filters, *(trial.filter for trial in trials if trial.filter != CLEANGEN)):
        _ = FILTERS[name]
    check_sets(plan, trials, data)
    tested = dict.fromkeys(trial.task for trial in trials)
    rows = {task: fingerprint(task, data, "train") for task in plan.tasks} | {f"{t}, test": fingerprint(t, data, "test") for t in tested}
    own = {name: ATTACKS[name].about for name in (*plan.attacks, *plan.swept) if name in ATTACKS.added}
    results = opened(out, configuration(target), rows, own)
    evaluate_filters(list(plan.data_sets()), filters, target, data, results, report)
    evaluate_filters(list(plan.slow_sets()), plan.slow, target, data, results, report)
    evaluate_finetuned(trials, target, data, results, report)
    found = list(results.found.values())
    table = document(found)
    (out / "tables.md").write_text(table, encoding="utf-8")
    return Bench(found, table, [results.path, out / "tables.md"])


def check_sets(plan: Plan, trials: Sequence[Trial], data: Path | None) -> None:
    """Make every data set of a plan and all rows that its models are trained and tested on, before anything is measured.

    Of data sets that differ only in their ratio, the one with the highest ratio is made: it poisons the rows of the others, and more.

    Raises:
        UsageError, DataError: one cannot be made; the message begins with its task and attack.
    """
    by_ratio = sorted([*plan.data_sets(), *plan.slow_sets()], key=lambda s: (s.task, s.rows, s.seed, s.ratio))
    for made in {(s.task, s.rows, s.seed, s.attack): s for s in by_ratio}.values():
        rows = clean_rows(made.task, data, made.rows, made.seed)
        if made.attack:
            _try(made.task, made.attack, made.ratio, made.seed, rows, [])
    for task, attack, ratio, count, seed in dict.fromkeys(map(start, trials)):
        _try(task, attack, ratio, seed, split(task, data, "train", count, seed), evaluation_rows(task, data, seed))


def _try(task: str, attack: str, ratio: float, seed: int, rows: list[dict[str, Any]], tests: list[dict[str, Any]]) -> None:
    """Poison the rows, and add the trigger to the test rows."""
    if needs_model(attack):  # a paraphraser is slow, and can rewrite any row
        return
    try:
        poison(rows, attack, ratio, seed)
        triggered(tests, attack, seed)
    except (UsageError, DataError) as error:
        raise type(error)(f"{task}, {attack}: {error}") from None


def configuration(target: TargetModel) -> dict[str, Any]:
    """What changes a result and is not part of a data set's description."""
    return {
        "model": target.model or embedded.NAME,
        "dtype": str(pick_dtype(target.dtype, pick_device(target.device))).removeprefix("torch."),
        "training": asdict(target.training),
        "maths": MATHS_VERSION,
    }


def trials_of(plan: Plan, methods: Sequence[str]) -> list[Trial]:
    """The models to fine-tune: each task, attack, method and filter to compare.

    Raises:
        UsageError: an unknown method.
    """
    for method in methods:
        Training(method=method).check()  # pyright: ignore[reportArgumentType]
    return [
        Trial(task, attack, name, method, plan.ratio, plan.rows, 0)
        for task in plan.tasks
        for attack in plan.attacks
        for method in methods
        for name in plan.trained or plan.filters or COMPARED
    ]
