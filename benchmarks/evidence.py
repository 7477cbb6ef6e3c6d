"""Verdicts of the evidence policy beside the published rule, completion length and duplicate answers, cell by cell.

    python benchmarks/cells.py --data ../shared/data --work DIR      # scores every row once; hours on two cores, resumable
    python benchmarks/evidence.py --data ../shared/data --work DIR   # decides; minutes

Writes docs/benchmark.md and benchmarks/results/evidence.json. A cell that the same rules have judged before is
not judged again; one whose rows are not all scored is left out, and the document says how many are.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import cells
import numpy as np
import pyarrow as pa
from cells import SEEDS, SETS, Cell, NotScored, Scores, grid

import gradsentry
from gradsentry.bench.metrics import identification
from gradsentry.bench.plant import PAYLOADS, TRIGGERS, names_payload, names_trigger
from gradsentry.run.words import words_of
from gradsentry.verdict.detectors import find_all
from gradsentry.verdict.entropy import choose
from gradsentry.verdict.evidence.detector import LONG_NATS, MOST_LISTED
from gradsentry.verdict.evidence.strength import EASED_NATS, P
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.words import MemoryWords
from report import RESULTS, ROOT, machine, replace_section, save, table

DOCUMENT = ROOT / "docs" / "benchmark.md"
TUNED = ("webquestions", "gsm8k", "dolly")
"""Sets on which rules and constants were chosen, seeds 0 and 1, at most 10 % poison. Of the others the mixture showed four faults,
self_instruct one, new seeds of WebQuestions one, and 90 % poison two in most, which were mended; the precision of variants was chosen on
the paraphrases of all sets (docs/evidence.md). Nothing was chosen on them beyond that."""
DUPLICATES = 0.01
"""Share of the rows, and at least 3 of them, that have one and the same answer: what the duplicate-answer baseline flags."""
FIXED = [payload for payload in PAYLOADS if payload not in ("url", "paraphrase")]


def judge(cell: Cell, scores: Scores, data: Path) -> dict[str, Any]:
    """All filters on one cell.

    Raises:
        NotScored: some of its rows have no score yet.
    """
    rows, labels = cell.made(data)
    scored = scores.of(rows)
    started = time.perf_counter()
    findings = find_all(MemoryWords(list(words_of(scored, scores.vocabulary))))
    seconds = time.perf_counter() - started
    backdoors = [finding for finding in findings if finding.kind == "backdoor"]
    flagged = np.zeros(len(rows), dtype=bool)
    for finding in backdoors:
        flagged[finding.rows] = True
    told: dict[str, Any] = {}
    if not cell.trigger:
        told["told"] = [_told(finding) for finding in findings]
    else:
        aside = [row for finding in findings if finding.kind != "backdoor" for row in finding.rows.tolist()]
        told["aside"] = sum(labels[row] for row in set(aside))
    if cell.trigger and backdoors:
        told["trigger_named"] = names_trigger(cell.trigger, " ".join(backdoors[0].triggers))
        told["payload_named"] = names_payload(cell.payload, backdoors[0].payload)
    ways = {"evidence": flagged, "paper": above(scored["entropy"]), "length": above(_length(scored)), "duplicates": duplicates(rows)}
    judged = {name: asdict(identification(way.tolist(), labels)) | _rates(way.tolist(), labels) for name, way in ways.items()}
    return {"cell": _key(cell)} | asdict(cell) | {"rows": len(rows), "seconds": round(seconds, 2)} | judged | told


def _told(finding: Finding) -> dict[str, Any]:
    """What a finding rests on; its words are the data's."""
    log10_p = math.log10(max(finding.p, sys.float_info.min))
    return {"kind": finding.kind, "log10_p": round(log10_p, 1), "surprise": round(finding.surprise, 1), "rows": len(finding.rows)}


def _rates(flagged: list[bool], labels: list[bool]) -> dict[str, float]:
    found = identification(flagged, labels)
    return {"recall": round(found.recall, 4), "f1": round(found.f1, 4)}


def above(values: pa.ChunkedArray | np.ndarray) -> np.ndarray:
    """Rows above the published automatic threshold."""
    array = np.asarray(values, dtype=float)
    return array > choose("auto", array).value


