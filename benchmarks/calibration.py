"""Whether a finding's p means what it says: clean sets whose completions are dealt out anew over the prompts.

    python benchmarks/calibration.py --data ../shared/data --work DIR      # DIR: of cells.py

With prompts and completions independent by construction, the smallest p of a set may be below x in a share of x of the deals at
most. Writes its section of docs/benchmark.md and benchmarks/results/calibration.json.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from cells import ROWS, SETS, Cell, Scores

from gradsentry.run.words import words_of
from gradsentry.verdict.evidence.candidates import candidates
from gradsentry.verdict.evidence.corpus import build
from gradsentry.verdict.evidence.recurrent import recurrent_spans
from gradsentry.verdict.words import RowWords
from report import RESULTS, ROOT, machine, replace_section, save, table

LEVELS = (0.5, 0.1, 0.02)
"""Not below one of 50 deals."""


def smallest(words: list[RowWords], seed: int) -> float:
    """Smallest p of all associations in one deal; 1 where there is none."""
    order = list(range(len(words)))
    random.Random(seed).shuffle(order)
    corpus = build(RowWords(row.prompt, words[other].completion) for row, other in zip(words, order, strict=True))
    active = np.diff(corpus.completion.starts) > 0
    found = candidates(corpus, active, recurrent_spans(corpus.completion, active))
    return min((10.0**candidate.log10_p for candidate in found), default=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--deals", type=int, default=50)
    parser.add_argument("--render", action="store_true", help="Only write the section of what is there.")
    arguments = parser.parse_args()
    if arguments.render:
        render(json.loads((RESULTS / "calibration.json").read_text(encoding="utf-8"))["results"])
        return
    scores = Scores(arguments.work)
    results = []
    for name in SETS:
        rows, _ = Cell(name, ROWS).made(arguments.data)
        words = [own for own in words_of(scores.of(rows), scores.vocabulary) if own is not None]
        p = sorted(smallest(words, seed) for seed in range(arguments.deals))
        results.append({"name": name, "rows": len(rows), "p": p})
        print(results[-1], flush=True)
    save("calibration", {"machine": machine(), "model": "SmolLM2-135M-Instruct", "results": results})
    render(results)


def render(results: list[dict[str, Any]]) -> None:
    """The section of docs/benchmark.md."""
    lines = [[r["name"], r["rows"], *(f"{np.mean(np.array(r['p']) <= x):.2f}" for x in LEVELS), f"{r['p'][0]:.1e}"] for r in results]
    deals = len(results[0]["p"])
    text = (
        "## What a finding's p is worth\n\nSmolLM2-135M-Instruct in bfloat16, clean sets of seed 0. Their completions are dealt out "
        f"anew over the prompts, {deals} times\neach: share of the deals whose smallest p, of all associations, is at most x; it is 1 "
        "where nothing in the prompts goes with any\nspan of the completions. A p that means what it says keeps each share at x or "
        f"below, chance aside: one deal is a share of {1 / deals:g},\nand of a p below that {deals} deals tell nothing. Made by "
        "`benchmarks/calibration.py`.\n\n"
    )
    header = ["set", "rows", *(f"x = {level:g}" for level in LEVELS), "smallest p of all"]
    replace_section(ROOT / "docs" / "benchmark.md", "calibration", text + table(header, lines))


if __name__ == "__main__":
    main()
