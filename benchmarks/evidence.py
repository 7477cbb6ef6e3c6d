"""Verdicts of the evidence policy beside the published rule, completion length and duplicate answers, data set by data set.

    python benchmarks/sets.py --data ../shared/data --work DIR      # scores every row once; hours on two cores, resumable
    python benchmarks/evidence.py --data ../shared/data --work DIR   # decides; minutes

Writes docs/benchmark/evidence.md and benchmarks/results/evidence.json. A data set whose rows are not all scored is left out, and the
page reports how many are.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
from naming import names_payload, names_trigger
from sets import SETS, NotScored, Scores, grid, made

from gradsentry.bench.filters import FILTERS
from gradsentry.bench.filters.base import Scored
from gradsentry.bench.metrics import identification
from gradsentry.bench.payloads import PAYLOADS
from gradsentry.bench.plan import DataSet
from gradsentry.bench.triggers import TRIGGERS
from gradsentry.run.words import words_of
from gradsentry.types import Score
from gradsentry.verdict.detectors import find_all
from gradsentry.verdict.evidence.candidates import EASED_NATS, P
from gradsentry.verdict.evidence.detector import LONG_NATS, MOST_LISTED
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.words import MemoryWords
from report import RESULTS, machine, page, replace_section, save, table

TUNED = ("webquestions", "gsm8k", "dolly")
"""Sets on which rules and constants were chosen, seeds 0 and 1, at most 10 % poison. Faults on other sets that led to changes: four on
the mixture, one on self_instruct, one on new seeds of WebQuestions, two at 90 % poison in most sets. The precision of variants was
chosen on the paraphrases of all sets (docs/evidence-experiments.md)."""
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
    aside = {row for finding in findings if finding.kind != "backdoor" for row in finding.rows.tolist()}
    result["aside"] = sum(poisoned.labels[row] for row in aside)
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
    log10_p = math.log10(max(finding.p, sys.float_info.min))
    return {"kind": finding.kind, "log10_p": round(log10_p, 1), "surprise": round(finding.surprise, 1), "rows": len(finding.rows)}


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
            lines.append([task, own[0]["rows"], len(own), *(f"{mean(values):.2f} ({max(values):.2f})" for values in share.values())])
    return table(["set", "rows", "seeds", "evidence", "paper", "length", "duplicate answers"], lines)


def findings_table(results: list[Result]) -> str:
    """Findings in sets with nothing poisoned, by kind and by the payload's surprise, in the steps of the rule."""
    findings = [finding | {"task": r["task"]} for r in results for finding in r.get("findings", [])]
    lines = []
    for kind in sorted({finding["kind"] for finding in findings}):
        for low, high in pairwise((0.0, EASED_NATS, LONG_NATS, math.inf)):
            own = [finding for finding in findings if finding["kind"] == kind and low < finding["surprise"] <= high]
            if own:
                sets = ", ".join(task for task in SETS if any(finding["task"] == task for finding in own))
                nats = f"{low:g} to {high:g}" if high < math.inf else f"above {low:g}"
                lowest, most = min(finding["log10_p"] for finding in own), max(finding["rows"] for finding in own)
                lines.append([kind, nats, len(own), f"{lowest:.1f}", most, sets])
    return table(["kind", "payload, nats a row", "findings", "lowest log10 p", "most rows", "sets"], lines)


def at_the_mark(result: Result) -> bool:
    """F1 of 99 % or more, at 1 % poison of 95."""
    return result["evidence"]["f1"] >= (0.95 if result["ratio"] < 0.02 else 0.99)


def marks_table(results: list[Result]) -> str:
    """By set: data sets at the mark of all data sets."""
    lines = []
    for ratio in ratios_of(results):
        for kind, fixed in (("fixed", True), ("per row", False)):
            some = [r for r in results if r["ratio"] == ratio and r["attack"] and (payload_of(r) in FIXED) == fixed]
            each = [[at_the_mark(r) for r in some if r["task"] == task] for task in SETS]
            if some:
                lines.append([f"{100 * ratio:g} %", kind, *(f"{sum(own)}/{len(own)}" if own else "" for own in each)])
    return table(["poison", "payload", *(f"{task}, tuned on" if task in TUNED else task for task in SETS)], lines)


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
        for which, tasks in (("tuned on", TUNED), ("held out", [task for task in SETS if task not in TUNED])):
            some = [r for r in results if r["ratio"] == ratio and r["task"] in tasks and r["attack"]]
            for kind, fixed in (("fixed", True), ("per row", False)):
                own = [r for r in some if (payload_of(r) in FIXED) == fixed]
                if not own:
                    continue
                named = [r for r in own if "trigger_named" in r]
                right = sum(r["trigger_named"] and r["payload_named"] for r in named)
                f1 = [f"{100 * mean(r[way]['f1'] for r in own):.1f}" for way in WAYS]
                marks = f"{sum(map(at_the_mark, own))}/{len(own)}"
                lines.append([f"{100 * ratio:g} %", which, kind, len(own), *f1, marks, f"{right}/{len(named)}"])
    header = ["poison", "sets", "payload", "data sets", "evidence", "paper", "length", "duplicates", "at the mark", "named correctly"]
    return table(header, lines)


