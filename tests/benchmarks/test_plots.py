"""Plots: the same results make the same file, others another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from plots import draw


def results(f1: float = 0.5, **other: Any) -> list[dict[str, Any]]:
    fixed = {"table": "ratios", "attack": "badnets", "rows": 100} | other
    cells = [(task, name, ratio, seed) for task in ("nq", "coqa") for name in ("paper", "none") for ratio in (0.1, 0.5) for seed in (0, 1)]
    return [fixed | {"task": task, "filter": name, "ratio": ratio, "seed": seed, "f1": f1} for task, name, ratio, seed in cells]


def test_there_is_a_file_for_what_was_swept_and_it_depends_on_the_results_alone(tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    for folder, f1 in ((first, 0.5), (again, 0.5), (other, 0.9)):
        folder.mkdir()
        assert draw(results(f1), folder) == [folder / "ratios.svg"]
    drawn = [(folder / "ratios.svg").read_bytes() for folder in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("other", "titles"),
    [
        ({"attack": "add$sent$"}, ["nq, badnets", "coqa, badnets", "nq, add$sent$", "coqa, add$sent$"]),
        ({"rows": 1000}, ["nq, 100 rows", "coqa, 100 rows", "nq, 1000 rows", "coqa, 1000 rows"]),
        (
            {"rows": 1000, "attack": "cba"},
            ["nq, badnets, 100 rows", "coqa, badnets, 100 rows", "nq, cba, 1000 rows", "coqa, cba, 1000 rows"],
        ),
        ({}, ["nq", "coqa"]),
    ],
)
def test_other_attacks_and_other_sets_have_panels_of_their_own(
    other: dict[str, Any], titles: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, dict[str, list[float]]]] = []
    savefig = Figure.savefig

    def seen(figure: Figure, *args: Any, **options: Any) -> None:
        for panel in figure.axes:
            drawn.append((panel.get_title(), {str(line.get_label()): list(line.get_ydata()) for line in panel.lines}))
        savefig(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", seen)
    draw([*results(0.2), *(results(0.9, **other) if other else [])], tmp_path)
    assert [title for title, _ in drawn] == titles
    for number, (_, lines) in enumerate(drawn):
        assert lines == dict.fromkeys(("paper", "none"), [90.0 if number > 1 else 20.0] * 2)


def test_panels_of_the_sweep_over_rows_are_by_ratio_and_a_gap_in_the_grid_stays_empty(tmp_path: Path) -> None:
    some = [r | {"table": "volumes"} for r in (*results(ratio=0.1), *results(ratio=0.5))]
    assert len(draw([r for r in some if (r["task"], r["ratio"]) != ("coqa", 0.5)], tmp_path)) == 1
    text = (tmp_path / "volumes.svg").read_text()
    assert [text.count(f"<!-- {title} -->") for title in ("nq, 10 %", "coqa, 10 %", "nq, 50 %", "coqa, 50 %")] == [1, 1, 1, 0]


def test_nothing_swept_is_nothing_drawn(tmp_path: Path) -> None:
    assert draw([{"table": "clean"}], tmp_path) == []
