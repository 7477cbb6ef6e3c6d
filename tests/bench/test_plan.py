"""Plans: which data sets, with what asked for in place of what the preset says."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from gradsentry.bench.filters import FILTERS, ONE_PASS, SLOW
from gradsentry.bench.plan import PAPER_ATTACKS, PAPER_TASKS, PRESETS, RATIOS, VOLUMES, DataSet, key, planned
from gradsentry.errors import UsageError


def test_the_paper_has_every_task_attack_and_seed_and_both_sweeps() -> None:
    cells = list(planned("paper").data_sets())
    wanted = Counter(dict.fromkeys(product(PAPER_TASKS, PAPER_ATTACKS, range(3)), 1))
    assert Counter((c.task, c.attack, c.seed) for c in cells if c.table == "identification") == wanted
    assert {c.ratio for c in cells if c.table == "ratios"} == set(RATIOS) == {0.01, 0.03, 0.05, 0.1, 0.2, 0.4, 0.5, 0.7, 0.9}
    assert {c.rows for c in cells if c.table == "volumes"} == set(VOLUMES) == {20, 50, 100, 200, 500, 1000}
    assert {c.attack for c in cells if c.table == "clean"} == {""}
    assert len({key(c, "paper") for c in cells}) == len(cells)
    ablations = {"paper-k4", "paper-k8", "paper-uncropped"}
    assert {*ONE_PASS, *ablations} == set(planned("paper").filters)
    assert {*ONE_PASS, *SLOW, *ablations, "none"} <= set(FILTERS)


def test_the_laptop_has_no_sweep_and_the_slow_filters_only_if_asked() -> None:
    plan = planned("laptop")
    assert {c.table for c in plan.data_sets()} == {"identification", "clean"}
    assert not plan.slow
    slow = planned("laptop", slow=True)
    assert slow.slow == ("cube", "onion")
    assert {c.rows for c in slow.slow_sets()} == {100}


@pytest.mark.parametrize(("rows", "slow_rows"), [(100, 100), (None, 300), (500, 300)])
def test_the_slow_filters_of_the_paper_have_no_more_rows_than_the_others(rows: int | None, slow_rows: int) -> None:
    plan = planned("paper", rows=rows, volumes=())
    assert {c.rows for c in plan.slow_sets()} == {slow_rows}


def test_what_is_asked_for_replaces_the_preset_and_none_leaves_it() -> None:
    plan = planned("laptop", tasks=("nq",), rows=50, seeds=None, volumes=(20, 40))
    assert plan == replace(PRESETS["laptop"], tasks=("nq",), rows=50, volumes=(20, 40))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"preset": "desk"}, "--preset desk: it can be laptop or paper"),
        ({"attacks": ("nets",)}, r"attack 'nets' is unknown, did you mean 'badnets'\?; there are badnets"),
        ({"swept": ("nets",)}, "attack 'nets' is unknown"),
        ({"ratio": 1.0}, "a poison ratio of 1.0 leaves 100 of 100 rows poisoned"),
        ({"ratios": (0.5, 0.999)}, "a poison ratio of 0.999 leaves 100 of 100"),
        ({"volumes": (4,)}, "a poison ratio of 0.1 leaves 0 of 4"),
        ({"ratio": math.nan}, "a poison ratio of nan: it must be between 0 and 1"),
        ({"ratio": math.inf}, "a poison ratio of inf: it must be"),
        ({"ratio": -0.1}, "a poison ratio of -0.1: it must be"),
        ({"preset": "paper", "ratio": 0.0016, "volumes": ()}, "a poison ratio of 0.0016 leaves 0 of 300"),  # of the slow ones' rows
        ({"seeds": 0}, "nothing to measure: 4 tasks, 0 seeds"),
        ({"tasks": ()}, "nothing to measure: 0 tasks"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(asked: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        planned(**{"preset": "laptop"} | asked)  # pyright: ignore[reportArgumentType]


def test_a_data_set_is_made_the_same_every_time_and_ratios_share_rows(tmp_path: Path) -> None:
    (tmp_path / "webquestions").mkdir()
    for part, count in (("trainmodel", 120), ("val", 0), ("devtest", 0)):
        rows = [{"qText": f"who is {n}?", "answers": [f"A{n}"]} for n in range(count)]
        (tmp_path / "webquestions" / f"{part}.json").write_text(json.dumps(rows))
    one = DataSet("ratios", "webquestions", "badnets", 0.1, 100, 0)
    made = one.make(tmp_path)
    assert one.make(tmp_path) == made
    assert sum(made.labels) == 10
    more = replace(one, ratio=0.5).make(tmp_path)
    assert all(a == b for a, b, label in zip(made.rows, more.rows, made.labels, strict=True) if label)
    clean = replace(one, table="clean", attack="", ratio=0.0).make(tmp_path)
    assert not any(clean.labels)
    assert sum(a == b for a, b in zip(clean.rows, made.rows, strict=True)) == 90
