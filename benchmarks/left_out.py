"""What each constant of the evidence policy does to triggers and effects on which it was not chosen.

    python benchmarks/families.py --data ../shared/data --work DIR   # scores every row once
    python benchmarks/left_out.py --data ../shared/data --work DIR   # decides; an hour on two cores

Each constant has some values around its present one, the others stay. All sets are judged with each value. Then each kind of trigger, and
each kind of effect, is left out in turn: the value is chosen on the sets of the other kinds (most sets solved, of those that flag no clean
row in a clean set; the present value among equals) and applied to the sets of the kind that was left out.
Writes docs/benchmark/left-out.md and benchmarks/results/left-out.json.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from families import CELLS, SETS, TRIGGERS, Cell, made
from judge_families import GOOD, STYLES, Result, _scores, rows_of

from gradsentry.run.words import words_of
from gradsentry.verdict.detectors import find_all
from gradsentry.verdict.words import MemoryWords
from report import machine, page, save, table

PLANTED = "gradsentry.verdict.planted."
CONSTANTS: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "FLAGGED": (("search",), (9.2, 11.5, 13.8)),
    "SUSPECT": (("search",), (3.0, 4.6, 6.9)),
    "CLEARLY_INSERTED": (("search",), (1.6, 2.3, 3.0)),
    "SEVERAL": (("search",), (2, 3, 4)),
    "NAMED": (("search",), (0.25, 0.4, 0.6)),
    "RARE": (("search",), (0.02, 0.05, 0.1)),
    "PURE": (("detector",), (0.75, 0.85, 0.95)),
    "OWN_SHARE": (("controls", "text"), (0.7, 0.8, 0.9)),
    "REUSE": (("controls",), (0.05, 0.1, 0.2)),
}
"""Constant -> (modules that hold it, values; the middle one is the present one)."""
RATIOS = (0.1, 0.05)
EVERY = 5
"""Of the poisoned sets, in an order that mixes triggers and effects, each of these is judged."""


def cells() -> list[Cell]:
    """Clean sets, and a part of the poisoned ones, the same for all values."""
    planted = [
        Cell(task, trigger, effect, ratio)
        for trigger in TRIGGERS
        if trigger not in STYLES
        for task, effects in CELLS.items()
        for effect in effects
        if effect != "clean"
        for ratio in RATIOS
    ]
    return [Cell(task, seed=seed) for task in SETS for seed in range(2)] + planted[::EVERY]


def judge(cell: Cell, work: Path, data: Path, name: str, value: float) -> Result | None:
    """Solved, and clean rows flagged, with one value of one constant; None if the set is not scored."""
    for module in CONSTANTS[name][0]:
        setattr(import_module(PLANTED + module), name, value)
    rows, labels = made(cell, data)
    scores = _scores(work)
    scored = scores.of(rows)
    if scored is None:
        return None
    flagged = rows_of(find_all(MemoryWords(list(words_of(scored, scores.vocabulary)))), "backdoor", len(rows))
    truth = np.array(labels)
    f1 = 2 * int((flagged & truth).sum()) / max(1, int(flagged.sum() + truth.sum()))
    return {"trigger": cell.trigger, "effect": cell.effect, "solved": f1 >= GOOD, "wrong": int((flagged & ~truth).sum())}


def chosen(results: dict[float, list[Result]], usual: float) -> float:
    """The value with the most sets solved, of those that flag no clean row in a clean set; the usual one among equals."""

    def order(value: float) -> tuple[bool, float, bool]:
        clean = [one["wrong"] for one in results[value] if not one["trigger"]]
        return not any(clean), float(np.mean([one["solved"] for one in results[value] if one["trigger"]])), value == usual

    return max(results, key=order)


def left_out(results: dict[float, list[Result]], usual: float, by: str) -> tuple[list[float], float, float]:
    """The values chosen without each kind; share of sets solved with them on the kind left out; the same with the usual value."""
    solved: list[bool] = []
    values = []
    for kind in dict.fromkeys(one[by] for one in results[usual] if one["trigger"]):
        value = chosen({value: [one for one in own if one[by] != kind] for value, own in results.items()}, usual)
        values.append(value)
        solved += [one["solved"] for one in results[value] if one[by] == kind]
    return values, float(np.mean(solved)), float(np.mean([one["solved"] for one in results[usual] if one["trigger"]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="Processes.")
    arguments = parser.parse_args()
    found: dict[str, dict[float, list[Result]]] = defaultdict(dict)
    usual: list[Result] | None = None
    for name, (_, values) in CONSTANTS.items():
        for value in values:
            if value == values[1] and usual is not None:  # the present values are judged once
                found[name][value] = usual
                continue
            # New processes for each value: a constant that was changed before has its usual value again.
            with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
                one = partial(judge, work=arguments.work, data=arguments.data, name=name, value=value)
                found[name][value] = [result for result in pool.map(one, cells(), chunksize=4) if result is not None]
            if value == values[1]:
                usual = found[name][value]
            print(name, value, np.mean([result["solved"] for result in found[name][value] if result["trigger"]]), flush=True)
    results = [{"constant": name, "value": value} | one for name, own in found.items() for value, ones in own.items() for one in ones]
    save("left-out", {"machine": machine(), "results": results})
    write(found)


def write(found: dict[str, dict[float, list[Result]]]) -> None:
    """docs/benchmark/left-out.md."""
    lines: list[list[Any]] = []
    varied = []
    for name, own in found.items():
        values = CONSTANTS[name][1]
        for value in values:
            planted = [one for one in own[value] if one["trigger"]]
            clean = [one["wrong"] for one in own[value] if not one["trigger"]]
            lines.append(
                [name if value == values[0] else "", f"**{value:g}**" if value == values[1] else f"{value:g}",
                 f"{100 * np.mean([one['solved'] for one in planted]):.1f}", sum(clean), sum(one["wrong"] for one in planted)]
            )  # fmt: skip
        for by in ("trigger", "effect"):
            picks, without, present = left_out(own, values[1], by)
            shown = ", ".join(f"{value:g} ({picks.count(value)} of {len(picks)})" for value in values if value in picks)
            varied.append([name if by == "trigger" else "", by, shown, f"{100 * without:.1f}", f"{100 * present:.1f}"])
    sets = next(iter(next(iter(found.values())).values()))
    text = f"""# Constants on kinds of triggers and effects that they were not chosen on

{len(sets)} sets of [the families](families.md): two draws of each clean set, and one in {EVERY} of the poisoned sets of 5 and 10 %,
styles and clean labels apart. `benchmarks/left_out.py`
judges all of them with each value of each constant, the others as they are (bold: the value in use). Solved: flagged rows with an F1 of at
least {100 * GOOD:.0f} %.

{table(["constant", "value", "% of poisoned sets solved", "rows flagged in clean sets", "clean rows flagged in poisoned sets"], lines)}

Each kind of trigger, or of effect, is left out in turn. The value is chosen on the other kinds: most sets solved, of the values that flag
no row of a clean set. The table has the values chosen, and the sets of the kinds left out that are solved with them.

{table(["constant", "left out in turn", "values chosen", "% solved on kinds left out", "% solved with the value in use"], varied)}
"""
    page("left-out").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
