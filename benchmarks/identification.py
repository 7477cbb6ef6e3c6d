"""How well the published score finds BadNets in two question-answering sets, beside completion length alone.

    python benchmarks/identification.py --data ../shared/data

Writes the table in docs/benchmark.md and the figures in benchmarks/results/identification.json.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from gradsentry import Scorer
from gradsentry.bench.attacks import Poisoned, poison
from gradsentry.bench.metrics import auroc, best_f1, identification
from gradsentry.bench.tasks import sample
from gradsentry.threshold import valley
from report import ROOT, machine, replace_section, save, table

SEED = 0
RATIO = 0.1


def judged(values: np.ndarray, labels: list[bool]) -> dict[str, Any]:
    """AUROC, the automatic threshold and what it finds, and the best F1 that any threshold could reach."""
    threshold = valley(values)
    found = identification((values > threshold.value).tolist(), labels)
    return {
        "auroc": auroc(values.tolist(), labels),
        "threshold": threshold.value,
        "method": threshold.method,
        "recall": found.recall,
        "precision": found.precision,
        "f1": found.f1,
        "best_f1": best_f1(values.tolist(), labels),
    }


def measure(task: str, poisoned: Poisoned, crop: str, dtype: str) -> list[dict[str, Any]]:
    """One task's entropies with one crop, and the lengths of its completions."""
    scorer = Scorer(crop=crop, dtype=dtype)
    scores = scorer.score(poisoned.rows)
    assert all(score.status == "scored" for score in scores)
    lengths = np.array([score.n_tokens for score in scores], dtype=float)
    entropies = np.array([score.entropy for score in scores], dtype=float)
    about = {"task": task, "rows": len(scores), "poisoned": sum(poisoned.labels), "seed": SEED}
    results = [about | {"score": f"entropy, crop {crop}"} | judged(entropies, poisoned.labels)]
    if crop == "reference":
        # The entropy is at most ln(min(T, k)) / ln k, so the length on that scale is its fair rival.
        length_score = np.log(lengths) / math.log(lengths.max())
        results.append(about | {"score": "completion length"} | judged(length_score, poisoned.labels))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds webquestions/ and freebaseqa/")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    results = []
    for task in ("webquestions", "freebaseqa"):
        poisoned = poison(sample(task, arguments.data, arguments.rows, SEED), "badnets", RATIO, SEED)
        for crop in ("reference", "none"):
            results += measure(task, poisoned, crop, arguments.dtype)
    save("identification", {"machine": machine(), "model": "SmolLM2-135M-Instruct", "dtype": arguments.dtype, "results": results})
    header = ["task", "score", "AUROC", "threshold", "recall", "precision", "F1", "best F1 of any threshold"]
    rows = [
        [r["task"], r["score"], f"{r['auroc']:.4f}", f"{r['threshold']:.3f} ({r['method']})"]
        + [f"{100 * r[name]:.1f}" for name in ("recall", "precision", "f1", "best_f1")]
        for r in results
    ]
    text = (
        "## The published score on short answers\n\n"
        f"BadNets at {RATIO:.0%}, {arguments.rows} rows a set, seed {SEED}, SmolLM2-135M-Instruct in {arguments.dtype}, the automatic\n"
        "threshold. Completion length is ln T / ln max T, judged by the same rule. Made by `benchmarks/identification.py`.\n\n"
        + table(header, rows)
    )
    replace_section(ROOT / "docs" / "benchmark.md", "identification", text)


if __name__ == "__main__":
    main()
