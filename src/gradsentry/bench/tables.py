"""The results of a bench as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from statistics import mean
from typing import Any

from gradsentry.bench.plan import PAPER_ATTACKS, PUBLISHED_RATIO, TESTS
from gradsentry.bench.results import Result

PUBLISHED = {
    "webquestions": {"paper": "100 / 69.7-73.4", "graceful": "88.5-89.7 / 93.9-94.6", "cube": "- / 31-71"},
    "freebaseqa": {"paper": "100 / 99.8-99.9", "graceful": "98.4-100 / -", "cube": "- / 31-71"},
    "coqa": {"paper": "100 / 99.6-99.7", "graceful": "98.4-100 / -", "cube": "- / 31-71"},
    "nq": {"paper": "100 / 97.4-97.7", "graceful": "98.4-100 / -", "cube": "- / 31-71"},
}
"""Recall and F1 in per cent over the four attacks, Llama-2-7B, 10 % poison (arXiv 2605.26574, tables of identification). GraCeFul's
recall, except on WebQuestions, and CUBE's F1 are ranges over several tasks."""

PUBLISHED_KEPT = {"webquestions": "89.36", "freebaseqa": "99.94", "coqa": "99.94", "nq": "99.42"}
"""Per cent of the rows of a clean set that the published rule keeps (same source)."""

PUBLISHED_ASR = "0.0"
"""ASR in per cent of a model trained on the rows that the published rule keeps, all 16 cells (same source)."""


Column = tuple[str, Callable[[Result], str]]
"""A column's name, and its cell for a result."""
ROWS: Column = ("rows", lambda r: str(r["rows"]))
POISON: Column = ("poison", lambda r: f"{100 * r['ratio']:g} %")
"""Columns that not every table needs."""


def document(results: Sequence[Result]) -> str:
    """All tables that have lines."""
    sections = [
        ("Identification: recall / F1 in per cent, mean over seeds (range)", identification(results)),
        ("Identification: F1 in per cent at the best possible threshold (evidence: at its verdicts)", best(results)),
        ("Nothing poisoned: per cent of the rows kept, mean over seeds (lowest)", clean(results)),
        ("Poison ratio: F1 in per cent, mean over seeds (lowest)", sweep(results, "ratios", POISON[1])),
        ("Number of rows: F1 in per cent, mean over seeds (lowest)", sweep(results, "volumes", ROWS[1])),
        ("After fine-tuning: clean accuracy / attack success in per cent (poisoned rows of those trained on)", tuned(results)),
        ("Cost", cost(results)),
    ]
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in sections if text) + "\n"


def table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; empty without lines."""
    body = [" | ".join(str(cell).replace("|", "\\|") for cell in line) for line in lines]
    return "\n".join(f"| {line} |" for line in (" | ".join(header), " | ".join("---" for _ in header), *body)) if body else ""


def names(results: Iterable[Result], field: str) -> list[str]:
    """Different values of a field, in order."""
    return list(dict.fromkeys(r[field] for r in results))


def several(results: Iterable[Result], column: Column) -> tuple[list[str], Callable[[Result], tuple[str, ...]]]:
    """The column's name and its cell if some of the results differ in it; else neither."""
    name, cell = column
    return ([name], lambda r: (cell(r),)) if len(set(map(cell, results))) > 1 else ([], lambda r: ())


def identification(results: Sequence[Result]) -> str:
    """Recall and F1 by task and attack, one column a filter; the paper's figures below each task."""
    own = [r for r in results if r.get("table") == "identification"]
    columns, set_of = _sets(own)
    filters = names(own, "filter")
    lines = []
    for task in names(own, "task"):
        of_task = [r for r in own if r["task"] == task]
        for set_ in dict.fromkeys(map(set_of, of_task)):
            cells = [[r for r in of_task if set_of(r) == set_ and r["filter"] == name] for name in filters]
            lines.append([*set_, *map(_recall_f1, cells)])
        if task in PUBLISHED and any(r["attack"] in PAPER_ATTACKS and r["ratio"] == PUBLISHED_RATIO for r in of_task):
            published = [task, "*published, 7B*", f"{100 * PUBLISHED_RATIO:g} %", *("" for _ in columns[3:])]
            lines.append([*published, *(PUBLISHED[task].get(name, "") for name in filters)])
    return table([*columns, *filters], lines)


def _sets(own: Sequence[Result]) -> tuple[list[str], Callable[[Result], tuple[str, ...]]]:
    """The columns that identify a line, and their cells for a result: results of one line differ only in the seed."""
    more, rows = several(own, ROWS)
    return ["task", "attack", "poison", *more], lambda r: (r["task"], r["attack"], POISON[1](r), *rows(r))


def _recall_f1(own: Sequence[Result]) -> str:
    """Both, or an empty cell without results."""
    return " / ".join(_spread([100 * r[rate] for r in own]) for rate in ("recall", "f1")) if own else ""


def _spread(values: Sequence[float]) -> str:
    """The mean, and the range if the values differ."""
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return f"{mean(values):.1f}" + (f" ({low}-{high})" if low != high else "")


