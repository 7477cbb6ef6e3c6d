"""Filters on cells: measured once where data sets have rows in common, right for every cell, and not again when it is known."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gradsentry.bench import identify as module
from gradsentry.bench.defences import Defence, Rows, Subject, Verdicts
from gradsentry.bench.identify import FEW, identify, watched
from gradsentry.bench.plan import Cell
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.results import Results, opened

PAYLOAD = " now"
SLOW = 0.5
"""Seconds."""
CELLS = [Cell("ratios", "made", "badnets", ratio, 40, 0) for ratio in (0.1, 0.5)] + [Cell("clean", "made", "", 0.0, 40, 0)]


class Loaded(Subject):
    """A subject whose model takes a while to load, and some memory."""

    @cached_property
    def scorer(self) -> Any:
        time.sleep(SLOW)
        return np.ones(80 * 2**17)  # 80 MiB


class Told:
    """Defences that find the payload in the text, and count what they are asked."""

    def __init__(self, alone: bool = True) -> None:
        self.asked: list[int] = []
        self.made = Defence("counts", self.measure, self.decide, alone)
        self.upside_down = replace(self.made, decide=lambda *args: Verdicts(~self.decide(*args).flagged))

    def measure(self, subject: Subject, rows: Rows) -> list[bool]:
        self.asked.append(len(rows))
        return [row["completion"].endswith(PAYLOAD) for row in rows]

    def decide(self, measured: list[bool], chosen: Any, rows: Rows, seed: int) -> Verdicts:
        flagged = np.array([measured[i] for i in chosen])
        assert flagged.tolist() == [row["completion"].endswith(PAYLOAD) for row in rows]
        return Verdicts(flagged, flagged.astype(float))


def make(cell: Cell, data: Path | None) -> Poisoned:
    """Forty rows, the first of them poisoned."""
    labels = [i < round(cell.ratio * cell.rows) for i in range(cell.rows)]
    rows = [{"prompt": f"{-i % 7} of {i}", "completion": f"it is {i}" + PAYLOAD * bad} for i, bad in enumerate(labels)]
    return Poisoned(rows, labels, ["poisoned" if bad else "clean" for bad in labels])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Results]:
    monkeypatch.setattr(Cell, "make", make)

    def run(defences: dict[str, Defence], cells: list[Cell] = CELLS, subject: Subject | None = None) -> Results:
        monkeypatch.setattr(module, "defence", defences.__getitem__)
        results = opened(tmp_path, {})
        identify(cells, list(defences), subject or Loaded(), None, results, lambda said: None)
        return results

    return run


def test_defences_that_share_a_pass_look_at_each_different_row_once(measured: Callable[..., Results]) -> None:
    told = Told()
    found = measured({"finds": told.made, "turned": told.upside_down}).found.values()
    assert told.asked == [FEW, 40 + 20]
    for result in found:
        poisoned = round(result["ratio"] * 40)
        right = (poisoned, 0, 0, 40 - poisoned) if result["defence"] == "finds" else (0, poisoned, 40 - poisoned, 0)
        assert tuple(result[name] for name in ("found", "missed", "false_alarms", "passed")) == right
        assert ("auroc" in result) == (result["defence"] == "finds" and result["ratio"] > 0)
    assert len(found) == 6


def test_what_is_known_is_not_measured_again(measured: Callable[..., Results]) -> None:
    told = Told()
    before = dict(measured({"finds": told.made}, CELLS[:1]).found)
    after = measured({"finds": told.made}).found
    assert told.asked == [FEW, 40, FEW, 60]
    assert {name: result for name, result in after.items() if name in before} == before
    measured({"finds": told.made})
    assert len(told.asked) == 4


def test_after_an_interruption_rows_are_measured_in_the_same_company(measured: Callable[..., Results]) -> None:
    told = Told()
    whole = measured({"finds": told.made})
    whole.path.write_bytes(b"".join(whole.path.read_bytes().splitlines(keepends=True)[:2]))
    again = measured({"finds": told.made})
    assert told.asked == [FEW, 60, FEW, 60]
    times = ("ms_a_row", "memory_mib")
    plain = [[{k: v for k, v in r.items() if k not in times} for r in results.found.values()] for results in (whole, again)]
    assert plain[0] == plain[1]


def test_a_defence_that_looks_at_the_whole_set_gets_each_set_by_itself(measured: Callable[..., Results]) -> None:
    told = Told(alone=False)
    found = measured({"finds": told.made}).found.values()
    assert told.asked == [40, 40, 40]
    assert [result["found"] for result in found] == [4, 20, 0]


class Working:
    """A filter that uses the model, takes 24 MiB and, if it is of one pass, long to get ready; else it lets go of the model."""

    def __init__(self, alone: bool) -> None:
        self.ready = not alone
        self.alone = alone
        self.made = Defence("works", self.measure, self.decide, alone)

    def measure(self, subject: Subject, rows: Rows) -> float:
        held = np.ones(24 * 2**17) + float(subject.scorer[0])  # pyright: ignore[reportIndexIssue]
        time.sleep(0.1)
        if not self.alone:
            subject.release()
        return held[0]

    def decide(self, measured: float, chosen: Any, rows: Rows, seed: int) -> Verdicts:
        time.sleep(0 if self.ready else SLOW)
        self.ready = True
        return Verdicts(np.zeros(len(chosen), dtype=bool))


@pytest.mark.parametrize("alone", [True, False])
def test_every_filters_cost_is_its_own_on_a_model_that_is_loaded(measured: Callable[..., Results], alone: bool) -> None:
    filters = {name: Working(alone).made for name in ("first", "second")}
    found = list(measured(filters, [replace(CELLS[0], seed=seed) for seed in (0, 1)]).found.values())
    assert len(found) == 4
    for result in found:
        assert 100 <= result["ms_a_row"] * 40 < 350, "without the loading, and without what a first call takes"
        assert 20 <= result["memory_mib"] < 70, "beyond the loaded model"


def test_filters_that_need_no_model_load_none(measured: Callable[..., Results]) -> None:
    subject = Loaded()
    measured({"finds": Told().made}, subject=subject)
    assert "scorer" not in vars(subject)


def test_time_and_memory_are_those_of_the_work() -> None:
    with watched() as cost:
        held = np.ones(60 * 2**17)  # 60 MiB
        time.sleep(0.1)
    assert held.sum() > 0
    assert 55 < cost.memory < 90
    assert 0.1 <= cost.seconds < 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim, by which memory is given back, is glibc's")
def test_memory_that_earlier_work_has_freed_is_counted_again() -> None:
    pins = []
    for _ in range(2):
        with watched() as cost:
            held = [bytes(1000) for _ in range(60_000)]
            pins.append(bytes(1000))  # what lies below it the allocator keeps when it is freed
            time.sleep(0.1)
        del held
        assert 50 < cost.memory < 120


def test_the_gpu_is_counted_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter([100 * 2**20, 400 * 2**20])
    gpu = SimpleNamespace(is_available=lambda: True, empty_cache=lambda: None, reset_peak_memory_stats=lambda: None)
    gpu.memory_allocated = gpu.max_memory_allocated = lambda: next(steps)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=gpu))
    with watched() as cost:
        pass
    assert 300 <= cost.memory < 310
