"""How fast a GPU scans: one command, under eight minutes on a card with 80 GB.

    python benchmarks/gpu.py --data ../shared/data
    python benchmarks/gpu.py --tiny --out /tmp/gpu.json     # small models on any device, to see that it runs

The device's own peak of matrix products; a 7B and an 8B model with random weights and the embedded model with its own; on the same rows
in turn the published recipe as published and frozen, a plain padded forward pass, and `scan`; entropies against a CPU's in float32; the
share of time in which the device is busy; eigenvalues on the device and on the host. Writes benchmarks/results/gpu.json and, from a
GPU, a section of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from performance import work
from recipe import prepared, published_entropy
from rows import SETS, encoded_rows
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from gradsentry import Scorer, spectrum
from gradsentry.model.batches.states import padded_states
from gradsentry.model.load import pick_device
from gradsentry.types import Encoded
from report import RESULTS, ROOT, machine, replace_section, table

Found = dict[str, Any]

SHAPES: dict[str, dict[str, Any]] = {
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000},
    "8B, grouped heads": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}
"""Of Llama-2-7B and Llama-3.1-8B; the weights are random."""

TINY: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000}
}

SECONDS = 400
"""Once these have passed, no further measurement begins; what was left out is in the results."""

EIGENVALUES = ((16, 512), (64, 128), (256, 16), (512, 4))
"""Sizes of Gram matrices, and how many are solved at once."""


def synchronised(device: torch.device) -> float:
    """The time once the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(run: Callable[[], object], device: torch.device) -> float:
    started = synchronised(device)
    run()
    return synchronised(device) - started


def peak_flops(device: torch.device, dtype: torch.dtype, sizes: tuple[int, ...]) -> float:
    """FLOP/s of the device's matrix product: the best of some square shapes."""
    best = 0.0
    for n in sizes:
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        times = [seconds(lambda a=a, b=b: a @ b, device) for _ in range(12)]
        best = max(best, 2 * n**3 / statistics.median(times[2:]))
    return best


def eigenvalues(device: torch.device, sizes: tuple[tuple[int, int], ...]) -> list[Found]:
    """Milliseconds for the singular values of one row, on the host and on the device, by size."""
    found = []
    for n, count in sizes:
        factor = torch.randn(count, n, n + 8, dtype=torch.float64)
        for place in dict.fromkeys((torch.device("cpu"), device)):
            if place.type == "mps":
                continue  # it has no float64
            pair = spectrum.GramPair(*(spectrum.gram(factor.to(place)) for _ in range(2)))
            times = [seconds(lambda pair=pair: spectrum.solve(pair), place) for _ in range(4)]
            found.append({"size": n, "rows": count, "place": place.type, "ms_a_row": 1000 * statistics.median(times[1:]) / count})
    return found


def busy_share(run: Callable[[], object], device: torch.device) -> float:
    """Share of the time of a run in which the device computes; on a CPU, in which an operator runs."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiled:
        taken = seconds(run, device)
    events: Any = profiled.key_averages()
    return sum(event.self_device_time_total if cuda else event.self_cpu_time_total for event in events) / 1e6 / taken


def recipe(model: Any, rows: list[Encoded], frozen: bool) -> None:
    """The published recipe, row by row."""
    with prepared(model, frozen) as weight:
        for row in rows:
            ids, labels = (torch.tensor([part], device=model.device) for part in (row.input_ids, row.labels))
            published_entropy(model, weight, ids, labels)


def measured(
    name: str, scorer: Scorer, sets: dict[str, list[Encoded]], few: int, peak: float, rounds: int, started: float
) -> Iterator[Found]:
    """Each way on each set; the recipe, which takes rows one by one, on a few of them."""
    model: Any = scorer.loaded.model
    for set_name, rows in sets.items():
        some = rows[:: max(1, len(rows) // few)][:few]
        ways: dict[str, tuple[list[Encoded], Callable[[], object]]] = {
            "recipe as published": (some, lambda some=some: recipe(model, some, False)),
            "recipe, frozen": (some, lambda some=some: recipe(model, some, True)),
            "padded forward pass": (rows, lambda rows=rows: list(padded_states(model, rows, scorer.memory.token_budget))),
            "scan": (rows, lambda rows=rows: scorer.score_encoded(rows)),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, (_, run) in ways.items():
                if time.perf_counter() - started < SECONDS:
                    taken = seconds(run, model.device)
                    times[way] += [taken] if number else []  # the first round warms up
        unique, flop = work(scorer, rows)
        for way, (taken_rows, run) in ways.items():
            about: Found = {"model": name, "set": set_name, "way": way, "rows": len(taken_rows)}
            if not times[way]:
                yield about | {"left_out": f"{SECONDS} seconds had passed"}
                continue
            each = statistics.median(times[way]) / len(taken_rows)
            about |= {"ms_a_row": 1000 * each, "seconds": times[way], "tokens": sum(len(row.input_ids) for row in taken_rows)}
            if way == "scan":
                about |= {"unique_tokens": unique, "of_peak": flop / len(rows) / each / peak, "busy": busy_share(run, model.device)}
                about |= {"variable_length": bool(scorer.packing and scorer.packing.variable_length)}
            yield about


def compared(name: str, scorers: dict[str, Scorer], reference: Scorer, rows: list[Encoded]) -> list[Found]:
    """How far each scorer's entropies are from those of a CPU in float32."""
    expected = {score.row: score.entropy for score in reference.score_encoded(rows)}
    found = []
    for label, scorer in scorers.items():
        moved = [abs((score.entropy or 0) - (expected[score.row] or 0)) for score in scorer.score_encoded(rows)]
        found.append({"model": name, "dtype": label, "rows": len(rows), "median": statistics.median(moved), "largest": max(moved)})
    return found