def best(results: Sequence[Result]) -> str:
    """F1 at the best possible threshold, mean over seeds, for filters with a score."""
    own = [r for r in results if r.get("table") == "identification" and "best_f1" in r]
    columns, set_of = _sets(own)
    filters = names(own, "filter")
    lines = []
    for set_ in dict.fromkeys(map(set_of, own)):
        f1 = [[100 * r["best_f1"] for r in own if set_of(r) == set_ and r["filter"] == name] for name in filters]
        lines.append([*set_, *(f"{mean(some):.1f}" if some else "" for some in f1)])
    return table([*columns, *filters], lines)


def clean(results: Sequence[Result]) -> str:
    """Share of the rows of clean sets that are kept: mean over seeds (lowest)."""
    own = [r for r in results if r.get("table") == "clean"]
    filters = names(own, "filter")
    more, rows = several(own, ROWS)

    def kept(task: str, size: tuple[str, ...], name: str) -> str:
        shares = [100 * r["passed"] / r["rows"] for r in own if (r["task"], rows(r), r["filter"]) == (task, size, name)]
        return f"{mean(shares):.2f} ({min(shares):.2f})" if shares else ""

    lines = []
    for task in names(own, "task"):
        for size in dict.fromkeys(rows(r) for r in own if r["task"] == task):
            lines.append([task, *size, *(kept(task, size, name) for name in filters)])
        if task in PUBLISHED_KEPT and "paper" in filters:
            published = (PUBLISHED_KEPT[task] if name == "paper" else "" for name in filters)
            lines.append([f"{task}, *published, 7B*", *("" for _ in more), *published])
    return table(["task", *more, *filters], lines)


def sweep(results: Sequence[Result], which: str, step: Callable[[Result], str]) -> str:
    """F1 by task, attack and step of a sweep: mean over seeds (lowest)."""
    measured = [r for r in results if r.get("table") == which]
    fixed, column = ("ratio", POISON) if which == "volumes" else ("rows", ROWS)
    own = sorted(measured, key=lambda r: (r[fixed], r["ratio"], r["rows"]))
    more, other = several(own, column)
    filters = names(measured, "filter")

    def set_of(r: Result) -> tuple[str, ...]:
        return r["task"], r["attack"], *other(r), step(r)

    lines = []
    for task, attack in product(names(measured, "task"), names(own, "attack")):
        for set_ in dict.fromkeys(set_of(r) for r in own if (r["task"], r["attack"]) == (task, attack)):
            f1 = [[100 * r["f1"] for r in own if set_of(r) == set_ and r["filter"] == name] for name in filters]
            lines.append([*set_, *(f"{mean(some):.1f} ({min(some):.0f})" if some else "" for some in f1)])
    return table(["task", "attack", *more, "step", *filters], lines)


def tuned(results: Sequence[Result]) -> str:
    """Clean accuracy, attack success and the rows trained on; the paper's figures below its own data sets."""
    own = [r for r in results if r.get("table") == "tuned"]
    filters = names(own, "filter")
    lines = []
    for trial in dict.fromkeys(map(_trial, own)):
        some = {r["filter"]: r for r in own if _trial(r) == trial}
        task, attack, rows, ratio, method, _ = trial
        lines.append([task, attack, rows, f"{100 * ratio:g} %", method, *(_learnt(some.get(name)) for name in filters)])
        if "paper" in some and task in PUBLISHED and attack in PAPER_ATTACKS and ratio == PUBLISHED_RATIO:
            published = (f"- / {PUBLISHED_ASR}" if name == "paper" else "" for name in filters)
            lines.append([task, attack, "", "", "*published, 7B*", *published])
    return table(["task", "attack", "rows", "poison", "training", *filters], lines)


def _trial(r: Result) -> tuple[Any, ...]:
    return r["task"], r["attack"], r["rows"], r["ratio"], r["method"], r["seed"]


def _learnt(r: Result | None) -> str:
    """Both rates, the payload's rate without the trigger, the number of test rows unless it is `TESTS`, and the poisoned rows among those
    that the model was trained on."""
    if r is None:
        return ""
    few = f", of {r['tests']} prompts" if r.get("tests", TESTS) != TESTS else ""
    unasked = f", {100 * r['unasked']:.1f} without the trigger" if "unasked" in r else ""  # missing in early results
    return f"{100 * r['cacc']:.1f} / {100 * r['asr']:.1f}{unasked}{few} ({r['missed']} of {r['missed'] + r['passed']})"


def cost(results: Sequence[Result]) -> str:
    """Time and peak memory of every filter on every task, from the largest measurement."""
    own = [r for r in results if "ms_a_row" in r]
    lines = []
    for name in names(own, "filter"):
        for task in names([r for r in own if r["filter"] == name], "task"):
            some = [r for r in own if (r["filter"], r["task"]) == (name, task)]
            largest = max(some, key=lambda r: r["measured_rows"])
            lines.append([name, task, largest["ms_a_row"], largest["memory_mib"], largest["measured_rows"]])
    return table(["filter", "task", "ms a row", "peak memory beyond the start, MiB", "rows measured together"], lines)
