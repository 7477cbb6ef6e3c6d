"""What it would take to bring bfloat16 nearer to float32: parts of the model kept in float32, and what each costs.

    python benchmarks/precision_ways.py --data ../shared/data

Entropies of WebQuestions rows against float32 with each row alone; times in turn with the default. Writes docs/performance.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from performance import DOCUMENT, MODEL, entropies
from rows import webquestions
from torch import nn

from gradsentry import Scorer
from report import machine, replace_section, save, table

ROWS = 200
ROUNDS = 3
WAYS: dict[str, tuple[str, ...]] = {
    "as scan does it": (),
    "the head in float32 too": ("lm_head",),
    "the first three layers too": ("layers.0.", "layers.1.", "layers.2."),
    "attention's projections too": ("self_attn",),
    "the feed-forward's second matrix too": ("down_proj",),
    "both of these": ("self_attn", "down_proj"),
}


def widened(scorer: Scorer, names: tuple[str, ...]) -> Scorer:
    """The scorer with some of its linear layers computed in float32."""
    model: Any = scorer.loaded.model
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and any(part in name for part in names):
            layer.weight = nn.Parameter(layer.weight.detach().float(), requires_grad=False)

            def wide(states: torch.Tensor, layer: nn.Linear = layer) -> torch.Tensor:
                with torch.autocast("cpu", enabled=False):
                    made = nn.functional.linear(states.float(), layer.weight, layer.bias)
                # Outside of scoring (the head is looked at once) the layer behind takes its own dtype only.
                return made if torch.is_autocast_enabled("cpu") else made.to(torch.bfloat16)

            layer.forward = wide  # type: ignore[method-assign]
    return scorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    rows = webquestions(arguments.data, ROWS)
    reference = entropies(Scorer(dtype="float32", device="cpu"), rows, alone=True)
    scorers = {way: widened(Scorer(dtype="bfloat16", device="cpu"), names) for way, names in WAYS.items()}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    moved: dict[str, np.ndarray] = {}
    for _ in range(ROUNDS):
        for way in times:
            started = time.perf_counter()
            moved[way] = np.abs(entropies(scorers[way], rows) - reference)
            times[way].append(time.perf_counter() - started)
    lines, results = [], []
    for way in times:
        ratio = statistics.median(a / b for a, b in zip(times[way], times["as scan does it"], strict=True))
        quantiles = [float(np.quantile(moved[way], q)) for q in (0.5, 0.99, 1)]
        within = float((moved[way] <= 2e-3).mean())
        lines.append([way, *(f"{value:.1e}" for value in quantiles), f"{100 * within:.1f} %", f"{ratio:.2f}"])
        results.append({"way": way, "moved": [round(float(m), 8) for m in moved[way]], "seconds": times[way]})
    save("precision-ways", {"machine": machine(), "model": MODEL, "rows": ROWS, "seed": 0, "results": results})
    text = (
        "### Ways to a smaller difference\n\n"
        f"WebQuestions, {ROWS} rows, seed 0, {MODEL}, bfloat16 but for what is named; time against `scan`'s way, median of {ROUNDS}\n"
        "rounds in turn. Made by `benchmarks/precision_ways.py`.\n\n"
    )
    replace_section(
        DOCUMENT, "precision_ways", text + table(["way", "median", "99 % of rows below", "largest", "within 2e-3", "time"], lines)
    )


if __name__ == "__main__":
    main()
