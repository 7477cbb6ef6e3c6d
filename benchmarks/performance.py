"""How fast `scan` is beside the published recipe, how far its scores move with precision, and how both grow.

    python benchmarks/performance.py --data ../shared/data            # everything, about an hour on two cores
    python benchmarks/performance.py --data ../shared/data --only speed

Contenders take turns on the same rows in one process, after a warm-up; medians over rounds. Writes docs/performance.md and
benchmarks/results/performance-*.json. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipe import prepared, published_entropy
from rows import SETS, encoded_rows

from gradsentry import Scorer
from gradsentry.model.batches.prefix_tree import pack
from gradsentry.model.batches.states import unsupervised_positions
from gradsentry.types import Encoded
from report import ROOT, machine, replace_section, save, table

DOCUMENT = ROOT / "docs" / "performance.md"
MODEL = "SmolLM2-135M-Instruct"
SPEED_ROWS = {"webquestions": (512, 32), "dolly": (32, 32)}
"""Rows of a set, a shard's worth where it can be, and how many of them, evenly spaced, the recipe is timed on: it takes rows
one by one, so its time for a row is the same whatever the others are."""
PRECISION_ROWS = {"webquestions": 400, "dolly": 100}
LENGTHS = (8, 64, 512, 4096)


def recipe(scorer: Scorer, rows: list[Encoded], frozen: bool) -> None:
    """The published recipe, row by row."""
    with prepared(scorer.loaded.model, frozen) as weight:
        for row in rows:
            published_entropy(scorer.loaded.model, weight, torch.tensor([row.input_ids]), torch.tensor([row.labels]))


def scoring(scorer: Scorer, rows: list[dict[str, Any]]) -> None:
    """What `scan` does with rows: tokens, states, spectra. Loading, verdicts and reports are in the table of growth."""
    scorer.format = None
    assert all(score.status == "scored" for score in scorer.score(rows))


def peak_memory(run: Callable[[], object]) -> float:
    """MiB that a call adds at its peak to what the process has (Linux; NaN elsewhere)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        run()
        return float("nan")

    def resident(name: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    gc.collect()
    reset.write_text("5")
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1024


def matmul_peak(dtype: torch.dtype) -> float:
    """FLOP/s of this machine's matrix product: the best of the medians of some shapes, the model's own among them."""
    best = 0.0
    for m, k, n in ((1024, 576, 1536), (1024, 576, 576), (2048, 2048, 2048), (4096, 576, 1536)):
        a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
        times = []
        for _ in range(15):
            started = time.perf_counter()
            torch.nn.functional.linear(a, b)
            times.append(time.perf_counter() - started)
        best = max(best, 2 * m * k * n / statistics.median(times))
    return best


def work(scorer: Scorer, rows: list[Encoded]) -> tuple[int, float]:
    """Unique tokens, and FLOP of the matrix products that the unique ones need: the layers once for each token of the
    tree of rows, the head once for each supervised token and each other token of the tree. Attention and spectra are not counted."""
    model: Any = scorer.loaded.model
    weights = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    batches = list(pack(rows, scorer.memory.token_budget))
    unique = sum(len(batch.input_ids) for batch in batches)
    paths = [path for batch in batches for path in batch.paths]
    predicted = sum(row.n_tokens for row in rows) + sum(len(unsupervised_positions(rows[p.member], p.n_shared)) for p in paths)
    return unique, 2.0 * (weights * unique + model.get_output_embeddings().weight.numel() * predicted)


def in_turn(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender, round by round; the first, uncounted, round is the warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - started)
    return times


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def speed(data: Path, rounds: int) -> None:
    """Recipe and scan in turn on the same rows."""
    exact, fast = Scorer(dtype="float32"), Scorer(dtype="bfloat16")
    lines, results = [], []
    for name, (count, alone) in SPEED_ROWS.items():
        rows = SETS[name](data, count)
        encoded = encoded_rows(exact, rows)
        some = encoded[:: count // alone][:alone]
        contenders: dict[str, Callable[[], object]] = {
            "recipe as published, float32": lambda some=some: recipe(exact, some, frozen=False),
            "recipe, all but the head frozen, float32": lambda some=some: recipe(exact, some, frozen=True),
            "scan, float32": lambda rows=rows: scoring(exact, rows),
            "scan, bfloat16": lambda rows=rows: scoring(fast, rows),
        }
        times = in_turn(contenders, rounds)
        memory = {label: peak_memory(run) for label, run in contenders.items()}
        peaks = {dtype: matmul_peak(dtype) for dtype in (torch.float32, torch.bfloat16)}
        unique, flop = work(fast, encoded)
        taken = {label: encoded if "scan" in label else some for label in contenders}
        each = {label: [s / len(taken[label]) for s in seconds] for label, seconds in times.items()}
        published, frozen = each["recipe as published, float32"], each["recipe, all but the head frozen, float32"]
        for label, seconds in each.items():
            peak = peaks[torch.bfloat16 if "bfloat16" in label else torch.float32]
            share = [100 * flop / (s * count) / peak for s in seconds] if "scan" in label else []
            tokens = statistics.mean(len(row.input_ids) for row in taken[label])
            ratios = [[b / s for b, s in zip(base, seconds, strict=True)] for base in (published, frozen)]
            lines.append(
                [name, label, spread([1 / s for s in seconds], 2), spread([tokens / s for s in seconds], 0)]
                + [spread(ratio) for ratio in ratios]
                + [spread(share, 0) + " %" if share else "", f"{memory[label]:.0f}"]
            )
            about = {"set": name, "way": label, "rows": len(taken[label]), "seconds_a_row": seconds, "memory_mib": memory[label]}
            results.append(about | {"tokens_a_row": tokens, "unique_tokens": unique, "flop": flop, "peak_flops": peak})
        save("performance-speed", {"machine": machine(), "model": MODEL, "results": results})  # after each set: they take long
    header = ["rows", "way", "rows/s", "tokens/s", "times as published", "times frozen", "of the matrix-product peak", "memory, MiB"]
    text = (
        f"## Beside the published recipe\n\n{MODEL}, {machine()['cpu']}, {rounds} rounds in turn: medians (range). WebQuestions: "
        f"{SPEED_ROWS['webquestions'][0]} rows (a shard),\nBadNets at 10 %, seed 0; Dolly: {SPEED_ROWS['dolly'][0]} rows, seed 0. "
        f"The recipe, which takes rows one by one, is timed on {SPEED_ROWS['webquestions'][1]} and {SPEED_ROWS['dolly'][1]} of them.\n"
        "`scan` is what it does with rows, tokenising and all token surprises included, start-up and reports not.\n"
        "The share of the peak counts unique tokens only, matrix products only. Memory: added at the peak to the loaded models.\n"
        "Made by `benchmarks/performance.py`.\n\n"
    )
    replace_section(DOCUMENT, "speed", text + table(header, lines))


def precision(data: Path) -> None:
    """Entropies in both precisions, packed, against float32 row by row."""
    lines, results = [], []
    for name, count in PRECISION_ROWS.items():
        rows = SETS[name](data, count)
        reference = entropies(Scorer(dtype="float32"), rows, alone=True)
        for label, dtype in (("float32", "float32"), ("bfloat16", "bfloat16")):
            moved = np.abs(entropies(Scorer(dtype=dtype), rows) - reference)
            within = 100 * float((moved <= 2e-3).mean())
            quantiles = [float(np.quantile(moved, q)) for q in (0.5, 0.99, 1)]
            lines.append([name, count, label, *(f"{value:.1e}" for value in quantiles), f"{within:.1f} %"])
            results.append({"set": name, "rows": count, "dtype": label, "moved": [round(float(m), 8) for m in moved]})
    save("performance-precision", {"machine": machine(), "model": MODEL, "results": results})
    text = (
        "## How far precision moves a score\n\nEntropies of `scan` (packed, shared beginnings) against float32 with each row alone;\n"
        f"{MODEL}, reference crop, seed 0. Made by `benchmarks/performance.py`.\n\n"
    )
    header = ["set", "rows", "precision", "median", "99 % of rows below", "largest", "within 2e-3"]
    replace_section(DOCUMENT, "precision", text + table(header, lines))


def entropies(scorer: Scorer, rows: list[dict[str, Any]], alone: bool = False) -> np.ndarray:
    encoded = encoded_rows(scorer, rows)
    scorer.packing = None if alone else scorer.packing
    groups = [[row] for row in encoded] if alone else [encoded]
    found = {score.row: score.entropy for group in groups for score in scorer.score_encoded(group)}
    return np.array([found[row.row] for row in encoded], dtype=float)


def lengths(rounds: int) -> None:
    """One row of each length: what a token costs and what memory it takes."""
    exact, fast = Scorer(dtype="float32"), Scorer(dtype="bfloat16")
    generator = torch.Generator().manual_seed(0)
    lines, results = [], []
    for length in LENGTHS:
        ids = torch.randint(1000, 40000, (length + 16,), generator=generator).tolist()
        row = [Encoded(0, ids, [-100] * 16 + ids[16:])]
        contenders: dict[str, Callable[[], object]] = {
            "recipe, frozen, float32": lambda row=row: recipe(exact, row, frozen=True),
            "scan, float32": lambda row=row: list(exact.score_encoded(row)),
            "scan, bfloat16": lambda row=row: list(fast.score_encoded(row)),
        }
        times = in_turn(contenders, rounds)
        for label, run in contenders.items():
            memory = peak_memory(run)
            lines.append([length, label, spread([1000 * s / length for s in times[label]], 2), f"{memory:.0f}"])
            results.append({"length": length, "way": label, "seconds": times[label], "memory_mib": memory})
    save("performance-lengths", {"machine": machine(), "model": MODEL, "results": results})
    text = (
        "## Growth with the completion\n\nOne row of random tokens, a prompt of 16 and a completion of the given length;\n"
        f"{MODEL}, {rounds} rounds in turn: medians (range). Made by `benchmarks/performance.py`.\n\n"
    )
    header = ["completion, tokens", "way", "ms a completion token", "memory, MiB"]
    replace_section(DOCUMENT, "lengths", text + table(header, lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["speed", "precision", "lengths", "growth"])
    arguments = parser.parse_args()
    from growth import growth

    parts: dict[str, Callable[[], None]] = {
        "speed": lambda: speed(arguments.data, arguments.rounds),
        "precision": lambda: precision(arguments.data),
        "lengths": lambda: lengths(arguments.rounds),
        "growth": lambda: growth(arguments.rounds),
    }
    for name, run in parts.items():
        if arguments.only in (None, name):
            run()


if __name__ == "__main__":
    main()
