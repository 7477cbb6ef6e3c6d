"""The sweeps of a bench as pictures (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from gradsentry.bench import needs_bench
from gradsentry.bench.results import Result
from gradsentry.bench.tables import names

SWEEPS = {"ratios": ("ratio", "poisoned rows, %", 100), "volumes": ("rows", "rows", 1)}
"""Table -> the result's field that is swept, what to call it, and by how much it is multiplied there."""


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """F1 over what was swept, a panel a task, a line a defence with the range over seeds; returns the files.

    Raises:
        UsageError: matplotlib is not installed.
    """
    made = []
    for which, (swept, label, times) in SWEEPS.items():
        own = [r for r in results if r.get("table") == which]
        if own:
            needs_bench("drawing", "matplotlib")
            made.append(_sweep(own, swept, label, times, folder / f"{which}.svg"))
    return made


def _sweep(own: Sequence[Result], swept: str, label: str, times: int, path: Path) -> Path:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    tasks, defences = names(own, "task"), names(own, "defence")
    with matplotlib.rc_context({"svg.hashsalt": "gradsentry", "font.size": 9}):  # the same results make the same file
        figure = Figure(figsize=(4 * len(tasks), 3.4), layout="constrained")
        panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for panel, task in zip(panels, tasks, strict=True):
            for name in defences:
                some = [r for r in own if (r["task"], r["defence"]) == (task, name)]
                steps = sorted({r[swept] for r in some})
                f1 = [[100 * r["f1"] for r in some if r[swept] == step] for step in steps]
                shown = [times * step for step in steps]
                (line,) = panel.plot(shown, [mean(values) for values in f1], marker="o", markersize=3, label=name)
                panel.fill_between(shown, [min(v) for v in f1], [max(v) for v in f1], color=line.get_color(), alpha=0.15, linewidth=0)
            panel.set(title=task, xlabel=label, xscale="log", ylim=(-3, 103))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.grid(alpha=0.3)
        panels[0].set_ylabel("F1, %")
        panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.savefig(path, metadata={"Date": None})
    return path
