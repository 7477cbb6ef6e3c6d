"""The sweeps of a bench as SVG plots, for the pages of docs/benchmark/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from textwrap import fill
from typing import Any

from gradsentry.bench.results import Result
from gradsentry.bench.tables import POISON, names, several

SWEEPS = {"ratios": ("ratio", "poisoned rows, %", 100), "volumes": ("rows", "rows", 1)}
"""Table -> the field that is swept, the label of its axis, and the factor for its values there."""
BROAD = 40
"""Most characters in a line of a title."""


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """F1 over the swept field, a line a filter with the range over seeds; returns the files.

    Each task has a panel; several attacks, or data sets that differ in another field, have a row of panels each.
    """
    made = []
    for which, (swept, label, times) in SWEEPS.items():
        own = [r for r in results if r.get("table") == which]
        if own:
            made.append(_plot(own, swept, label, times, folder / f"{which}.svg"))
    return made


def _kinds(own: Sequence[Result], swept: str) -> dict[tuple[str, ...], list[Result]]:
    """The results by attack and by the field that is not swept, where these differ: words of the title -> results."""
    _, attack = several(own, ("attack", lambda r: r["attack"]))
    _, other = several(own, POISON if swept == "rows" else ("rows", lambda r: f"{r['rows']} rows"))
    kinds: dict[tuple[str, ...], list[Result]] = {}
    for r in own:
        kinds.setdefault((*attack(r), *other(r)), []).append(r)
    return kinds


def _plot(own: Sequence[Result], swept: str, label: str, times: int, path: Path) -> Path:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    tasks, filters, kinds = names(own, "task"), names(own, "filter"), _kinds(own, swept)
    with matplotlib.rc_context({"svg.hashsalt": "gradsentry", "font.size": 9}):  # the same results give the same file
        figure = Figure(figsize=(4 * len(tasks), 3.4 * len(kinds)), layout="constrained")
        panels = figure.subplots(len(kinds), len(tasks), sharey=True, squeeze=False)
        for line, (kind, of_kind) in zip(panels, kinds.items(), strict=True):
            for panel, task in zip(line, tasks, strict=True):
                some = [r for r in of_kind if r["task"] == task]
                _draw(panel, some, filters, swept, times)
                if not some:
                    panel.set_axis_off()
                    continue
                panel.set_title(fill(", ".join((task, *kind)), BROAD), parse_math=False)
                panel.set(xlabel=label, xscale="log", ylim=(-3, 103))
                panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                panel.grid(alpha=0.3)
            line[0].set_ylabel("F1, %")
        panels[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.savefig(path, metadata={"Date": None})
    return path


def _draw(panel: Any, own: Sequence[Result], filters: Sequence[str], swept: str, times: int) -> None:
    """A line for each filter, also without points, so that all panels have the same colours and share a legend."""
    for name in filters:
        some = [r for r in own if r["filter"] == name]
        steps = sorted({r[swept] for r in some})
        f1 = [[100 * r["f1"] for r in some if r[swept] == step] for step in steps]
        shown = [times * step for step in steps]
        (line,) = panel.plot(shown, [mean(values) for values in f1], marker="o", markersize=3, label=name)
        panel.fill_between(shown, [min(v) for v in f1], [max(v) for v in f1], color=line.get_color(), alpha=0.15, linewidth=0)
