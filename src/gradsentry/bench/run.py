"""A bench from its options to its tables: ``gradsentry bench``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradsentry.bench import needs_bench
from gradsentry.bench.checks import check_sets
from gradsentry.bench.defences import ONE_PASS, Subject, defence
from gradsentry.bench.identify import identify
from gradsentry.bench.plan import COMPARED, Plan
from gradsentry.bench.plots import draw
from gradsentry.bench.results import Result, opened
from gradsentry.bench.tables import document
from gradsentry.bench.tasks import fingerprint
from gradsentry.bench.training import Training, check_device
from gradsentry.bench.tuned import CLEANGEN, Trial, tuned
from gradsentry.errors import UsageError
from gradsentry.model import embedded
from gradsentry.model.load import pick_device, pick_dtype
from gradsentry.run.job import MATHS_VERSION

PACKAGES = ("sklearn", "umap", "peft", "accelerate", "rouge_score", "matplotlib")
"""What the extra brings, by the names that are imported."""


@dataclass(frozen=True)
class Bench:
    """What a bench left."""

    results: list[Result]
    """All lines of ``results.jsonl``, those of earlier calls among them."""
    table: str
    """All tables, as ``tables.md`` has them."""
    files: list[Path]
    """Everything that was written."""


def run_bench(
    plan: Plan, subject: Subject, out: Path, data: Path | None, trials: Sequence[Trial] = (), told: Callable[[str], None] = print
) -> Bench:
    """Measure what is not in `out` yet, and write its tables and plots.

    Args:
        data: folder of the data sets; None reads the Hub.
        trials: fine-tuning with and without a defence.

    Raises:
        RunError: `out` holds results of another configuration or of other rows, or cannot be written. DataError: a data set that cannot
            be reached, or be made by an attack, of that size, with that ratio.
        UsageError: the extra is missing, an unknown defence, or CleanGen without trials.
    """
    needs_bench("the bench", *PACKAGES)  # this and what follows before anything is measured, not after an hour
    if CLEANGEN in plan.defences and not trials:
        raise UsageError(f"defence {CLEANGEN!r} flags no row, it decodes beside a fine-tuned model: give --train")
    if trials:
        check_device(subject.device)
    filters = [name for name in plan.defences or ONE_PASS if name != CLEANGEN]
    for name in (*filters, *(trial.defence for trial in trials if trial.defence != CLEANGEN)):
        defence(name)
    check_sets(plan, trials, data)
    tested = dict.fromkeys(trial.task for trial in trials)
    rows = {task: fingerprint(task, data, "train") for task in plan.tasks} | {f"{t}, test": fingerprint(t, data, "test") for t in tested}
    results = opened(out, configuration(subject), rows)
    identify(list(plan.cells()), filters, subject, data, results, told)
    identify(list(plan.slow_cells()) if plan.slow else [], plan.slow, subject, data, results, told)
    tuned(trials, subject, data, results, told)
    found = list(results.found.values())
    table = document(found)
    (out / "tables.md").write_text(table, encoding="utf-8")
    return Bench(found, table, [results.path, out / "tables.md", *draw(found, out)])


def configuration(subject: Subject) -> dict[str, Any]:
    """All that changes a result and is not part of a cell."""
    return {
        "model": subject.model or embedded.NAME,
        "dtype": str(pick_dtype(subject.dtype, pick_device(subject.device))).removeprefix("torch."),
        "training": asdict(subject.training),
        "maths": MATHS_VERSION,
    }


def trials_of(plan: Plan, methods: Sequence[str]) -> list[Trial]:
    """Fine-tuning of every task and attack of a plan, with each of its defences, or those that are usually compared there.

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
        for name in plan.trained or plan.defences or COMPARED
    ]
