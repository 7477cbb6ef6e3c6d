"""Plots: the same results make the same file, others another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradsentry.bench.plots import draw
from gradsentry.errors import UsageError


def results(f1: float = 0.5) -> list[dict[str, Any]]:
    fixed = {"table": "ratios", "attack": "badnets", "rows": 100}
    cells = [(task, name, ratio, seed) for task in ("nq", "coqa") for name in ("paper", "none") for ratio in (0.1, 0.5) for seed in (0, 1)]
    return [fixed | {"task": task, "defence": name, "ratio": ratio, "seed": seed, "f1": f1} for task, name, ratio, seed in cells]


def test_there_is_a_file_for_what_was_swept_and_it_depends_on_the_results_alone(tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    for folder, f1 in ((first, 0.5), (again, 0.5), (other, 0.9)):
        folder.mkdir()
        assert draw(results(f1), folder) == [folder / "ratios.svg"]
    drawn = [(folder / "ratios.svg").read_bytes() for folder in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_nothing_swept_is_nothing_drawn_and_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradsentry.bench.find_spec", lambda name: None)
    assert draw([{"table": "clean"}], tmp_path) == []
    with pytest.raises(UsageError, match="drawing needs matplotlib"):
        draw(results(), tmp_path)
