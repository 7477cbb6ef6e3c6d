"""How many natural patterns of clean data have how much evidence, against what the evidence claims.

    python benchmarks/families.py --data ../shared/data --work DIR   # scores every row once
    python benchmarks/calibration.py --data ../shared/data --work DIR

If insertion and effect were independent, a clean set would have at most e^-x patterns with x nats or more. Counted are all single patterns
whose comparison is fair; and of these, those that look clearly inserted: no other can be flagged.
Writes a section of docs/benchmark/families.md and benchmarks/results/calibration.json.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from families import SETS, Cell, made
from judge_families import CLEAN_SEEDS, Scores

from gradsentry.run.words import words_of
from gradsentry.verdict.planted.detector import _sampled
from gradsentry.verdict.planted.search import DECOYS, FLAGGED, INSERTED, SUSPECT, Search, rarity
from gradsentry.verdict.words import MemoryWords
from report import machine, page, replace_section, save, table

LEVELS = (0.0, math.log(10), SUSPECT, math.log(1000), FLAGGED)


def evidences(words: MemoryWords) -> list[tuple[float, bool]]:
    """Of each natural pattern that may be a candidate: its evidence, and whether it looks clearly inserted."""
    search = Search(_sampled(words).rows)
    active = np.ones(len(search.rows), dtype=bool)
    ranked, parts = search.ranked(active)
    compared = [search.compared((pattern,), False, active, parts) for pattern in ranked]
    fair = [one for one in compared if one is not None and not one.unfair]
    decoys = [one for one in compared[:: max(1, -(-len(ranked) // DECOYS))] if one is not None and not one.unfair]
    return [(replace(one, rarity=rarity(one, decoys)).evidence, one.looks_inserted) for one in fair]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    scores = Scores(arguments.work)
    results = []
    for task in SETS:
        for seed in range(CLEAN_SEEDS):
            scored = scores.of(made(Cell(task, seed=seed), arguments.data)[0])
            if scored is not None:
                found = evidences(MemoryWords(list(words_of(scored, scores.vocabulary))))
                own: dict[str, Any] = {"task": task, "seed": seed, "patterns": len(found)}
                for name, chosen in (("evidence", found), ("inserted", [one for one in found if one[1]])):
                    own[name] = sorted(round(nats, 2) for nats, _ in chosen if nats > -10)
                results.append(own)
    save("calibration", {"machine": machine(), "results": results})
    lines = []
    for level in LEVELS:
        line = [f"{level:.1f}", f"{math.exp(-level):.5f}"]
        for name in ("evidence", "inserted"):
            counts = [sum(x >= level for x in result[name]) for result in results]
            own = {task: np.mean([c for c, r in zip(counts, results, strict=True) if r["task"] == task]) for task in SETS}
            most = max(own, key=lambda task: own[task])
            line += [f"{np.mean(counts):.3f}", f"{most}: {own[most]:.1f}" if own[most] else ""]
        lines.append(line)
    most = [max(result["inserted"], default=-math.inf) for result in results]
    text = (
        f"## Decoys: natural patterns with evidence\n\n{len(results)} clean draws. Stated is e^-x; measured is the mean number of single "
        f"patterns, with at least {INSERTED:g} nat of\ninsertion and a fair comparison, that have x nats of evidence or more. Only those "
        f"that look clearly inserted can be flagged, from\n{FLAGGED} nats; the strongest of them has {max(most):.1f} nats.\n\n"
        + table(["nats", "stated patterns a set", "measured", "most in", "clearly inserted", "most in"], lines)
    )
    replace_section(page("families"), "calibration", text)


if __name__ == "__main__":
    main()
