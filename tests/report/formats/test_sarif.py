"""SARIF of three runs: the official schema and a second parser take it, and its results are where the rows are."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest
from sarif_pydantic import Sarif

from gradsentry.report.formats import sarif
from machine_runs import NAMES
from planted_rows import asked

SCHEMA = json.loads((Path(__file__).parent / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
"""The schema of the standard, as the npm package @microsoft/jest-sarif 1.0.0-beta.0 ships it (MIT)."""

Made = tuple[Path, dict[str, dict[str, Any]]]


@pytest.fixture
def there(made: Made, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The documents, in the folder of their data, as a CI job has it."""
    monkeypatch.chdir(made[0])
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    return made[1]


def valid(text: str) -> dict[str, Any]:
    """The run in a SARIF file that the schema takes, with the line feeds alone as controls."""
    log = json.loads(text)
    jsonschema.Draft4Validator(SCHEMA).validate(log)
    assert text.isascii()
    (run,) = log["runs"]
    return run


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_and_a_second_parser_take_each_run(name: str, there: dict[str, dict[str, Any]]) -> None:
    text = sarif.render(there[name])
    run = valid(text)
    parsed = Sarif.model_validate_json(text).runs[0]
    assert parsed.tool.driver.name == "gradsentry"
    results = parsed.results or []
    assert len(results) == len(run["results"]) == len(there[name]["rows"]) + len(there[name]["unscored"])
    rules = [rule.id for rule in parsed.tool.driver.rules or []]
    assert rules == ["backdoor", "entropy", "suspect", "unexamined"]
    assert {result.rule_id for result in results} == {name}
    assert all(rules[result.rule_index or 0] == result.rule_id for result in results)


def test_results_point_at_the_lines_of_the_rows(there: dict[str, dict[str, Any]]) -> None:
    rows, bad = asked(200, 30)
    run = valid(sarif.render(there["backdoor"]))
    physical = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert [place["region"]["startLine"] for place in physical] == [row + 1 for row in bad]
    assert {place["artifactLocation"]["uri"] for place in physical} == {"sub/data%2C%20set.jsonl"}
    lines = (Path("sub") / unquote("data%2C%20set.jsonl")).read_text().splitlines()
    assert [json.loads(lines[place["region"]["startLine"] - 1]) for place in physical] == [rows[row] for row in bad]
    fingerprints = [result["partialFingerprints"]["rowSha256/v1"] for result in run["results"]]
    assert len(set(fingerprints)) == len(bad)
    assert run["results"][0]["level"] == "error"
    assert "prompts hold" in run["results"][0]["message"]["text"]


def test_rows_without_lines_get_a_logical_location_beside_the_file(there: dict[str, dict[str, Any]]) -> None:
    run = valid(sarif.render(there["entropy"]))
    for line, result in zip(there["entropy"]["rows"], run["results"], strict=True):
        (location,) = result["locations"]
        assert location["physicalLocation"] == {"artifactLocation": {"uri": "table.parquet", "uriBaseId": "%SRCROOT%"}}
        assert location["logicalLocations"] == [{"name": f"table.parquet row {line['row']}", "kind": "row"}]


def test_equal_rows_have_fingerprints_that_differ(there: dict[str, dict[str, Any]]) -> None:
    results = valid(sarif.render(there["entropy"]))["results"]
    fingerprints = [result["partialFingerprints"]["rowSha256/v1"] for result in results]
    twice = there["entropy"] | {"rows": there["entropy"]["rows"] * 2}
    doubled = [result["partialFingerprints"]["rowSha256/v1"] for result in valid(sarif.render(twice))["results"]]
    assert Counter(doubled) == Counter([*fingerprints, *(text.replace(":1", ":2") for text in fingerprints)])


def test_rows_that_were_not_examined_are_results_too(there: dict[str, dict[str, Any]]) -> None:
    results = valid(sarif.render(there["unexamined"]))["results"]
    assert [result["locations"][0]["physicalLocation"]["region"]["startLine"] for result in results] == [41, 42]
    assert all(result["level"] == "warning" for result in results)
    assert "not valid JSON" in results[0]["message"]["text"]


def test_the_taxonomies_of_others_are_named(there: dict[str, dict[str, Any]]) -> None:
    run = valid(sarif.render(there["backdoor"]))
    ids = [taxon["id"] for component in run["taxonomies"] for taxon in component["taxa"]]
    assert ids == ["LLM05:2026", "LLM04:2025", "AML.T0020", "AML.T0115.000", "NISTAML.023"]
    (backdoor, *_) = run["tool"]["driver"]["rules"]
    assert [relation["target"]["id"] for relation in backdoor["relationships"]] == ids
    assert [entry["id"] for entry in there["backdoor"]["taxonomy"]] == ids


def test_what_github_would_refuse_is_left_out_and_counted(there: dict[str, dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    document = there["backdoor"]
    rows = [document["rows"][0] | {"row": row, "line": row + 1} for row in range(5001)]
    findings = [document["findings"][0] | {"sentence": "\U0001f600" * 2000}]
    with caplog.at_level(logging.WARNING):
        run = valid(sarif.render(document | {"rows": rows, "findings": findings}))
    assert len(run["results"]) == 5000
    note = "5,000 of 5,001 rows are in the SARIF file; report.json and verdicts.parquet have all"
    assert caplog.messages == [note]
    assert run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"] == note
    text = run["results"][0]["message"]["text"]
    assert len(text.encode("utf-16-le")) // 2 <= 1024
    assert text.endswith("\U0001f600\u2026")


def test_a_path_outside_the_repository_is_a_file_address(there: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(Path.cwd() / "sub"))
    run = valid(sarif.render(there["backdoor"]))
    assert run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "data%2C%20set.jsonl"
    outside = valid(sarif.render(there["entropy"]))["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert outside == {"uri": (Path.cwd() / "table.parquet").as_uri()}
