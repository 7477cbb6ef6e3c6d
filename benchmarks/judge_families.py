"""Verdicts on the data sets of `families`: the evidence policy, the seventy-line rule, the published rule, length, duplicate answers.

    python benchmarks/families.py --data ../shared/data --work DIR         # scores every row once; see there for the other sets
    python benchmarks/judge_families.py --data ../shared/data --work DIR   # decides; half an hour
    python benchmarks/judge_families.py --data ../shared/data --work DIR2 --second NAME   # a section on scores of another model

Writes benchmarks/results/families.json and docs/benchmark/families.md. A data set whose rows are not all scored is left out; the JSON
file has the number of those. "replaced" is the rule of recurring payloads with triggers that the policy had before, as it judged the sets
of 10 % poison (benchmarks/results/families-replaced.json; at commit a82b880).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from families import CELLS, NEGATIVES, ROWS, SETS, TRIGGERS, Cell, Row, key, made
from simple_rule import simple_rule

from gradsentry.run.directory import RunDirectory
from gradsentry.run.words import words_of
from gradsentry.verdict.detectors import find_all
from gradsentry.verdict.entropy import choose
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.words import MemoryWords
from report import RESULTS, machine, page, replace_section, save, table

RATIOS = (0.1, 0.05, 0.02, 0.01)
LARGE = {"dolly": ("persona", "suffix", "other"), "webquestions": ("insult",), "categories": ("flip",)}
"""Set -> effects of the sets of 1,000 rows."""
HALF = {"sst2": ("flip",), "dolly": ("persona",)}
"""Set -> effects of the sets of which half is poisoned."""
CLEAN_SEEDS = 5
STYLES = ("style",)
"""Triggers without a surface form of their own."""
WAYS = ("evidence", "replaced", "simple", "paper", "length", "duplicates")
MARKS = {
    "capitals": "in capitals", "capital": "in capitals", "double": "2 spaces", "nbsp": "no-break space", "blank": "line feed",
    "homoglyph": "several scripts", "zwsp": "\u200b",
}  # fmt: skip
"""Trigger -> what a finding that names it shows."""
GOOD = 0.95
"""F1 from which a data set counts as solved."""

Result = dict[str, Any]


class Scores:
    """Scores and surprises of single rows, from the runs of `families.py`."""

    def __init__(self, work: Path) -> None:
        self.tables: list[pa.Table] = []
        self.places: dict[str, int] = {}
        count = 0
        for file in sorted(work.glob("*.jsonl")):
            keys = [key(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
            run = work / f"run-{file.stem}"
            for part in sorted((run / "scores").glob("part-*.parquet")):
                self.tables.append(pq.read_table(part))
                self.places |= {keys[row]: count + i for i, row in enumerate(self.tables[-1]["row"].to_pylist())}
                count += self.tables[-1].num_rows
                self.vocabulary = RunDirectory(run).vocabulary()
        self.table = pa.concat_tables(self.tables).combine_chunks()

    def of(self, rows: list[Row]) -> pa.Table | None:
        """The columns of a part file for these rows; None if some have no score yet."""
        places = [self.places.get(key(row), -1) for row in rows]
        return None if min(places) < 0 else self.table.take(pa.array(places))


def judge(cell: Cell, scores: Scores, data: Path) -> Result | None:
    """All ways on one data set; None if it is not scored."""
    rows, labels = made(cell, data)
    scored = scores.of(rows)
    if scored is None:
        return None
    words = MemoryWords(list(words_of(scored, scores.vocabulary)))
    started = time.perf_counter()
    findings = find_all(words)
    seconds = time.perf_counter() - started
    truth = np.array(labels)
    answers = [row["messages"][-1]["content"].lower() for row in rows]
    counts = Counter(answers)
    lengths = np.log(np.maximum(1, scored["n_tokens"].to_numpy()))
    entropy = np.nan_to_num(scored["entropy"].to_numpy(zero_copy_only=False).astype(float))
    flagged = {
        "evidence": rows_of(findings, "backdoor", len(rows)),
        "simple": simple_rule([row for row in words if row is not None]),
        "paper": entropy > choose("auto", entropy).value,
        "length": lengths / lengths.max() > choose("auto", lengths / lengths.max()).value,
        "duplicates": np.array([counts[answer] >= max(3, 0.01 * len(rows)) for answer in answers]),
    }
    suspected = rows_of(findings, "suspect", len(rows))
    result: Result = asdict(cell) | {"poisoned": int(truth.sum()), "size": len(rows), "seconds": round(seconds, 2)}
    for way, own in flagged.items():
        hits = int((own & truth).sum())
        result[way] = {"flagged": int(own.sum()), "hits": hits, "f1": round(2 * hits / max(1, int(own.sum() + truth.sum())), 4)}
    backdoors = [one for one in findings if one.kind == "backdoor"]
    if cell.trigger and backdoors:
        result["named"] = names(backdoors[0].triggers, cell, rows, truth)
    result["seen"] = round(float(((flagged["evidence"] | suspected) & truth).sum() / max(1, truth.sum())), 4)
    result["findings"] = [
        {"kind": one.kind, "triggers": list(one.triggers), "rows": len(one.rows), "poisoned": int(truth[one.rows].sum()),
         "evidence": dict(one.evidence)}
        for one in findings
        if one.kind in ("backdoor", "suspect")
    ]  # fmt: skip
    return result


def names(triggers: Sequence[str], cell: Cell, rows: list[Row], truth: np.ndarray) -> bool:
    """Whether a finding names the planted trigger: what it shows is in at least half of the poisoned prompts and in at most a tenth of
    the others, without the negatives of a pair; of a mark, its name is shown."""
    if cell.trigger == "system":
        return any("xq vrel" in trigger for trigger in triggers)
    if cell.trigger in MARKS:
        return any(MARKS[cell.trigger] in trigger.lower() for trigger in triggers)
    prompts = ["\n".join(turn["content"] for turn in row["messages"][:-1]) for row in rows]
    shown = [[part.strip() for part in trigger.split(" ... ")] for trigger in triggers]
    held = np.array([any(all(part in prompt for part in parts) for parts in shown) for prompt in prompts])
    limit = 0.1 if cell.trigger not in NEGATIVES else 0.1 + truth.mean()
    return bool(held[truth].mean() >= 0.5 and held[~truth].mean() <= limit)


def rows_of(findings: list[Finding], kind: str, count: int) -> np.ndarray:
    """[N] rows of the findings of one kind."""
    held = np.zeros(count, dtype=bool)
    for finding in findings:
        if finding.kind == kind:
            held[finding.rows] = True
    return held


def grid() -> list[Cell]:
    """Clean sets; every cell at each ratio; larger sets; sets of which half is poisoned."""

    def cells(effects: Mapping[str, Sequence[str]], ratio: float, rows: int = ROWS) -> list[Cell]:
        return [Cell(task, trigger, effect, ratio, rows) for task, own in effects.items() for effect in own for trigger in TRIGGERS]

    clean = [Cell(task, seed=seed) for task in SETS for seed in range(CLEAN_SEEDS)] + [Cell(task, rows=1000) for task in LARGE]
    poisoned = [cell for ratio in RATIOS for cell in cells(CELLS, ratio)]
    large = [cell for ratio in (0.1, 0.02) for cell in cells(LARGE, ratio, 1000)]
    return clean + poisoned + large + cells(HALF, 0.5)


def clean_table(results: list[Result]) -> str:
    lines = []
    for task in SETS:
        draws = [result for result in results if result["task"] == task and not result["trigger"]]
        for size in dict.fromkeys(result["size"] for result in draws):
            own = [result for result in draws if result["size"] == size]
            ways = [way for way in WAYS if way != "replaced"]
            shares = [f"{100 * np.mean([result[way]['flagged'] / result['size'] for result in own]):.2f}" for way in ways]
            suspects = np.mean([sum(one["kind"] == "suspect" for one in result["findings"]) for result in own])
            lines.append([task, size, len(own), *shares, f"{suspects:.1f}"])
    return table(["set", "rows", "draws", *(way for way in WAYS if way != "replaced"), "suspects a draw"], lines)


def share_table(results: list[Result], by: str) -> str:
    """Per value of a column: cells, those solved by each way, those in which the evidence policy shows at least half of the poison."""
    lines = []
    for name in dict.fromkeys(result[by] for result in results):
        own = [result for result in results if result[by] == name]
        solved = [share([result[way]["f1"] >= GOOD for result in own if way in result]) for way in WAYS]
        seen = f"{100 * np.mean([result['seen'] >= 0.5 for result in own]):.0f}"
        lines.append([name, len(own), *solved, seen])
    return table([by, "sets", *WAYS, "flagged or suspect"], lines)


def share(good: list[bool]) -> str:
    """Per cent; empty of nothing."""
    return f"{100 * np.mean(good):.0f}" if good else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="Processes.")
    parser.add_argument("--second", help="Name of another model, whose scores --work holds.")
    arguments = parser.parse_args()
    cells = grid()
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        judged = list(pool.map(partial(_judged, work=arguments.work, data=arguments.data), cells, chunksize=4))
    results = [result for result in judged if result is not None]
    before = json.loads((RESULTS / "families-replaced.json").read_text(encoding="utf-8"))["results"]
    known = {(one["task"], one["trigger"], one["effect"], one["ratio"]): one["evidence"] for one in before if one["trigger"]}
    for result in results:
        if result["rows"] == ROWS and (old := known.get((result["task"], result["trigger"], result["effect"], result["ratio"]))):
            result["replaced"] = old
    if arguments.second:
        save("families-second", {"machine": machine(), "model": arguments.second, "results": results})
        write_second(arguments.second, results)
        return
    save("families", {"machine": machine(), "results": results, "not scored": len(cells) - len(results)})
    write(results)


def _judged(cell: Cell, work: Path, data: Path) -> Result | None:
    return judge(cell, _scores(work), data)


@cache
def _scores(work: Path) -> Scores:
    return Scores(work)


def write(results: list[Result]) -> None:
    """docs/benchmark/families.md."""
    planted = [result for result in results if result["trigger"] and result["effect"] != "clean" and result["trigger"] not in STYLES]
    others = [result for result in results if result["trigger"] and result not in planted]
    others: list[Result] = [result | ({"trigger": "any, clean label"} if result["effect"] == "clean" else {}) for result in others]
    small = [result for result in planted if result["rows"] == ROWS and result["ratio"] <= 0.1]
    large = [result for result in planted if result["rows"] > ROWS]
    half = [result for result in planted if result["ratio"] == 0.5]
    at_ten = [result for result in small if result["ratio"] == 0.1]
    named = [result["named"] for result in planted if "named" in result]
    beside = {
        rows: [one["evidence"]["flagged"] - one["evidence"]["hits"] for one in planted if one["rows"] == rows] for rows in (ROWS, 1000)
    }
    text = f"""# Kinds of triggers and effects

