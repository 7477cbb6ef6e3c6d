"""What one row costs: gradsentry at a batch of one, and batched as `scan` does it, against the published recipe.

    python benchmarks/row_cost.py --data ../shared/data

All take turns on the same rows in the same process; medians over rounds and the ratio of medians per round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from recipe import prepared, published_entropy

from gradsentry import Scorer
from gradsentry.bench.attacks import poison
from gradsentry.bench.tasks import sample
from gradsentry.types import Encoded, Record
from report import ROOT, machine, replace_section, save, table


def encoded_rows(scorer: Scorer, rows: list[dict]) -> list[Encoded]:
    """The rows as tokens, so that every contender starts from the same."""
    records = [Record(i, f"row {i}", row) for i, row in enumerate(rows)]
    encoded = scorer.prepare(records)
    assert all(isinstance(row, Encoded) for row in encoded)
    return encoded  # type: ignore[return-value]


def recipe(scorer: Scorer, encoded: list[Encoded], frozen: bool) -> None:
    """The published recipe, row by row."""
    with prepared(scorer.loaded.model, frozen) as weight:
        for row in encoded:
            published_entropy(scorer.loaded.model, weight, torch.tensor([row.input_ids]), torch.tensor([row.labels]))


def one_by_one(scorer: Scorer, encoded: list[Encoded]) -> None:
    """gradsentry with a batch of one."""
    for row in encoded:
        list(scorer.score_encoded([row]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    scorer = Scorer(dtype=arguments.dtype)
    encoded = encoded_rows(scorer, poison(sample("webquestions", arguments.data, arguments.rows, 0), "badnets", 0.1, 0).rows)
    contenders: dict[str, Callable[[], object]] = {
        "recipe as published": lambda: recipe(scorer, encoded, frozen=False),
        "recipe, all but the head frozen": lambda: recipe(scorer, encoded, frozen=True),
        "gradsentry, batch of one": lambda: one_by_one(scorer, encoded),
        "gradsentry, batched": lambda: list(scorer.score_encoded(encoded)),
    }
    for run in contenders.values():  # warm-up
        run()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - started) / len(encoded))
    base = times["recipe, all but the head frozen"]
    rows = []
    for name, values in times.items():
        ratio = statistics.median(value / other for value, other in zip(values, base, strict=True))
        rows.append([name, f"{statistics.median(values):.0f}", f"{min(values):.0f}-{max(values):.0f}", f"{ratio:.2f}"])
    tokens = statistics.median(len(row.input_ids) for row in encoded)
    save("row_cost", {"machine": machine(), "dtype": arguments.dtype, "rows": len(encoded), "median_tokens": tokens, "ms_per_row": times})
    text = (
        "## What one row costs\n\n"
        f"{len(encoded)} WebQuestions rows (median {tokens:.0f} tokens), SmolLM2-135M-Instruct in {arguments.dtype}, {machine()['cpu']},\n"
        f"{arguments.rounds} rounds in turn in one process. Made by `benchmarks/row_cost.py`.\n\n"
        + table(["way", "ms a row, median", "range", "of the frozen recipe's time"], rows)
    )
    replace_section(ROOT / "docs" / "benchmark.md", "row_cost", text)


if __name__ == "__main__":
    main()
