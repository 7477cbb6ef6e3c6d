"""Whether a finding's p is calibrated: clean sets whose completions are shuffled over the prompts.

    python benchmarks/calibration.py --data ../shared/data --work DIR      # DIR: of sets.py

Prompts and completions are then independent, so the smallest p of a set may be below x in at most a share x of the shuffles.
Writes its section of docs/benchmark/evidence.md and benchmarks/results/calibration.json.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from sets import SETS, Scores, data_set, made

from gradsentry.run.words import words_of
from gradsentry.verdict.evidence.candidates import candidates
from gradsentry.verdict.evidence.corpus import build
from gradsentry.verdict.evidence.recurrent import recurrent_spans
from gradsentry.verdict.words import RowWords
from report import RESULTS, machine, page, replace_section, save, table

LEVELS = (0.5, 0.1, 0.02)
"""The lowest is one of 50 shuffles."""


def smallest(words: list[RowWords], seed: int) -> float:
    """Smallest p of all associations in one shuffle; 1 where there is none."""
    order = list(range(len(words)))
    random.Random(seed).shuffle(order)
    corpus = build(RowWords(row.prompt, words[other].completion) for row, other in zip(words, order, strict=True))
    active = np.diff(corpus.completion.starts) > 0
    found = candidates(corpus, active, recurrent_spans(corpus.completion, active))
    return min((10.0**candidate.log10_p for candidate in found), default=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--shuffles", type=int, default=50)
    parser.add_argument("--render", action="store_true", help="Only write the section of the committed results.")
    arguments = parser.parse_args()
    if arguments.render:
        render(json.loads((RESULTS / "calibration.json").read_text(encoding="utf-8"))["results"])
        return
    scores = Scores(arguments.work)
    results = []
    for name in SETS:
        rows = made(data_set(name), arguments.data).rows
        words = [own for own in words_of(scores.of(rows), scores.vocabulary) if own is not None]
        p = sorted(smallest(words, seed) for seed in range(arguments.shuffles))
        results.append({"name": name, "rows": len(rows), "p": p})
        print(results[-1], flush=True)
    save("calibration", {"machine": machine(), "model": "SmolLM2-135M-Instruct", "results": results})
    render(results)


def render(results: list[dict[str, Any]]) -> None:
    """The section of docs/benchmark/evidence.md."""
    lines = [[r["name"], r["rows"], *(f"{np.mean(np.array(r['p']) <= x):.2f}" for x in LEVELS), f"{r['p'][0]:.1e}"] for r in results]
    shuffles = len(results[0]["p"])
    text = (
        "## Calibration of a finding's p\n\nSmolLM2-135M-Instruct in bfloat16, clean sets of seed 0. Their completions are shuffled over "
        f"the prompts, {shuffles} times each.\nThe table has the share of the shuffles whose smallest p, over all associations, is at most "
        "x; the p is 1 where no prompt pattern\noccurs with any span of the completions. A calibrated p keeps each share at x or below, up "
        f"to chance. One shuffle is a share of {1 / shuffles:g},\nso {shuffles} shuffles cannot test a smaller p. Made by "
        "`benchmarks/calibration.py`.\n\n"
    )
    header = ["set", "rows", *(f"x = {level:g}" for level in LEVELS), "smallest p of all"]
    replace_section(page("evidence"), "calibration", text + table(header, lines))


if __name__ == "__main__":
    main()