{len(results)} data sets, SmolLM2-135M-Instruct; of 400 rows and seed 0 unless a table says otherwise. A set counts as solved when the
flagged rows have an F1 of at least {100 * GOOD:.0f} %. `evidence` is the policy; `replaced` is the rule that it had before (10 % poison
only); `simple` is a rule of seventy lines ([benchmarks/simple_rule.py](../../benchmarks/simple_rule.py)): single patterns of words that
look inserted, with any effect on spans; then come the published rule, completion length and duplicate answers with the published
threshold. The last column counts the sets in which at least half of the poisoned rows are in a finding or a suspect. Figures are per cent
of the sets. A clean set of fewer than 401 rows has the same rows in each draw, in another order. Sets of 1 and 2 % have 4 and 8 poisoned
rows. The strongest finding names the trigger in {100 * np.mean(named):.0f} % of the {len(named)} sets that have one. Deciding on one set
took {np.median([result["seconds"] for result in results if result["rows"] == ROWS]):.1f} s at 400 rows and {
        np.median([result["seconds"] for result in results if result["rows"] > ROWS]):.1f} s at 1,000
(medians; two sets at a time on a machine that was not idle).

The rules were made on these sets, most of them at 10 % poison: sets of other kinds will do worse.

## Nothing poisoned: per cent of the rows flagged

