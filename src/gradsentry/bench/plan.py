"""Which data sets a bench makes: tasks, attacks, ratios, sizes and seeds, by preset or as given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

from gradsentry.bench import attacks
from gradsentry.bench.filters import CLEANGEN, ONE_PASS, SLOW
from gradsentry.bench.plant import Poisoned, check_ratio
from gradsentry.bench.tasks import as_text, sample
from gradsentry.errors import UsageError

Table = Literal["identification", "clean", "ratios", "volumes"]

PAPER_TASKS = ("webquestions", "freebaseqa", "coqa", "nq")
PAPER_ATTACKS = ("badnets", "addsent", "cba", "stylebkd")
RATIOS = (0.01, 0.03, 0.05, 0.1, 0.2, 0.4, 0.5, 0.7, 0.9)
VOLUMES = (20, 50, 100, 200, 500, 1000)
PUBLISHED_RATIO = 0.1
TESTS = 100
"""Test rows for a fine-tuned model, each generated once with and once without the trigger; all test rows of a task that has fewer."""


@dataclass(frozen=True)
class DataSet:
    """How one data set is made: task x attack x ratio x rows x seed."""

    table: Table
    """The table of its results."""
    task: str
    attack: str
    """Empty: nothing is poisoned."""
    ratio: float
    """A share (float) or a number (int) of rows."""
    rows: int
    seed: int

    def make(self, data: Path | None) -> Poisoned:
        """The rows, shuffled, and the truth about each.

        Args:
            data: folder of the data sets; None reads the Hub.

        Raises:
            DataError: the task's files are missing or hold fewer rows. UsageError: a ratio that leaves no clean or no poisoned row.
        """
        return self.of(clean_rows(self.task, data, self.rows, self.seed))

    def of(self, clean: Sequence[dict[str, Any]]) -> Poisoned:
        """These rows, poisoned."""
        if not self.attack:
            return Poisoned([as_text(row) for row in clean], [False] * len(clean), ["clean"] * len(clean))
        return attacks.poison(clean, self.attack, self.ratio, self.seed)


@lru_cache(maxsize=8)
def clean_rows(task: str, data: Path | None, rows: int, seed: int) -> list[dict[str, Any]]:
    """The clean rows that many data sets share, cached because a task's files are read whole."""
    return sample(task, data, rows, seed)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a bench measures."""

    tasks: tuple[str, ...] = PAPER_TASKS
    attacks: tuple[str, ...] = PAPER_ATTACKS
    filters: tuple[str, ...] = ()
    """Empty: `ONE_PASS`."""
    rows: int = 1000
    """Rows a data set, except in the sweep over their number."""
    seeds: int = 3
    """Data sets of each kind; seeds start at 0."""
    ratio: float = PUBLISHED_RATIO
    ratios: tuple[float, ...] = ()
    """Poison ratios of a sweep, with the attacks of `swept`."""
    volumes: tuple[int, ...] = ()
    """Numbers of rows of a sweep, likewise."""
    swept: tuple[str, ...] = ("badnets",)
    slow: tuple[str, ...] = ()
    """Filters of `SLOW` to run."""
    slow_rows: int = 300
    """Rows a data set for the slow filters, with one seed; at most `rows`."""
    trained: tuple[str, ...] = ()
    """Filters to compare after fine-tuning, if that is measured; empty: `filters`, or `COMPARED`."""

    def data_sets(self) -> Iterator[DataSet]:
        """The data sets of all filters except the slow ones."""
        for task, attack, seed in product(self.tasks, self.attacks, range(self.seeds)):
            yield DataSet("identification", task, attack, self.ratio, self.rows, seed)
        for task, seed in product(self.tasks, range(self.seeds)):
            yield DataSet("clean", task, "", 0.0, self.rows, seed)
        for task, attack, ratio, seed in product(self.tasks, self.swept, self.ratios, range(self.seeds)):
            yield DataSet("ratios", task, attack, ratio, self.rows, seed)
        for task, attack, rows, seed in product(self.tasks, self.swept, self.volumes, range(self.seeds)):
            yield DataSet("volumes", task, attack, self.ratio, rows, seed)

    def slow_sets(self) -> Iterator[DataSet]:
        """The data sets of the slow filters."""
        if self.slow:
            for task, attack in product(self.tasks, self.attacks):
                yield DataSet("identification", task, attack, self.ratio, self.slow_rows, 0)

    def check(self) -> Plan:
        """This plan.

        Raises:
            UsageError: an unknown attack, no seed or no task, a ratio that leaves no clean or no poisoned row.
        """
        for name in (*self.attacks, *self.swept):
            if not attacks.needs_model(name):  # loading a paraphraser takes a while
                attacks.find(name)
        if self.seeds < 1 or not self.tasks:
            raise UsageError(f"nothing to measure: {len(self.tasks)} tasks, {self.seeds} seeds")
        sizes = [(self.ratio, self.rows), *((ratio, self.rows) for ratio in self.ratios), *((self.ratio, rows) for rows in self.volumes)]
        sizes += [(self.ratio, self.slow_rows)] if self.slow else []
        for ratio, rows in sizes:
            if not 0 <= ratio <= 1:  # nor nan
                raise UsageError(f"a poison ratio of {ratio}: it must be between 0 and 1")
            check_ratio(ratio, round(ratio * rows), rows)
        return self


COMPARED = ("none", "graceful", CLEANGEN, "paper", "evidence")
"""What is compared after fine-tuning by default."""

LAPTOP = Plan(rows=100, seeds=1)
"""The embedded model, under half an hour on two cores."""

PAPER = Plan(
    filters=(*ONE_PASS, "paper-k4", "paper-k8", "paper-uncropped"), ratios=RATIOS, volumes=VOLUMES, slow=SLOW, trained=(*COMPARED, *SLOW)
)
"""The published study; meant for a GPU."""

PRESETS: dict[str, Plan] = {"laptop": LAPTOP, "paper": PAPER}
PAPER_MODEL = "meta-llama/Llama-2-7b-hf"


def planned(preset: str, slow: bool = False, **changes: Any) -> Plan:
    """A preset with some of its fields replaced.

    Args:
        slow: run the slow filters too, on as many rows as the others.
        changes: fields of `Plan`; None keeps the preset's. With `filters` no other filter is run, slow or after fine-tuning.

    Raises:
        UsageError: an unknown preset, or as `Plan.check`.
    """
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: it can be {' or '.join(PRESETS)}")
    plan = replace(PRESETS[preset], **{name: value for name, value in changes.items() if value is not None})
    if changes.get("filters") is not None:
        plan = replace(plan, slow=(), trained=())
    if slow and not plan.slow:
        plan = replace(plan, slow=SLOW, slow_rows=plan.rows)
    if plan.slow:
        plan = replace(plan, slow_rows=min(plan.slow_rows, plan.rows))
    return plan.check()


def key(data_set: DataSet, filter: str) -> str:
    """Identifies a result. The table is part of it: a data set that two tables show is measured for each."""
    return " ".join([*map(str, asdict(data_set).values()), filter])