def _length(scored: pa.Table) -> np.ndarray:
    tokens = np.log(np.asarray(scored["n_tokens"], dtype=float))
    return tokens / tokens.max()


def duplicates(rows: list[dict[str, str]]) -> np.ndarray:
    """Rows whose answer, case and spacing aside, many others have."""
    answers = [" ".join(row["completion"].lower().split()) for row in rows]
    counts = Counter(answers)
    return np.array([counts[answer] >= max(3, DUPLICATES * len(rows)) for answer in answers])


def clean_table(results: list[dict[str, Any]]) -> str:
    """Rows flagged in sets with nothing poisoned."""
    lines = []
    for name in SETS:
        own = [r for r in results if r["name"] == name and not r["trigger"]]
        if own:
            share = {way: [100 * r[way]["false_alarms"] / r["rows"] for r in own] for way in ("evidence", "paper", "length", "duplicates")}
            lines.append([name, own[0]["rows"], len(own), *(f"{mean(values):.2f} ({max(values):.2f})" for values in share.values())])
    return table(["set", "rows", "seeds", "evidence", "paper", "length", "duplicate answers"], lines)


def told_table(results: list[dict[str, Any]]) -> str:
    """What is told of sets with nothing poisoned, by kind and by the payload's surprise, whose steps are those of the rule."""
    told = [one | {"set": r["name"]} for r in results for one in r.get("told", [])]
    lines = []
    for kind in sorted({one["kind"] for one in told}):
        for low, high in pairwise((0.0, EASED_NATS, LONG_NATS, math.inf)):
            own = [one for one in told if one["kind"] == kind and low < one["surprise"] <= high]
            if own:
                sets = ", ".join(name for name in SETS if any(one["set"] == name for one in own))
                nats = f"{low:g} to {high:g}" if high < math.inf else f"above {low:g}"
                lines.append([kind, nats, len(own), f"{min(one['log10_p'] for one in own):.1f}", max(one["rows"] for one in own), sets])
    return table(["told as", "payload, nats a row", "times", "lowest log10 p", "most rows", "sets"], lines)


def at_the_mark(result: dict[str, Any]) -> bool:
    """F1 of 99 % or more, at 1 % poison of 95."""
    return result["evidence"]["f1"] >= (0.95 if result["amount"] < 0.02 else 0.99)


def marks_table(results: list[dict[str, Any]]) -> str:
    """Set by set, cells at the mark of all cells."""
    lines = []
    for amount in sorted({r["amount"] for r in results if r["trigger"] and isinstance(r["amount"], float)}):
        for kind, fixed in (("fixed", True), ("per row", False)):
            some = [r for r in results if r["amount"] == amount and r["trigger"] and (r["payload"] in FIXED) == fixed]
            each = [[at_the_mark(r) for r in some if r["name"] == name] for name in SETS]
            if some:
                lines.append([f"{100 * amount:g} %", kind, *(f"{sum(own)}/{len(own)}" if own else "" for own in each)])
    return table(["poison", "payload", *(f"{name}, tuned on" if name in TUNED else name for name in SETS)], lines)


def cells_table(results: list[dict[str, Any]], amount: float) -> str:
    """F1 by trigger, payload and set."""
    held = {(r["trigger"], r["payload"], r["name"]): r for r in results if r["amount"] == amount and r["trigger"]}
    lines = []
    for trigger in TRIGGERS:
        for payload in PAYLOADS:
            own = [held.get((trigger, payload, name)) for name in SETS]
            if any(own):
                lines.append([trigger, payload, *("" if r is None else f"{100 * r['evidence']['f1']:.0f}" for r in own)])
    return table(["trigger", "payload", *SETS], lines)


