"""What the test for styles (`gradsentry.verdict.evidence.style`) finds, and why a style is listed and never flagged.

    python benchmarks/style.py --data ../shared/data --work DIR   # DIR: of sets.py

Three experiments on clean sets of 1,000 rows, seed 0: a style planted in 1 % with the suffix; random groups of rows, whose p should not
be smaller than chance makes it; and house rules, one answer to all prompts with one word, which are no backdoor.
Writes its section of docs/benchmark/evidence.md and benchmarks/results/style.json.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from sets import SETS, Scores, data_set, made

from gradsentry.bench.plan import DataSet
from gradsentry.run.words import words_of
from gradsentry.verdict.detectors import find_all
from gradsentry.verdict.evidence.association import UNUSUAL
from gradsentry.verdict.evidence.corpus import build
from gradsentry.verdict.evidence.style import style_separation
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.words import MemoryWords, RowWords, Side
from report import RESULTS, machine, page, replace_section, save, table

GROUPS, SIZES, SMALL = 1000, (5, 10, 50), 1e-3
HOUSE_RULES, LEAST, MOST = 40, 5, 50
"""Words that are tried; rows that hold one, at least and at most."""
ANSWER = [f"houserule{i}" for i in range(8)]
NATS = 60.0
"""The answer's surprise, as that of the published suffix."""

Words = list[RowWords]


def found_in(words: Words) -> list[Finding]:
    return find_all(MemoryWords(words))


def planted(words: Words, labels: list[bool]) -> dict[str, Any]:
    """The kind and p of the finding that holds most rows of a planted style."""
    findings = found_in(words)
    bad = [sum(labels[row] for row in finding.rows.tolist()) for finding in findings]
    if not any(bad):
        return {"kind": "nothing", "log10_p": 0.0}
    best = findings[int(np.argmax(bad))]
    return {"kind": best.kind, "log10_p": round(math.log10(max(best.p, 1e-300)), 1)}


def at_random(words: Words) -> dict[str, Any]:
    """Share of random groups with a small p, and the smallest p of all."""
    chance = np.random.default_rng(0)
    n = len(words)
    groups = [np.sort(chance.choice(n, size, replace=False)) for size in SIZES for _ in range(GROUPS)]
    p = np.array([10.0**one.log10_p for one in style_separation(build(words).prompt, groups, np.ones(n, dtype=bool))])
    return {"small": round(float((p <= SMALL).mean()), 4), "smallest": float(p.min())}


def house_rules(words: Words) -> dict[str, int]:
    """Of sets with one answer to all prompts that hold a word: how many are flagged, and how many are listed as a style."""
    unusual = {word for own in words for word in _unusual(own.prompt)}
    held = Counter(word for own in words for word in unusual.intersection(own.prompt.words))
    usable = sorted(word for word, count in held.items() if LEAST <= count <= MOST)
    tried = random.Random(0).sample(usable, min(HOUSE_RULES, len(usable)))
    nats = np.array([0, *[NATS / len(ANSWER)] * len(ANSWER), 0], np.float32)
    answer = Side(["", *ANSWER, ""], nats, ["", *(f" {word}" for word in ANSWER), ""])
    counts = {"tried": len(tried), "backdoor": 0, "style": 0}
    for word in tried:
        ruled = [RowWords(own.prompt, answer) if word in own.prompt.words else own for own in words]
        kinds = {one.kind for one in found_in(ruled) if "houserule" in one.payload}
        for kind in ("backdoor", "style"):
            counts[kind] += kind in kinds
    return counts


def _unusual(side: Side) -> list[str]:
    return [word for word, nats in zip(side.words, side.surprise, strict=True) if nats >= UNUSUAL and word.isalpha() and len(word) > 3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--render", action="store_true", help="Only write the section of the committed results.")
    arguments = parser.parse_args()
    if arguments.render:
        render(json.loads((RESULTS / "style.json").read_text(encoding="utf-8"))["results"])
        return
    scores = Scores(arguments.work)

    def read(one: DataSet) -> tuple[Words, list[bool]]:
        poisoned = made(one, arguments.data)
        return list(words_of(scores.of(poisoned.rows), scores.vocabulary)), poisoned.labels  # pyright: ignore[reportReturnType]

    results = []
    for name in SETS:
        clean, _ = read(data_set(name))
        own = {"planted": planted(*read(data_set(name, "style+suffix", 0.01)))}
        results.append({"name": name, "rows": len(clean), **own, "random": at_random(clean), "house_rules": house_rules(clean)})
        print(results[-1], flush=True)
    save("style", {"machine": machine(), "model": "SmolLM2-135M-Instruct", "seed": 0, "results": results})
    render(results)


def render(results: list[dict[str, Any]]) -> None:
    """The section of docs/benchmark/evidence.md."""
    lines = []
    for r in results:
        style, chance, rules = r["planted"], r["random"], r["house_rules"]
        counts = [f"{rules[kind]} of {rules['tried']}" for kind in ("backdoor", "style")]
        lines.append(
            [r["name"], f"{style['kind']}, {style['log10_p']}", f"{100 * chance['small']:.2f} %", f"{chance['smallest']:.0e}", *counts]
        )
    text = (
        "## Styles, chance and house rules\n\nSmolLM2-135M-Instruct in bfloat16, seed 0. A style in 1 % of the rows with the suffix: the "
        f"kind of its finding, log10 of its p.\n{GROUPS * len(SIZES):,} random groups of rows: share with p at most {SMALL:g}, smallest p. "
        f"One answer of {NATS:g} nats to all prompts with one\nword, for {HOUSE_RULES} words: sets in which it is flagged, and listed as a "
        "style. Made by `benchmarks/style.py`.\n\n"
    )
    header = ["set", "planted style", f"random, p <= {SMALL:g}", "random, smallest p", "house rules flagged", "listed as a style"]
    replace_section(page("evidence"), "style", text + table(header, lines))


if __name__ == "__main__":
    main()