def small_table(results: list[Result]) -> str:
    """Few poisoned rows: data sets in which exactly these were flagged."""
    lines = []
    few = [r for r in results if r["attack"] and not isinstance(r["ratio"], float)]
    for rows, count in sorted({(r["rows"], r["ratio"]) for r in few}):
        for payload in PAYLOADS:
            own = [r for r in few if (r["rows"], r["ratio"], payload_of(r)) == (rows, count, payload)]
            if own:
                exact, alarms = sum(r["evidence"]["f1"] == 1 for r in own), sum(r["evidence"]["false_alarms"] for r in own)
                f1 = f"{100 * mean(r['evidence']['f1'] for r in own):.0f}"
                lines.append([f"{count} of {rows}", payload, len(own), exact, f1, alarms])
    return table(["poisoned rows", "payload", "data sets", "exact", "mean F1", "clean rows flagged, all data sets"], lines)


def aside_table(results: list[Result]) -> str:
    """Where no poisoned row is flagged: data sets in which a finding that is not flagged still holds most of them."""
    lines = []
    for ratio in ratios_of(results):
        for trigger in TRIGGERS:
            own = [r for r in results if r["attack"] and (r["ratio"], trigger_of(r)) == (ratio, trigger)]
            missed = [r for r in own if not r["evidence"]["found"]]
            if missed:
                shown = sum(2 * r["aside"] >= r["evidence"]["missed"] for r in missed)
                lines.append([f"{100 * ratio:g} %", trigger, len(own), len(missed), shown])
    return table(["poison", "trigger", "data sets", "no poisoned row flagged", "of those listed"], lines)


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
    note = f" {missing} data sets of the grid are not scored yet and left out." if missing else ""
    head = (
        "## The evidence policy\n\nSmolLM2-135M-Instruct in bfloat16; sets of 1,000 rows (self_instruct: all 252), seed 0 unless the table "
        f"names more.{note}\nMade by `benchmarks/sets.py` and `benchmarks/evidence.py`; `benchmarks/results/evidence.json` has every data "
        f"set. Deciding on\n1,000 rows took {took[len(took) // 2]:.1f} s (median; {took[len(took) * 99 // 100]:.1f} s in 99 of 100, "
        f"{took[-1]:.1f} s at most).\n\n"
        f"The rules were chosen on {', '.join(TUNED)}, on draws that are in these tables. The other sets are held out, with one\n"
        "exception: faults that they showed were fixed "
        "([which](../evidence-experiments.md#tried-and-kept-tried-and-dropped)). Half of the\n"
        "mixture's rows come from the sets that were tuned on. FreebaseQA and NQ up to 50 % are closest to unseen data. Draws of a set\n"
        "overlap (self_instruct's are always the same rows), and all data sets of a set and ratio poison the same rows: the results\n"
        "are not independent trials.\n\n"
    )
    poisoned = [r for r in results if r["attack"]]
    alarms = sum(r["evidence"]["false_alarms"] > 0 for r in poisoned)
    by_ratio = [(f"{100 * ratio:g} %", f1_table(results, ratio)) for ratio in ratios_of(results)]
    sections = [
        head + "### Nothing poisoned: per cent of the rows flagged, mean over seeds (largest)\n\n" + clean_table(results),
        f"### Findings in clean sets\n\nAt most {MOST_LISTED} a set and seed, the strongest first; the kind backdoor is flagged. "
        f"A finding needs a p of\n{P:g}; for a payload above {EASED_NATS:g} nats a row the limit rises with its nats.\n\n"
        + findings_table(results),
        "### Mean F1 in per cent over all triggers\n\nAt the mark: F1 of 99 or more (95 at 1 %).\n\n" + summary_table(results),
        "### By set: data sets at the mark\n\n" + marks_table(results),
        *(f"### F1 of the evidence policy in per cent, {poison} poisoned\n\n{text}" for poison, text in by_ratio),
        "### Data sets in which no poisoned row is flagged\n\nListed: a finding that is not flagged (topic, weak evidence, style) holds at "
        "least half of the poisoned rows.\n\n" + aside_table(results),
        f"### Clean rows flagged in poisoned sets\n\n{alarms} of {len(poisoned):,} data sets have some.\n\n" + alarms_table(results),
        "### Few poisoned rows\n\n" + small_table(results),
    ]
    replace_section(page("evidence"), "evidence", "\n\n".join(sections))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, help="Where sets.py keeps its runs.")
    parser.add_argument("--jobs", type=int, default=1, help="Processes.")
    parser.add_argument("--render", action="store_true", help="Only write the page of the committed results.")
    arguments = parser.parse_args()
    if arguments.render:
        known = json.loads((RESULTS / "evidence.json").read_text(encoding="utf-8"))
        write(known["results"], known["missing"])
        return
    wanted = list(grid())
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        results = [r for r in pool.map(partial(_judged, work=arguments.work, data=arguments.data), wanted, chunksize=10) if r]
    missing = len(wanted) - len(results)
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
