"""The data sets on which verdicts of the evidence policy are compared, and the scores of their rows.

    python benchmarks/sets.py --data ../shared/data --work DIR [--ratios 0.01 0.05 ...] [--seeds N]

A row's score depends only on the row, and many data sets share rows. An ordinary `gradsentry scan` of a file with all rows scores every
row once, and resumes where it stopped; a data set is then put together from those scores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mixture import MIXED, mixture

from gradsentry.bench.payloads import PAYLOADS
from gradsentry.bench.plan import DataSet, clean_rows
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.triggers import TRIGGERS
from gradsentry.run.directory import RunDirectory

SETS = (*MIXED, "mixture")
ROWS = 1000
SELF_INSTRUCT = 252
"""All its rows."""
RATIOS = (0.01, 0.05, 0.1, 0.5, 0.9)
SEEDS = 5


def data_set(task: str, attack: str = "", ratio: float = 0, rows: int = ROWS, seed: int = 0) -> DataSet:
    """A data set of a task or of "mixture"; `attack` is TRIGGER+PAYLOAD."""
    return DataSet("evidence", task, attack, ratio, SELF_INSTRUCT if task == "self_instruct" and rows == ROWS else rows, seed)  # pyright: ignore[reportArgumentType]


def made(one: DataSet, data: Path) -> Poisoned:
    """Its rows and the truth about them."""
    return one.of(_mixture(data, one.rows, one.seed) if one.task == "mixture" else clean_rows(one.task, data, one.rows, one.seed))


@cache
def _mixture(data: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    return mixture(data, rows, seed)


def grid(ratios: Sequence[float] = RATIOS, seeds: int = SEEDS) -> Iterator[DataSet]:
    """Every data set: clean ones, triggers x payloads x ratios, and few poisoned rows in small sets."""
    attacks = [f"{trigger}+{payload}" for trigger, payload in product(TRIGGERS, PAYLOADS)]
    for task, seed in product(SETS, range(seeds)):
        yield data_set(task, seed=seed)
    for task, attack, ratio in product(SETS, attacks, ratios):
        yield data_set(task, attack, ratio)
    for task, trigger, payload in product(MIXED, ("words", "sentence"), ("suffix", "insult", "refusal")):
        for rows, count in ((400, 3), (400, 4), (400, 5), (20, 4), (50, 4)):
            if task != "self_instruct" or rows < SELF_INSTRUCT:
                yield data_set(task, f"{trigger}+{payload}", count, rows)
    for attack in attacks:
        yield data_set("mixture", attack, 12)


def key(row: dict[str, str]) -> str:
    return hashlib.blake2b(json.dumps([row["prompt"], row["completion"]]).encode(), digest_size=12).hexdigest()


class NotScored(Exception):
    """Rows of a data set have no score yet."""


class Scores:
    """Scores and surprises of single rows, from the runs of `main`."""

    def __init__(self, work: Path) -> None:
        tables: list[pa.Table] = []
        self.places: dict[str, int] = {}
        count = 0
        for run in sorted(work.glob("run-*")):
            keys = [key(json.loads(line)) for line in (work / f"{run.name.removeprefix('run-')}.jsonl").read_text().splitlines()]
            for part in sorted((run / "scores").glob("part-*.parquet")):
                tables.append(pq.read_table(part))
                self.places |= {keys[row]: count + i for i, row in enumerate(tables[-1]["row"].to_pylist())}
                count += tables[-1].num_rows
            self.vocabulary = RunDirectory(run).vocabulary()
        self.table = pa.concat_tables(tables).combine_chunks()

    def of(self, rows: Iterable[dict[str, str]]) -> pa.Table:
        """The columns of a part file for these rows, numbered in their order.

        Raises:
            NotScored: some have no score yet.
        """
        keys = [key(row) for row in rows]
        if missing := sum(one not in self.places for one in keys):
            raise NotScored(f"{missing} of {len(keys)} rows")
        table = self.table.take(pa.array([self.places[one] for one in keys]))
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
    for task in arguments.sets:
        fresh: dict[str, dict[str, str]] = {}
        for one in grid(arguments.ratios, arguments.seeds):
            if one.task == task:
                fresh |= {key(row): row for row in made(one, arguments.data).rows}
        rows = [row for k, row in fresh.items() if k not in known]
        known |= set(fresh)
        rows.sort(key=lambda row: (row["prompt"], row["completion"]))  # a scan computes what rows of a shard share once
        text = "".join(json.dumps(row) + "\n" for row in rows)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        if rows:
            (arguments.work / f"{task}-{digest}.jsonl").write_text(text, encoding="utf-8")
    for file in sorted(arguments.work.glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
        print(file.name, flush=True)
        out = arguments.work / f"run-{file.stem}"
        with show_progress(Console(stderr=True)) as progress:
            # The cheap policy: only scores and surprises are needed.
            scan(file, out=out, progress=progress, format="prompt-completion", policy="paper", threshold="0.7")


if __name__ == "__main__":
    main()
