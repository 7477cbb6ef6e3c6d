"""The data sets on which verdicts are compared, and the scores of their rows.

    python benchmarks/cells.py --data ../shared/data --work DIR [--ratios 0.01 0.05 ...] [--seeds N]

A row's score depends on nothing but the row, and many cells have rows in common: every row is scored once, by an ordinary
`gradsentry scan` of a file that holds them all (it goes on where it stopped), and a cell is put together from those scores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry.bench.plant import PAYLOADS, TRIGGERS, plant
from gradsentry.bench.tasks import MIXED, TASKS, as_text, mixture, sample
from gradsentry.run.directory import RunDirectory

SETS = (*MIXED, "mixture")
ROWS = 1000
RATIOS = (0.01, 0.05, 0.1, 0.5, 0.9)
SEEDS = 5


@dataclass(frozen=True)
class Cell:
    """One data set to judge."""

    name: str
    """Of the rows: a task or "mixture"."""
    rows: int
    """At most: self_instruct has 252."""
    trigger: str = ""
    """Empty: nothing poisoned."""
    payload: str = ""
    amount: float | int = 0
    """Share or number of poisoned rows."""
    seed: int = 0

    def made(self, data: Path) -> tuple[list[dict[str, str]], list[bool]]:
        """Rows and labels."""
        clean = clean_rows(self.name, data, self.rows, self.seed)
        if not self.trigger:
            return [as_text(row) for row in clean], [False] * len(clean)
        poisoned = plant(clean, self.trigger, self.payload, self.amount, self.seed)
        return poisoned.rows, poisoned.labels  # pyright: ignore[reportReturnType]


@cache
def clean_rows(name: str, data: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    if name == "mixture":
        return mixture(data, rows, seed)
    return sample(name, data, min(rows, len(TASKS[name](data))), seed)


def grid(ratios: Sequence[float] = RATIOS, seeds: int = SEEDS) -> Iterator[Cell]:
    """Every cell: clean ones, triggers x payloads x ratios, and few poisoned rows in small sets."""
    for name, seed in product(SETS, range(seeds)):
        yield Cell(name, ROWS, seed=seed)
    for name, trigger, payload, ratio in product(SETS, TRIGGERS, PAYLOADS, ratios):
        yield Cell(name, ROWS, trigger, payload, ratio)
    for name, trigger, payload in product(MIXED, ("words", "sentence"), ("suffix", "insult", "refusal")):
        for rows, count in ((400, 3), (400, 4), (400, 5), (20, 4), (50, 4)):
            if name != "self_instruct" or rows < 252:
                yield Cell(name, rows, trigger, payload, count)
    for trigger, payload in product(TRIGGERS, PAYLOADS):
        yield Cell("mixture", ROWS, trigger, payload, 12)


def key(row: dict[str, str]) -> str:
    return hashlib.blake2b(json.dumps([row["prompt"], row["completion"]]).encode(), digest_size=12).hexdigest()


class NotScored(Exception):
    """Rows of a cell have no score yet."""


class Scores:
    """Scores and surprises of single rows, from the runs of `main`."""

    def __init__(self, work: Path) -> None:
        self.tables: list[pa.Table] = []
        self.places: dict[str, tuple[int, int]] = {}
        for run in sorted(work.glob("run-*")):
            keys = [key(json.loads(line)) for line in (work / f"{run.name.removeprefix('run-')}.jsonl").read_text().splitlines()]
            for part in sorted((run / "scores").glob("part-*.parquet")):
                table = pq.read_table(part)
                for i, row in enumerate(table["row"].to_pylist()):
                    self.places[keys[row]] = (len(self.tables), i)
                self.tables.append(table)
            self.vocabulary = RunDirectory(run).vocabulary()
        self.starts = [0]
        for table in self.tables:
            self.starts.append(self.starts[-1] + table.num_rows)
        self.whole = pa.concat_tables(self.tables).combine_chunks()

    def of(self, rows: Iterable[dict[str, str]]) -> pa.Table:
        """The columns of a part for these rows, numbered in their order.

        Raises:
            NotScored: some have no score yet.
        """
        keys = [key(row) for row in rows]
        missing = sum(one not in self.places for one in keys)
        if missing:
            raise NotScored(f"{missing} of {len(keys)} rows")
        places = [self.places[one] for one in keys]
        table = self.whole.take(pa.array([self.starts[part] + i for part, i in places]))
        return table.set_column(0, "row", pa.array(range(table.num_rows), pa.int64()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="Rows and runs are kept here.")
    parser.add_argument("--ratios", type=float, nargs="*", default=RATIOS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS)
    arguments = parser.parse_args()
    from rich.console import Console

    from gradsentry import scan
    from gradsentry.report.progress import show_progress

    arguments.work.mkdir(parents=True, exist_ok=True)
    known: set[str] = set()
    for file in sorted(arguments.work.glob("*.jsonl")):
        known |= {key(json.loads(line)) for line in file.read_text().splitlines()}
    for name in arguments.sets:
        fresh: dict[str, dict[str, str]] = {}
        for cell in grid(arguments.ratios, arguments.seeds):
            if cell.name == name:
                fresh |= {key(row): row for row in cell.made(arguments.data)[0]}
        rows = [row for k, row in fresh.items() if k not in known]
        known |= set(fresh)
        rows.sort(key=lambda row: (row["prompt"], row["completion"]))  # what rows share is computed once a shard
        text = "".join(json.dumps(row) + "\n" for row in rows)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        if rows:
            (arguments.work / f"{name}-{digest}.jsonl").write_text(text, encoding="utf-8")
    for file in sorted(arguments.work.glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
        print(file.name, flush=True)
        with show_progress(Console(stderr=True)) as progress:
            # The policy is the cheap one: what is wanted are scores and surprises.
            scan(
                file,
                out=arguments.work / f"run-{file.stem}",
                progress=progress,
                format="prompt-completion",
                policy="paper",
                threshold="0.7",
            )


if __name__ == "__main__":
    main()
