"""Tables: every result is in them, with the figures that it has."""

from __future__ import annotations

from typing import Any

import pytest

from gradsentry.bench.plan import TESTS
from gradsentry.bench.tables import best, clean, cost, document, identification, sweep, tuned


def result(table: str = "identification", filter: str = "paper", **other: Any) -> dict[str, Any]:
    """One line of results.jsonl."""
    fixed = {"task": "webquestions", "attack": "badnets", "ratio": 0.1, "rows": 100, "seed": 0}
    rates = {"found": 10, "missed": 0, "false_alarms": 5, "passed": 85, "recall": 1.0, "f1": 0.8}
    return {"table": table, "filter": filter} | fixed | rates | {"ms_a_row": 20.0, "memory_mib": 50, "measured_rows": 150} | other


def lines(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_identification_has_the_mean_over_seeds_and_the_range() -> None:
    some = [result(f1=0.5, recall=0.9), result(f1=0.7, recall=1.0, seed=1), result(filter="graceful", f1=1.0, seed=0)]
    header, _, own, published = lines(identification(some))
    assert header == ["task", "attack", "poison", "paper", "graceful"]
    assert own == ["webquestions", "badnets", "10 %", "95.0 (90-100) / 60.0 (50-70)", "100.0 / 100.0"]
    assert published[3:] == ["100 / 69.7-73.4", "88.5-89.7 / 93.9-94.6"]


def test_the_papers_figures_stand_below_its_own_attacks_and_ratio_alone() -> None:
    for other in ({"attack": "refusal"}, {"ratio": 0.05}, {"task": "dolly"}):
        assert len(lines(identification([result(**other)]))) == 3


def test_a_cell_that_was_not_measured_is_empty() -> None:
    some = [result(), result(attack="cba", filter="none")]
    assert [line[1:] for line in lines(identification(some))[2:4]] == [
        ["badnets", "10 %", "100.0 / 80.0", ""],
        ["cba", "10 %", "", "100.0 / 80.0"],
    ]


def test_sets_of_another_number_of_rows_have_a_line_of_their_own() -> None:
    some = [result(rows=1000, f1=0.9, best_f1=0.9), result(rows=100, f1=0.5, best_f1=0.5), result(filter="cube", rows=100)]
    header, _, large, small, published = lines(identification(some))
    assert header == ["task", "attack", "poison", "rows", "paper", "cube"]
    assert large == ["webquestions", "badnets", "10 %", "1000", "100.0 / 90.0", ""]
    assert small == ["webquestions", "badnets", "10 %", "100", "100.0 / 50.0", "100.0 / 80.0"]
    assert published[:4] == ["webquestions", "*published, 7B*", "10 %", ""]
    assert [line[2:] for line in lines(best(some))] == [
        ["poison", "rows", "paper"],
        ["---"] * 3,
        ["10 %", "1000", "90.0"],
        ["10 %", "100", "50.0"],
    ]


def test_clean_sets_of_another_number_of_rows_have_a_line_of_their_own() -> None:
    some = [result("clean", passed=50, attack=""), result("clean", passed=900, rows=1000, attack="")]
    assert lines(clean(some))[2:] == [
        ["webquestions", "100", "50.00 (50.00)"],
        ["webquestions", "1000", "90.00 (90.00)"],
        ["webquestions, *published, 7B*", "", "89.36"],
    ]


@pytest.mark.parametrize(
    ("which", "same", "other", "column", "cells"),
    [
        ("ratios", {"ratio": 0.1}, {"rows": 1000}, "rows", ("100", "1000")),
        ("volumes", {"rows": 100}, {"ratio": 0.5}, "poison", ("10 %", "50 %")),
    ],
)
def test_sweeps_of_other_sets_have_lines_of_their_own(
    which: str, same: dict[str, Any], other: dict[str, Any], column: str, cells: tuple[str, str]
) -> None:
    some = [result(which, f1=0.2, **same), result(which, f1=1.0, **same | other), result(which, f1=0.4, seed=1, **same)]
    header, _, *body = lines(sweep(some, which, lambda r: "step"))
    assert header == ["task", "attack", column, "step", "paper"]
    assert [line[2:] for line in body] == [[cells[0], "step", "30.0 (20)"], [cells[1], "step", "100.0 (100)"]]
    assert lines(sweep(some[:1], which, lambda r: "step"))[0] == ["task", "attack", "step", "paper"]


def test_a_filter_with_a_score_has_what_its_best_threshold_reaches() -> None:
    some = [result(best_f1=0.6), result(best_f1=0.7, seed=1), result(attack="cba", best_f1=0.5), result(filter="graceful")]
    header, _, *body = lines(best(some))
    assert header == ["task", "attack", "poison", "paper"]
    assert body == [["webquestions", "badnets", "10 %", "65.0"], ["webquestions", "cba", "10 %", "50.0"]]


def test_sets_of_another_poison_ratio_have_a_line_of_their_own() -> None:
    some = [result(f1=0.8, best_f1=0.9), result(f1=0.6, best_f1=0.7, ratio=0.05)]
    assert [line[2:] for line in lines(identification(some))[2:4]] == [["10 %", "100.0 / 80.0"], ["5 %", "100.0 / 60.0"]]
    assert [line[2:] for line in lines(best(some))[2:]] == [["10 %", "90.0"], ["5 %", "70.0"]]


def test_clean_sets_have_the_share_that_is_kept_and_its_least() -> None:
    some = [result("clean", passed=90, attack=""), result("clean", passed=100, attack="", seed=1)]
    assert lines(clean(some))[2:] == [["webquestions", "95.00 (90.00)"], ["webquestions, *published, 7B*", "89.36"]]
    assert len(lines(clean([result("clean", attack="", task="dolly")]))) == 3  # the paper has none for it


def test_a_sweep_is_in_the_order_of_its_steps() -> None:
    some = [result("ratios", ratio=ratio, f1=f1) for ratio, f1 in ((0.9, 0.3), (0.01, 0.1), (0.1, 0.2))]
    steps = lines(sweep(some, "ratios", lambda r: f"{r['ratio']:g}"))[2:]
    assert [line[2:] for line in steps] == [["0.01", "10.0 (10)"], ["0.1", "20.0 (20)"], ["0.9", "30.0 (30)"]]


def test_fine_tuned_models_have_both_figures_and_what_they_were_trained_on() -> None:
    some = [
        result("tuned", method="lora", cacc=0.5, asr=0.95, found=4, missed=6, passed=85),
        result("tuned", "evidence", method="lora", cacc=0.4, asr=0.0, unasked=0.01, found=10, missed=0, passed=90),
    ]
    header, _, own, published = lines(tuned(some))
    assert header == ["task", "attack", "rows", "poison", "training", "paper", "evidence"]
    assert own == [
        "webquestions",
        "badnets",
        "100",
        "10 %",
        "lora",
        "50.0 / 95.0 (6 of 91)",
        "40.0 / 0.0, 1.0 without the trigger (0 of 90)",
    ]
    assert published == ["webquestions", "badnets", "", "", "*published, 7B*", "- / 0.0", ""]


@pytest.mark.parametrize("other", [{"ratio": 0.05}, {"rows": 50}, {"seed": 1}, {"method": "full"}, {"task": "nq"}, {"attack": "cba"}])
def test_trials_that_differ_have_lines_of_their_own(other: dict[str, Any]) -> None:
    some = [result("tuned", method="lora", cacc=0.5, asr=0.95), result("tuned", cacc=0.4, asr=1.0, **{"method": "lora"} | other)]
    assert len([line for line in lines(tuned(some))[2:] if "published" not in line[4]]) == 2


def test_a_model_that_was_asked_less_says_how_often() -> None:
    some = [result("tuned", f"d{n}", method="lora", cacc=0.5, asr=1.0, tests=n) for n in (TESTS, 25)]
    assert lines(tuned(some))[2][5:] == ["50.0 / 100.0 (0 of 85)", "50.0 / 100.0, of 25 prompts (0 of 85)"]


def test_the_papers_attack_success_stands_below_its_own_cells_alone() -> None:
    for other in ({"attack": "refusal"}, {"ratio": 0.05}, {"task": "dolly"}, {"filter": "evidence"}):
        assert len(lines(tuned([result(**{"table": "tuned", "method": "lora", "cacc": 0.5, "asr": 0.0} | other)]))) == 3


def test_the_cost_is_that_of_the_largest_measurement() -> None:
    some = [result(ms_a_row=9.0, measured_rows=50), result(ms_a_row=20.0, measured_rows=400)]
    assert lines(cost(some))[2] == ["paper", "webquestions", "20.0", "50", "400"]


def test_the_document_has_a_section_for_what_there_is_and_no_other() -> None:
    text = document([result(), result("ratios")])
    assert [line for line in text.splitlines() if line.startswith("###")] == [
        "### Identification: recall / F1 in per cent, mean over seeds (range)",
        "### Poison ratio: F1 in per cent, mean over seeds (lowest)",
        "### Cost",
    ]
    assert document([]) == "\n"
