"""Which data sets a bench makes: tasks, attacks, ratios, sizes and seeds, by preset or as asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

from gradsentry.bench import attacks
from gradsentry.bench.defences import ONE_PASS
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.tasks import as_text, sample
from gradsentry.errors import UsageError

Table = Literal["identification", "clean", "ratios", "volumes"]

PAPER_TASKS = ("webquestions", "freebaseqa", "coqa", "nq")
PAPER_ATTACKS = ("badnets", "addsent", "cba", "stylebkd")
RATIOS = (0.01, 0.03, 0.05, 0.1, 0.2, 0.4, 0.5, 0.7, 0.9)
VOLUMES = (20, 50, 100, 200, 500, 1000)
USUAL = 0.1
"""The published poison ratio."""
TESTS = 100
"""Clean rows, and rows with the trigger, that a fine-tuned model is asked; fewer where a task has fewer for it."""


@dataclass(frozen=True)
class Cell:
    """One data set to filter."""

    table: Table
    """Where its results are shown."""
    task: str
    attack: str
    """Empty: nothing is poisoned."""
    ratio: float
    rows: int
    seed: int

    def make(self, data: Path | None) -> Poisoned:
        """The rows, shuffled, and the truth beside them.

        Args:
            data: folder of the data sets; None reads the Hub.

        Raises:
            DataError: the task's files are not there, or hold fewer rows. UsageError: a ratio that leaves no clean or no poisoned row.
        """
        clean = clean_rows(self.task, data, self.rows, self.seed)
        if not self.attack:
            return Poisoned([as_text(row) for row in clean], [False] * len(clean), ["clean"] * len(clean))
        return attacks.poison(clean, self.attack, self.ratio, self.seed)


@lru_cache(maxsize=8)
def clean_rows(task: str, data: Path | None, rows: int, seed: int) -> list[dict[str, Any]]:
    """Rows that many cells have in common: a task's files are read whole."""
    return sample(task, data, rows, seed)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a bench measures."""

    tasks: tuple[str, ...] = PAPER_TASKS
    attacks: tuple[str, ...] = PAPER_ATTACKS
    defences: tuple[str, ...] = ()
    """Empty: every filter of one pass."""
    rows: int = 1000
    """Rows a data set, but for the sweep over their number."""
    seeds: int = 3
    """Data sets of each kind, with seeds from 0."""
    ratio: float = USUAL
    ratios: tuple[float, ...] = ()
    """Poison ratios of a sweep, on `swept` attacks."""
    volumes: tuple[int, ...] = ()
    """Numbers of rows of a sweep."""
    swept: tuple[str, ...] = ("badnets",)
    """Attacks of the sweeps."""
    slow: tuple[str, ...] = ()
    """Defences that fine-tune or delete word by word."""
    slow_rows: int = 300
    """Rows a data set for those, with one seed; not more than `rows`."""
    trained: tuple[str, ...] = ()
    """Defences to fine-tune with, where that is asked for; empty: `defences`, or those that are usually compared."""

    def cells(self) -> Iterator[Cell]:
        """The data sets of the filters of one pass."""
        for task, attack, seed in product(self.tasks, self.attacks, range(self.seeds)):
            yield Cell("identification", task, attack, self.ratio, self.rows, seed)
        for task, seed in product(self.tasks, range(self.seeds)):
            yield Cell("clean", task, "", 0.0, self.rows, seed)
        for task, attack, ratio, seed in product(self.tasks, self.swept, self.ratios, range(self.seeds)):
            yield Cell("ratios", task, attack, ratio, self.rows, seed)
        for task, attack, rows, seed in product(self.tasks, self.swept, self.volumes, range(self.seeds)):
            yield Cell("volumes", task, attack, self.ratio, rows, seed)

    def slow_cells(self) -> Iterator[Cell]:
        """The data sets of the slow defences."""
        for task, attack in product(self.tasks, self.attacks):
            yield Cell("identification", task, attack, self.ratio, self.slow_rows, 0)

    def check(self) -> Plan:
        """Itself.

        Raises:
            UsageError: an unknown attack, no seed or no row, a ratio that leaves no clean or no poisoned row.
        """
        for name in (*self.attacks, *self.swept):
            attacks.check(name)
        if self.seeds < 1 or not self.tasks:
            raise UsageError(f"nothing to measure: {len(self.tasks)} tasks, {self.seeds} seeds")
        sizes = [(self.ratio, self.rows), *((ratio, self.rows) for ratio in self.ratios), *((self.ratio, rows) for rows in self.volumes)]
        sizes += [(self.ratio, self.slow_rows)] if self.slow else []
        for ratio, rows in sizes:
            if not 0 <= ratio <= 1:  # nor nan
                raise UsageError(f"a poison ratio of {ratio}: it must lie between 0 and 1")
            count = round(ratio * rows)
            if not 0 < count < rows:
                raise UsageError(f"a poison ratio of {ratio} leaves {count} of {rows} rows poisoned; some must be and some not")
        return self


SLOW = ("cube", "onion")
COMPARED = ("none", "graceful", "cleangen", "paper", "evidence")
"""Defences that are usually compared after fine-tuning."""

LAPTOP = Plan(rows=100, seeds=1)
"""The embedded model, under half an hour on two cores."""

PAPER = Plan(
    defences=(*ONE_PASS, "paper-k4", "paper-k8", "paper-uncropped"), ratios=RATIOS, volumes=VOLUMES, slow=SLOW, trained=(*COMPARED, *SLOW)
)
"""Everything; meant for a GPU."""

PRESETS: dict[str, Plan] = {"laptop": LAPTOP, "paper": PAPER}
PAPER_MODEL = "meta-llama/Llama-2-7b-hf"


def planned(preset: str, slow: bool = False, **asked: Any) -> Plan:
    """A preset with what was asked for in place of its own.

    Args:
        slow: the slow defences too, on as many rows as the others.
        asked: fields of `Plan`; None leaves the preset's. With `defences` no others are run, slow ones or trained with.

    Raises:
        UsageError: no such preset, or a plan that cannot be.
    """
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: it can be {' or '.join(PRESETS)}")
    plan = replace(PRESETS[preset], **{name: value for name, value in asked.items() if value is not None})
    if asked.get("defences") is not None:
        plan = replace(plan, slow=(), trained=())
    if slow and not plan.slow:
        plan = replace(plan, slow=SLOW, slow_rows=plan.rows)
    if plan.slow:
        plan = replace(plan, slow_rows=min(plan.slow_rows, plan.rows))
    return plan.check()


def key(cell: Cell, defence: str) -> str:
    """Names a result: a cell that is measured again for another table is another one."""
    return " ".join([*map(str, asdict(cell).values()), defence])


def groups(cells: Sequence[Cell]) -> Iterator[tuple[tuple[str, int], list[Cell]]]:
    """Cells by task and seed: their data sets have most of their rows in common."""
    found: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.task, cell.seed), []).append(cell)
    yield from found.items()
