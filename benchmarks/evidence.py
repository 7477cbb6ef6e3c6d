"""Verdicts of the evidence policy beside the published rule, completion length and duplicate answers, data set by data set.

    python benchmarks/sets.py --data ../shared/data --work DIR      # scores every row once; hours on two cores, resumable
    python benchmarks/evidence.py --data ../shared/data --work DIR   # decides; minutes

Writes docs/benchmark/evidence.md and benchmarks/results/evidence.json. A data set whose rows are not all scored is left out, and the
page reports how many are. "replaced" is the rule that the policy had before (benchmarks/results/evidence-replaced.json, at commit 3c1e6d0).
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
from naming import names_payload, names_trigger
from sets import RATIOS, SETS, NotScored, Scores, grid, made

from gradsentry.bench.filters import FILTERS
from gradsentry.bench.filters.base import Scored
from gradsentry.bench.metrics import identification
from gradsentry.bench.payloads import PAYLOADS
from gradsentry.bench.plan import DataSet
from gradsentry.bench.triggers import TRIGGERS
from gradsentry.run.words import words_of
from gradsentry.types import Score
from gradsentry.verdict.detectors import find_all
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.words import MemoryWords
from report import RESULTS, machine, page, replace_section, save, table

FIXED = [payload for payload in PAYLOADS if payload not in ("url", "paraphrase")]
WAYS = ("evidence", "paper", "length", "duplicates")

Result = dict[str, Any]


def judge(one: DataSet, scores: Scores, data: Path) -> Result:
    """All filters on one data set.

    Raises:
        NotScored: some of its rows have no score yet.
    """
    poisoned = made(one, data)
    scored = scores.of(poisoned.rows)
    started = time.perf_counter()
    findings = find_all(MemoryWords(list(words_of(scored, scores.vocabulary))))
    seconds = time.perf_counter() - started
    backdoors = [finding for finding in findings if finding.kind == "backdoor"]
    flagged = {"evidence": np.zeros(len(poisoned.rows), dtype=bool)}
    for finding in backdoors:
        flagged["evidence"][finding.rows] = True
    measured = Scored(_scores_of(scored), scores.vocabulary)
    for way in WAYS[1:]:
        flagged[way] = FILTERS[way].decide(measured, np.arange(len(poisoned.rows)), poisoned.rows, one.seed).flagged
    result: Result = asdict(one) | {"seconds": round(seconds, 2)}
    for way, own in flagged.items():
        found = identification(own.tolist(), poisoned.labels)
        result[way] = asdict(found) | {"recall": round(found.recall, 4), "f1": round(found.f1, 4)}
    if not one.attack:
        return result | {"findings": [_summary(finding) for finding in findings]}
    suspected = {row for finding in findings if finding.kind == "suspect" for row in finding.rows.tolist()}
    result["suspected"] = sum(poisoned.labels[row] for row in suspected)
    if backdoors:
        trigger, _, payload = one.attack.partition("+")
        result["trigger_named"] = names_trigger(trigger, " ".join(backdoors[0].triggers))
        result["payload_named"] = names_payload(payload, backdoors[0].payload)
    return result


def _scores_of(scored: pa.Table) -> list[Score]:
    """What the other filters read of a score."""
    columns = [scored[name].to_pylist() for name in ("entropy", "n_tokens", "loss")]
    return [Score(i, "scored", *values) for i, values in enumerate(zip(*columns, strict=True))]


def _summary(finding: Finding) -> dict[str, Any]:
    """A finding without the words of the data."""
    return {"kind": finding.kind, "nats": round(finding.nats, 1), "rows": len(finding.rows)}


def ratios_of(results: list[Result]) -> list[float]:
    return sorted({r["ratio"] for r in results if r["attack"] and isinstance(r["ratio"], float)})


def payload_of(result: Result) -> str:
    return result["attack"].partition("+")[2]


def trigger_of(result: Result) -> str:
    return result["attack"].partition("+")[0]


def clean_table(results: list[Result]) -> str:
    """Rows flagged in sets with nothing poisoned."""
    lines = []
    for task in SETS:
        own = [r for r in results if r["task"] == task and not r["attack"]]
        if own:
            share = {way: [100 * r[way]["false_alarms"] / r["rows"] for r in own] for way in WAYS}
            suspects = mean(sum(one["kind"] == "suspect" for one in r["findings"]) for r in own)
            shares = (f"{mean(values):.2f} ({max(values):.2f})" for values in share.values())
            lines.append([task, own[0]["rows"], len(own), *shares, f"{suspects:.1f}"])
    return table(["set", "rows", "seeds", "evidence", "paper", "length", "duplicate answers", "suspects a draw"], lines)


def at_the_mark(result: Result) -> bool:
    """F1 of 99 % or more, at 1 % poison of 95."""
    return result["evidence"]["f1"] >= (0.95 if result["ratio"] < 0.02 else 0.99)


def replaced_table(results: list[Result]) -> str:
    """Of the data sets that the replaced rule had at F1 99 % or more: those that are still at 98 %."""
    lines = []
    for trigger in TRIGGERS:
        for ratio in ratios_of(results):
            own = [r for r in results if r["attack"] and (r["ratio"], trigger_of(r)) == (ratio, trigger)]
            had = [r for r in own if r["replaced"] >= 0.99]
            gained = sum(r["replaced"] < 0.95 <= r["evidence"]["f1"] for r in own)
            still = sum(r["evidence"]["f1"] >= 0.98 for r in had)
            shown = sum(2 * (r["evidence"]["found"] + r["suspected"]) >= r["evidence"]["found"] + r["evidence"]["missed"] for r in had)
            lines.append([trigger, f"{100 * ratio:g} %", len(own), len(had), still, shown, gained])
    return table(["trigger", "poison", "data sets", "replaced rule: F1 99", "now 98", "flagged or suspect", "gained"], lines)


def f1_table(results: list[Result], ratio: float) -> str:
    """F1 by trigger, payload and set."""
    known = {(r["attack"], r["task"]): r for r in results if r["ratio"] == ratio and r["attack"]}
    lines = []
    for trigger in TRIGGERS:
        for payload in PAYLOADS:
            own = [known.get((f"{trigger}+{payload}", task)) for task in SETS]
            if any(own):
                lines.append([trigger, payload, *("" if r is None else f"{100 * r['evidence']['f1']:.0f}" for r in own)])
    return table(["trigger", "payload", *SETS], lines)


def summary_table(results: list[Result]) -> str:
    """Mean F1 of every filter, and how often the evidence names trigger and payload correctly."""
    lines = []
    for ratio in ratios_of(results):
        for kind, fixed in (("fixed", True), ("per row", False)):
            own = [r for r in results if r["ratio"] == ratio and r["attack"] and (payload_of(r) in FIXED) == fixed]
            if not own:
                continue
            named = [r for r in own if "trigger_named" in r]
            f1 = [f"{100 * mean(r[way]['f1'] for r in own):.1f}" for way in WAYS]
            before = f"{100 * mean(r['replaced'] for r in own):.1f}"
            marks = f"{sum(map(at_the_mark, own))}/{len(own)}"
            right = f"{sum(r['trigger_named'] for r in named)}/{len(named)}"
            lines.append([f"{100 * ratio:g} %", kind, len(own), *f1, before, marks, right])
    header = ["poison", "payload", "data sets", "evidence", "paper", "length", "duplicates", "replaced", "at the mark", "trigger named"]
    return table(header, lines)


def alarms_table(results: list[Result]) -> str:
    """Poisoned sets in which clean rows are flagged: how many, of how many."""
    lines = []
    some = [r for r in results if r["attack"] and r["evidence"]["false_alarms"]]
    for task, ratio, trigger in dict.fromkeys((r["task"], r["ratio"], trigger_of(r)) for r in some):
        own = [r for r in some if (r["task"], r["ratio"], trigger_of(r)) == (task, ratio, trigger)]
        flagged = sorted({r["evidence"]["false_alarms"] for r in own})
        clean = own[0]["evidence"]["false_alarms"] + own[0]["evidence"]["passed"]
        poison = f"{100 * ratio:g} %" if isinstance(ratio, float) else f"{ratio} rows"
        lines.append([task, poison, trigger, ", ".join(map(payload_of, own)), f"{' or '.join(map(str, flagged))} of {clean}"])
    return table(["set", "poison", "trigger", "payloads", "clean rows flagged"], lines)


def write(results: list[Result], missing: int) -> None:
    """The section of docs/benchmark/evidence.md."""
    took = sorted(r["seconds"] for r in results if r["rows"] > 900)
    tasks = ", ".join(task for task in SETS if any(r["task"] == task for r in results))
    head = (
        "## The evidence policy\n\nSmolLM2-135M-Instruct in bfloat16; sets of 1,000 rows (self_instruct: all 252) of "
        f"{tasks}, seed 0 unless the table names more.\n{missing} data sets of these are not scored yet and left out.\n"
        "Made by `benchmarks/sets.py` and `benchmarks/evidence.py`; `benchmarks/results/evidence.json` has every data set. Deciding on\n"
        f"1,000 rows took {took[len(took) // 2]:.1f} s (median; {took[-1]:.1f} s at most). `replaced` is the rule that the policy had "
        "before: a payload that recurs, and\na trigger that goes with it. Draws of a set overlap, and all data sets of a set and ratio "
        "poison the same rows: the results are not\nindependent trials.\n\n"
    )
    poisoned = [r for r in results if r["attack"]]
    alarms = sum(r["evidence"]["false_alarms"] > 0 for r in poisoned)
    by_ratio = [(f"{100 * ratio:g} %", f1_table(results, ratio)) for ratio in ratios_of(results)]
    sections = [
        head + "### Nothing poisoned: per cent of the rows flagged, mean over seeds (largest)\n\n" + clean_table(results),
        "### Mean F1 in per cent over all triggers\n\nAt the mark: F1 of 99 or more (95 at 1 %).\n\n" + summary_table(results),
        "### What the replaced rule found\n\nFlagged or suspect: at least half of the poisoned rows. Gained: from an F1 below 95 to one "
        "of 95 or more.\n\n" + replaced_table(results),
        *(f"### F1 of the evidence policy in per cent, {poison} poisoned\n\n{text}" for poison, text in by_ratio),
        f"### Clean rows flagged in poisoned sets\n\n{alarms} of {len(poisoned):,} data sets have some.\n\n" + alarms_table(results),
    ]
    replace_section(page("evidence"), "evidence", "\n\n".join(sections))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, help="Where sets.py keeps its runs.")
    parser.add_argument("--jobs", type=int, default=1, help="Processes.")
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS)
    parser.add_argument("--ratios", type=float, nargs="*", default=RATIOS)
    parser.add_argument("--render", action="store_true", help="Only write the page of the committed results.")
    arguments = parser.parse_args()
    if arguments.render:
        known = json.loads((RESULTS / "evidence.json").read_text(encoding="utf-8"))
        write(known["results"], known["missing"])
        return
    wanted = [one for one in grid(arguments.ratios) if one.task in arguments.sets and (isinstance(one.ratio, float) or not one.attack)]
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        results = [r for r in pool.map(partial(_judged, work=arguments.work, data=arguments.data), wanted, chunksize=10) if r]
    missing = len(wanted) - len(results)
    before = json.loads((RESULTS / "evidence-replaced.json").read_text(encoding="utf-8"))["results"]
    known = {(one["task"], one["attack"], one["ratio"], one["seed"]): one["f1"] for one in before}
    for result in results:
        if result["attack"]:
            result["replaced"] = known[result["task"], result["attack"], result["ratio"], result["seed"]]
    save("evidence", {"machine": machine(), "model": "SmolLM2-135M-Instruct", "missing": missing, "results": results})
    write(results, missing)


def _judged(one: DataSet, work: Path, data: Path) -> Result | None:
    """None: its rows are not all scored yet."""
    try:
        return judge(one, _scores(work), data)
    except NotScored:
        return None


@cache
def _scores(work: Path) -> Scores:
    return Scores(work)


if __name__ == "__main__":
    main()
