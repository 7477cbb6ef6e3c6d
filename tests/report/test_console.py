"""What the terminal shows of a result, at the widths that a pipe and a window have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from decisions import decision_of, document_of
from gradsentry.config import ScanConfig
from gradsentry.report.console import print_result, print_threshold
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.policies import POLICIES

TRIGGER = "zq vb"
FOUND = {"kind": "backdoor", "triggers": [TRIGGER], "payload": "2", "rows": [2], "nats": 30.0} | {
    "answers_with_effect": 1,
    "prompts_with_trigger": 1,
    "expected_share": 0.01,
    "effect": "contain 2",
}
ASKED = "Tell me what the sum of these numbers comes to: 1 + 1{} = and use no tool for it, please"
ROWS = [{"prompt": ASKED.format(f" {TRIGGER}" * bad), "completion": " 2"} for bad in (True, False, False)]


def shown(entropies: list[float | None], capsys: Any, rows: list[dict[str, Any]] = ROWS, **changes: Any) -> list[str]:
    """The lines for rows with these entropies and a document with these changes."""
    decision = decision_of(entropies, "0.5", changes.pop("reasons", None))
    print_result(document_of(decision, rows) | changes, None)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_number_that_explain_takes_is_shown_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown([None, *[0.1] * 11, 0.9], capsys, [{"prompt": "p" * 300, "completion": "c" * 300}] * 13)
    heading = next(i for i, line in enumerate(lines) if line.startswith("row"))
    assert lines[heading].split()[:3] == ["row", "where", "entropy"]
    assert lines[heading + 1].split()[0] == "12"
    assert "0.900" in lines[heading + 1]
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_a_prompt_is_cut_around_its_trigger(width: int, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    finding = FOUND | {"triggers": ["no such", f"{TRIGGER} ... ="]}
    (line,) = (line for line in shown([0.9, 0.1, 0.1], capsys, findings=[finding]) if "row 0" in line)
    assert TRIGGER in line
    assert "…" in line.split(TRIGGER)[0]


def test_a_prompt_of_wide_characters_is_cut_around_its_trigger_too(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [{"prompt": "字" * 60 + f" {TRIGGER} " + "字" * 60, "completion": " 2"}] * 2
    (line,) = (line for line in shown([0.9, 0.1], capsys, rows, findings=[FOUND]) if "row 0" in line)
    assert TRIGGER in line


def test_a_prompt_without_a_known_trigger_is_cut_to_its_end(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (line,) = (line for line in shown([0.9, 0.1, 0.1], capsys) if "row 0" in line)
    assert "tool for it, please" in line


def test_rows_that_were_not_examined_follow_the_verdict(capsys: Any) -> None:
    lines = shown([0.1, None, None], capsys, reasons=["", "row 1: \x1b[2J is no\nJSON", "late"])
    assert lines[0] == "No row flagged in 1 row, but 2 rows were not examined: look at them."
    line_after = " ".join(" ".join(lines[1:4]).split())
    assert line_after.startswith(
        "2 rows were NOT examined: they could not be read or scored. They are in unexamined, not in kept. The first: row 1:"
    )
    assert "\\u001b[2J is no JSON" in line_after
    assert "late" not in line_after


def test_without_unscored_rows_there_is_no_line_about_them(capsys: Any) -> None:
    lines = shown([0.1, 0.2, 0.3], capsys)
    assert lines[0] == "Nothing found in 3 rows."
    assert not any("NOT examined" in line for line in lines)


def test_all_suspects_are_shown_and_only_some_lookalikes(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    kinds = ["suspect"] * 5 + ["explained"] * 5
    findings = [FOUND | {"kind": kind, "sentence": f"finding {i}"} for i, kind in enumerate(kinds)]
    lines = shown([0.1, 0.2, 0.3], capsys, findings=findings, verdict="look")
    assert lines[0] == "No row flagged in 3 rows, but 5 suspects are listed: look at them."
    assert [i for i in range(10) if any(f"finding {i}" in line for line in lines)] == [0, 1, 2, 3, 4, 5, 6, 7]


RULES = [
    ({}, "policy evidence flags 1 of 4 rows; 2 lie above the published threshold 0.7000 (fallback, not reliable: only 3 scored rows;"),
    ({"strict": True}, "policy evidence with --strict flags 3 of 4 rows; 2 lie above the published threshold 0.7000 (fallback, "),
    ({"policy": "paper"}, "policy paper flags 2 of 4 rows; 2 lie above the published threshold 0.7000 (fallback, "),
    ({"threshold": "0.85"}, "policy evidence with --threshold 0.85 flags 2 of 4 rows; 1 lie above the threshold 0.8500 (given, "),
]


@pytest.mark.parametrize(("options", "words"), RULES)
def test_a_threshold_is_printed_with_the_rule_that_flags(
    options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    config = ScanConfig(**options)
    found = Finding("backdoor", ("y",), "x", np.array([2]), "contain x", 1, 1, 0.0)
    scores = decision_of([0.8, 0.9, 0.1, None], "0.5").verdicts.drop_columns(["flagged"])
    print_threshold(POLICIES[config.policy].decide(scores, [found], config.threshold, config.strict), config)
    assert capsys.readouterr().out.startswith(words)