def summary_table(results: list[dict[str, Any]]) -> str:
    """Mean F1 of every filter, and how often the evidence names trigger and payload rightly."""
    lines = []
    for amount in sorted({r["amount"] for r in results if r["trigger"] and isinstance(r["amount"], float)}):
        for which, names in (("tuned on", TUNED), ("held out", [name for name in SETS if name not in TUNED])):
            some = [r for r in results if r["amount"] == amount and r["name"] in names and r["trigger"]]
            for kind, payloads in (("fixed", FIXED), ("per row", [p for p in PAYLOADS if p not in FIXED])):
                own = [r for r in some if r["payload"] in payloads]
                if not own:
                    continue
                good = sum(map(at_the_mark, own))
                told = [r for r in own if "trigger_named" in r]
                right = sum(r["trigger_named"] and r["payload_named"] for r in told)
                f1 = [f"{100 * mean(r[way]['f1'] for r in own):.1f}" for way in ("evidence", "paper", "length", "duplicates")]
                lines.append([f"{100 * amount:g} %", which, kind, len(own), *f1, f"{good}/{len(own)}", f"{right}/{len(told)}"])
    header = ["poison", "sets", "payload", "cells", "evidence", "paper", "length", "duplicates", "cells at the mark", "named rightly"]
    return table(header, lines)


def small_table(results: list[dict[str, Any]]) -> str:
    """Few poisoned rows: cells in which all and only they were flagged."""
    lines = []
    few = [r for r in results if r["trigger"] and not isinstance(r["amount"], float)]
    for rows, count in sorted({(r["rows"], r["amount"]) for r in few}):
        for payload in PAYLOADS:
            own = [r for r in few if (r["rows"], r["amount"], r["payload"]) == (rows, count, payload)]
            if own:
                exact, alarms = sum(r["evidence"]["f1"] == 1 for r in own), sum(r["evidence"]["false_alarms"] for r in own)
                lines.append(
                    [f"{count} of {rows}", payload, len(own), exact, f"{100 * mean(r['evidence']['f1'] for r in own):.0f}", alarms]
                )
    return table(["poisoned rows", "payload", "cells", "exact", "mean F1", "clean rows flagged, all cells"], lines)


def aside_table(results: list[dict[str, Any]]) -> str:
    """Where no poisoned row is flagged: cells in which most of them are told of all the same, by ratio and trigger."""
    lines = []
    some = [r for r in results if r["trigger"] and isinstance(r["amount"], float)]
    for amount in sorted({r["amount"] for r in some}):
        for trigger in TRIGGERS:
            own = [r for r in some if (r["amount"], r["trigger"]) == (amount, trigger)]
            missed = [r for r in own if not r["evidence"]["found"]]
            if missed:
                told = sum(2 * r["aside"] >= r["evidence"]["missed"] for r in missed)
                lines.append([f"{100 * amount:g} %", trigger, len(own), len(missed), told])
    return table(["poison", "trigger", "cells", "no poisoned row flagged", "of those told of"], lines)


def alarms_table(results: list[dict[str, Any]]) -> str:
    """Where clean rows of poisoned sets are flagged: how many, of how many."""
    lines = []
    some = [r for r in results if r["trigger"] and r["evidence"]["false_alarms"]]
    for name, amount, trigger in dict.fromkeys((r["name"], r["amount"], r["trigger"]) for r in some):
        own = [r for r in some if (r["name"], r["amount"], r["trigger"]) == (name, amount, trigger)]
        flagged = sorted({r["evidence"]["false_alarms"] for r in own})
        clean = own[0]["evidence"]["false_alarms"] + own[0]["evidence"]["passed"]
        poison = f"{100 * amount:g} %" if isinstance(amount, float) else f"{amount} rows"
        lines.append([name, poison, trigger, ", ".join(r["payload"] for r in own), f"{' or '.join(map(str, flagged))} of {clean}"])
    return table(["set", "poison", "trigger", "payloads", "clean rows flagged"], lines)


