"""Filters on data sets: measured once where data sets have rows in common, right for every data set, and not again when it is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradsentry.bench import evaluate_filters as module
from gradsentry.bench.evaluate_filters import WARM_UP, evaluate_filters
from gradsentry.bench.filters.base import Filter, Rows, Verdicts
from gradsentry.bench.plan import DataSet
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.results import Results, opened
from gradsentry.bench.training import TargetModel

PAYLOAD = " now"
SLOW = 2.0
"""Seconds of a model's loading and of a first call: more than a tenth of a second of work takes on a loaded machine."""
SETS = [DataSet("ratios", "made", "badnets", ratio, 40, 0) for ratio in (0.1, 0.5)] + [DataSet("clean", "made", "", 0.0, 40, 0)]


class Loaded(TargetModel):
    """A target whose model takes a while to load, and some memory."""

    @cached_property
    def scorer(self) -> Any:
        time.sleep(SLOW)
        return np.ones(80 * 2**17)  # 80 MiB


class Counting:
    """Filters that find the payload in the text, and count what they are asked."""

    def __init__(self, per_row: bool = True) -> None:
        self.asked: list[int] = []
        self.made = Filter("counts", self.measure, self.decide, per_row)
        self.upside_down = replace(self.made, decide=lambda *args: Verdicts(~self.decide(*args).flagged))

    def measure(self, target: TargetModel, rows: Rows) -> list[bool]:
        self.asked.append(len(rows))
        return [row["completion"].endswith(PAYLOAD) for row in rows]

    def decide(self, measured: list[bool], chosen: Any, rows: Rows, seed: int) -> Verdicts:
        flagged = np.array([measured[i] for i in chosen])
        assert flagged.tolist() == [row["completion"].endswith(PAYLOAD) for row in rows]
        return Verdicts(flagged, flagged.astype(float))


def make(one: DataSet, data: Path | None) -> Poisoned:
    """Forty rows, the first of them poisoned."""
    labels = [i < round(one.ratio * one.rows) for i in range(one.rows)]
    rows = [{"prompt": f"{-i % 7} of {i}", "completion": f"it is {i}" + PAYLOAD * bad} for i, bad in enumerate(labels)]
    return Poisoned(rows, labels, ["poisoned" if bad else "clean" for bad in labels])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Results]:
    monkeypatch.setattr(DataSet, "make", make)

    def run(filters: dict[str, Filter], data_sets: list[DataSet] = SETS, target: TargetModel | None = None) -> Results:
        monkeypatch.setattr(module, "FILTERS", filters)
        results = opened(tmp_path, {})
        evaluate_filters(data_sets, list(filters), target or Loaded(), None, results, lambda line: None)
        return results

    return run


def test_filters_that_share_a_pass_look_at_each_different_row_once(measured: Callable[..., Results]) -> None:
    counting = Counting()
    found = measured({"finds": counting.made, "turned": counting.upside_down}).found.values()
    assert counting.asked == [WARM_UP, 40 + 20]
    for result in found:
        poisoned = round(result["ratio"] * 40)
        right = (poisoned, 0, 0, 40 - poisoned) if result["filter"] == "finds" else (0, poisoned, 40 - poisoned, 0)
        assert tuple(result[name] for name in ("found", "missed", "false_alarms", "passed")) == right
        assert ("auroc" in result) == (result["filter"] == "finds" and result["ratio"] > 0)
    assert len(found) == 6


def test_what_is_known_is_not_measured_again(measured: Callable[..., Results]) -> None:
    counting = Counting()
    before = dict(measured({"finds": counting.made}, SETS[:1]).found)
    after = measured({"finds": counting.made}).found
    assert counting.asked == [WARM_UP, 40, WARM_UP, 60]
    assert {name: result for name, result in after.items() if name in before} == before
    measured({"finds": counting.made})
    assert len(counting.asked) == 4


def test_after_an_interruption_rows_are_measured_in_the_same_company(measured: Callable[..., Results]) -> None:
    counting = Counting()
    whole = measured({"finds": counting.made})
    whole.path.write_bytes(b"".join(whole.path.read_bytes().splitlines(keepends=True)[:2]))
    again = measured({"finds": counting.made})
    assert counting.asked == [WARM_UP, 60, WARM_UP, 60]
    times = ("ms_a_row", "memory_mib")
    plain = [[{k: v for k, v in r.items() if k not in times} for r in results.found.values()] for results in (whole, again)]
    assert plain[0] == plain[1]


def test_a_defence_that_looks_at_the_whole_set_gets_each_set_by_itself(measured: Callable[..., Results]) -> None:
    counting = Counting(per_row=False)
    found = measured({"finds": counting.made}).found.values()
    assert counting.asked == [40, 40, 40]
    assert [result["found"] for result in found] == [4, 20, 0]


class Working:
    """A filter that uses the model, takes 24 MiB and, if it is of one pass, long to get ready; else it lets go of the model."""

    def __init__(self, per_row: bool) -> None:
        self.ready = not per_row
        self.per_row = per_row
        self.made = Filter("works", self.measure, self.decide, per_row)

    def measure(self, target: TargetModel, rows: Rows) -> float:
        held = np.ones(24 * 2**17) + float(target.scorer[0])  # pyright: ignore[reportIndexIssue]
        time.sleep(0.1)
        if not self.per_row:
            target.release()
        return held[0]

    def decide(self, measured: float, chosen: Any, rows: Rows, seed: int) -> Verdicts:
        time.sleep(0 if self.ready else SLOW)
        self.ready = True
        return Verdicts(np.zeros(len(chosen), dtype=bool))


@pytest.mark.parametrize("per_row", [True, False])
def test_every_filters_cost_is_its_own_on_a_model_that_is_loaded(measured: Callable[..., Results], per_row: bool) -> None:
    filters = {name: Working(per_row).made for name in ("first", "second")}
    found = list(measured(filters, [replace(SETS[0], seed=seed) for seed in (0, 1)]).found.values())
    assert len(found) == 4
    for result in found:
        assert 100 <= result["ms_a_row"] * 40 < 1000 * SLOW, "without the loading, and without what a first call takes"
        assert 20 <= result["memory_mib"] < 70, "beyond the loaded model"


def test_filters_that_need_no_model_load_none(measured: Callable[..., Results]) -> None:
    target = Loaded()
    measured({"finds": Counting().made}, target=target)
    assert "scorer" not in vars(target)