def random_model(shape: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A Llama with random weights, made on the device."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=4096)).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def random_rows(count: int, beginning: int, own: int) -> list[Encoded]:
    """Rows of random tokens behind one beginning."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(3, 1000, (beginning,), generator=generator).tolist()
    own_ids = torch.randint(3, 1000, (count, own), generator=generator).tolist()
    return [Encoded(i, first + ids, [-100] * (beginning + own // 2) + ids[own // 2 :]) for i, ids in enumerate(own_ids)]


def within(rows: list[Encoded], vocabulary: int) -> list[Encoded]:
    """The rows with token ids that a model of this vocabulary knows; what they say does not matter to random weights."""

    def known(ids: list[int]) -> list[int]:
        return [i if i < 0 else i % vocabulary for i in ids]

    return [Encoded(row.row, known(row.input_ids), known(row.labels)) for row in rows]


def measure(data: Path | None, n_rows: int, rounds: int) -> Found:
    """All measurements; without data, those of the tiny model."""
    started = time.perf_counter()
    device = pick_device("auto")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    tiny = data is None
    peak = peak_flops(device, dtype, (256,) if tiny else (4096, 8192, 16384))
    result: Found = {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type, "dtype": str(dtype)}
    result |= {"machine": machine(), "peak_flops": peak, "eigenvalues": eigenvalues(device, EIGENVALUES[:2] if tiny else EIGENVALUES)}
    results: list[Found] = []
    few = 2 if tiny else 16
    sets = {"random, one beginning": random_rows(n_rows, 12, 8)}
    if data is None:
        model = random_model(TINY["tiny"], torch.device("cpu"), torch.float32)
        same = Scorer(model, _NO_TOKENIZER)
        result["entropies"] = compared("tiny", {"float32": same}, same, sets["random, one beginning"])
    else:
        fast, exact = (Scorer(dtype=name, device=str(device)) for name in (str(dtype).removeprefix("torch."), "float32"))
        sets = {name: encoded_rows(fast, make(data, n_rows)) for name, make in SETS.items()}
        reference, rows = Scorer(dtype="float32", device="cpu"), [row for part in sets.values() for row in part[:32]]
        rows = [Encoded(i, row.input_ids, row.labels) for i, row in enumerate(rows)]
        result["entropies"] = compared(fast.loaded.name, {fast.dtype: fast, "float32": exact}, reference, rows)
        results += measured(fast.loaded.name, fast, sets, few, peak, rounds, started)
        del fast, exact, reference
    for name, shape in (TINY if tiny else SHAPES).items():
        model = random_model(shape, device, dtype)
        known = {set_name: within(rows, shape["vocab_size"]) for set_name, rows in sets.items()}
        results += measured(name, Scorer(model, _NO_TOKENIZER), known, few, peak, rounds, started)
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return result | {"seconds": time.perf_counter() - started, "results": results}


_NO_TOKENIZER: Any = object()
"""Rows are tokens here; nothing is encoded."""


def section(result: Found) -> str:
    """The table of docs/performance.md."""
    lines = []
    for found in result["results"]:
        if "left_out" in found:
            lines.append([found["model"], found["set"], found["way"], found["left_out"], "", "", ""])
            continue
        about = [f"{found['ms_a_row']:.2f}", f"{1000 / found['ms_a_row']:,.0f}"]
        shares = [f"{100 * found[name]:.0f} %" if name in found else "" for name in ("of_peak", "busy")]
        lines.append([found["model"], found["set"], found["way"], *about, *shares])
    return (
        f"## On a GPU\n\n{result['device']}, {result['dtype'].removeprefix('torch.')}; its own matrix products reach "
        f"{result['peak_flops'] / 1e12:,.0f} TFLOP/s. Medians of rounds in turn.\nMade by `benchmarks/gpu.py`.\n\n"
    ) + table(["model", "rows", "way", "ms a row", "rows/s", "of the peak, unique tokens", "device busy"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tiny", action="store_true", help="Small models and few rows.")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.json")
    arguments = parser.parse_args()
    if (arguments.data is None) is not arguments.tiny:
        parser.error("give --data DIRECTORY, or --tiny without it")
    result = measure(arguments.data, 24 if arguments.tiny else arguments.rows, 1 if arguments.tiny else arguments.rounds)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = section(result)
    print(text)
    if not result["device"].startswith(("cpu", "mps")) and not arguments.tiny:
        replace_section(ROOT / "docs" / "performance.md", "gpu", text)


if __name__ == "__main__":
    main()