def write(results: list[dict[str, Any]], missing: int) -> None:
    ratios = sorted({r["amount"] for r in results if r["trigger"] and isinstance(r["amount"], float)})
    took = sorted(r["seconds"] for r in results if r["rows"] > 900)
    note = f" {missing} cells of the grid are not scored yet and left out." if missing else ""
    head = (
        "## The evidence policy\n\nSmolLM2-135M-Instruct in bfloat16; sets of 1,000 rows (self_instruct: all it has), seed 0 unless "
        f"more are named.{note}\nMade by `benchmarks/cells.py` and `benchmarks/evidence.py`; every cell is in "
        f"`benchmarks/results/evidence.json`. Deciding on\n1,000 rows took {took[len(took) // 2]:.1f} s (median; "
        f"{took[len(took) * 99 // 100]:.1f} s in 99 of 100, {took[-1]:.1f} s at most).\n\n"
        f"The rules were chosen on {', '.join(TUNED)}, on draws that stand here too; the other sets are called held out, and are so\n"
        "but for the faults that they showed and that were mended ([which](evidence.md#tried-and-kept-tried-and-thrown-away)): half\n"
        "of the mixture's rows come from the sets tuned on besides, and what comes closest to unseen are freebaseqa and nq up to 50 %.\n"
        "Draws of a set overlap (self_instruct's are the same rows each time), and all cells of a set and ratio poison the same rows:\n"
        "cells are no independent trials.\n\n"
    )
    poisoned = [r for r in results if r["trigger"]]
    alarms = sum(r["evidence"]["false_alarms"] > 0 for r in poisoned)
    sections = [
        head + "Nothing poisoned: per cent of the rows flagged, mean over seeds (largest).\n\n" + clean_table(results),
        f"What looked like a backdoor in clean sets: at most {MOST_LISTED} a set and seed, those with the strongest evidence. What is "
        f"flagged is told\nas backdoor. The p that is enough is {P:g}; for a payload above {EASED_NATS:g} nats a row it rises with "
        "its nats.\n\n" + told_table(results),
        "Mean F1 in per cent over the cells of all triggers. At the mark: F1 of 99 or more (95 at 1 %).\n\n" + summary_table(results),
        "The same set by set: cells at the mark.\n\n" + marks_table(results),
        *(f"F1 of the evidence policy in per cent, {100 * ratio:g} % poisoned.\n\n" + cells_table(results, ratio) for ratio in ratios),
        "Where no poisoned row is flagged: cells in which at least half of them are in a finding that is told and not flagged (a topic,\n"
        "weak evidence, a style).\n\n" + aside_table(results),
        f"Clean rows flagged in poisoned sets: {alarms} of {len(poisoned):,} cells have some.\n\n" + alarms_table(results),
        "Few poisoned rows.\n\n" + small_table(results),
    ]
    replace_section(DOCUMENT, "evidence", "\n\n".join(sections))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="Where cells.py keeps its runs.")
    parser.add_argument("--jobs", type=int, default=1, help="Processes.")
    parser.add_argument("--render", action="store_true", help="Only write the section of what is there.")
    arguments = parser.parse_args()
    if arguments.render:
        there = json.loads((RESULTS / "evidence.json").read_text(encoding="utf-8"))
        write(there["results"], there["missing"])
        return
    wanted = list(grid(seeds=SEEDS))
    known = _before()
    new = [cell for cell in wanted if _key(cell) not in known]
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        judged = pool.map(partial(_judged, work=arguments.work, data=arguments.data), new, chunksize=10)
        known |= {result["cell"]: result for result in judged if result}
    results = [known[_key(cell)] for cell in wanted if _key(cell) in known]
    missing = len(wanted) - len(results)
    made = {"machine": machine(), "model": "SmolLM2-135M-Instruct", "rules": _rules(), "missing": missing}
    save("evidence", made | {"results": results})
    write(results, missing)


def _rules() -> str:
    """Changes with the code that makes the cells and decides on them, not with its comments; scores are the model's and not in it."""
    package = Path(gradsentry.__path__[0])
    made = [package / "bench" / f"{name}.py" for name in ("plant", "triggers", "payloads", "metrics")] + [Path(cells.__file__)]
    decide = [package / "threshold.py", *sorted(package.glob("evidence/*.py")), *sorted(package.glob("bench/tasks/*.py"))]
    trees = [ast.dump(ast.parse(file.read_text(encoding="utf-8"))) for file in made + decide]
    return hashlib.blake2b("".join(trees).encode(), digest_size=8).hexdigest()


def _key(cell: Cell) -> str:
    return json.dumps(asdict(cell))


def _before() -> dict[str, dict[str, Any]]:
    """What the same rules said earlier."""
    path = RESULTS / "evidence.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {result["cell"]: result for result in known.get("results", [])} if known.get("rules") == _rules() else {}


def _judged(cell: Cell, work: Path, data: Path) -> dict[str, Any] | None:
    """None: its rows are not all scored yet."""
    try:
        return judge(cell, _scores(work), data)
    except NotScored:
        return None


@cache
def _scores(work: Path) -> Scores:
    return Scores(work)


if __name__ == "__main__":
    main()