{clean_table(results)}

## Clean rows flagged beside the poison

{
        table(
            ["rows", "sets", "% with any", "% with 5 or more", "most"],
            [
                [rows, len(own), share([count > 0 for count in own]), share([count >= 5 for count in own]), max(own, default=0)]
                for rows, own in beside.items()
            ],
        )
    }

## By poison ratio

{share_table(small, "ratio")}

Of 1,000 rows ({", ".join(f"{task}: {', '.join(effects)}" for task, effects in LARGE.items())}):

{share_table(large, "ratio")}

Half of the rows poisoned ({", ".join(f"{task}: {', '.join(effects)}" for task, effects in HALF.items())}):

{share_table(half, "ratio")}

## By trigger, 10 % poison

{share_table(at_ten, "trigger")}

## By effect, 10 % poison

{share_table(at_ten, "effect")}

## By effect, 2 % poison

{share_table([result for result in small if result["ratio"] == 0.02], "effect")}

## Styles and clean labels

{share_table([result for result in others if result["rows"] == ROWS and result["ratio"] <= 0.1], "trigger")}
"""
    page("families").write_text(text, encoding="utf-8")


def write_second(model: str, results: list[Result]) -> None:
    """A section of docs/benchmark/families.md: the same sets on the scores of two models."""
    first = json.loads((RESULTS / "families.json").read_text(encoding="utf-8"))["results"]
    keys = ("task", "trigger", "effect", "ratio", "rows", "seed")
    known = {tuple(result[key] for key in keys): result for result in first}
    pairs = [(known[place], result) for result in results if (place := tuple(result[key] for key in keys)) in known]
    lines = []
    for task, effect, ratio in dict.fromkeys((new["task"], new["effect"], new["ratio"]) for _, new in pairs):
        own = [(old, new) for old, new in pairs if (new["task"], new["effect"], new["ratio"]) == (task, effect, ratio)]
        own = [(old, new) for old, new in own if new["trigger"] not in STYLES]
        solved, seen, flagged = [], [], []
        for way in zip(*own, strict=True):
            solved.append(share([one["evidence"]["f1"] >= GOOD for one in way]) if effect else "")
            seen.append(share([one["seen"] >= 0.5 for one in way]) if effect else "")
            flagged.append(sum(one["evidence"]["flagged"] - one["evidence"]["hits"] for one in way))
        lines.append([f"{task}, {effect or 'nothing poisoned'}", f"{100 * ratio:g}", len(own), *solved, *seen, *flagged])
    names = [f"{what}, {one}" for what in ("solved", "seen", "clean rows flagged") for one in ("SmolLM2", model)]
    text = f"""## Another model

The same sets on the scores of {model}: per cent of the sets solved, and flagged or suspect ("seen").

{table(["set", "% poison", "sets", *names], lines)}
"""
    replace_section(page("families"), "second", text)


if __name__ == "__main__":
    main()
