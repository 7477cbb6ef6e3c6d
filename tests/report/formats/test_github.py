"""GitHub's annotations and summary: read back as the runner reads them, on the right lines, within its limits."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from github_runner import Command, command_of
from gradsentry.report.formats import base, github
from gradsentry.report.places import Place
from planted_rows import asked

Made = tuple[Path, dict[str, dict[str, Any]]]


def read_back(line: str) -> Command:
    """The command in one line, as the runner reads it."""
    assert "\n" not in line
    assert "\r" not in line
    command = command_of(line)
    assert command is not None
    return command


@given(path=st.text(min_size=1, max_size=20), message=st.text(max_size=40), place=st.text(min_size=1, max_size=10))
def test_a_command_is_read_back_as_it_was_meant(path: str, message: str, place: str) -> None:
    path = path.replace("\x00", "").strip("./ \\\t\n\r") or "file"
    reported = base.Reported(base.RULES[0], 3, place, Place(f"d{path}d", 7, None), message, None, 1)
    level, properties, said = read_back(github.command(reported))
    assert (level, said) == ("error", message)
    assert properties["line"] == "7"
    assert properties["title"] == "gradsentry: Row of a backdoor"
    assert properties["file"] == base.in_repository(f"d{path}d")


@pytest.mark.parametrize("hidden", ["##[group]", "##vso[task.complete]", "##teamcity[x]"])
def test_no_file_name_and_no_message_hides_a_command_of_another_runner(hidden: str) -> None:
    place = f"a{hidden}.jsonl"
    line = github.command(base.Reported(base.RULES[0], 3, f"{place}:7", Place(place, 7, None), f"has {hidden}", None, 1))
    assert hidden not in line
    _, properties, message = read_back(line)
    assert properties == {"title": "gradsentry: Row of a backdoor"}
    assert message == rf"a#\u0023{hidden[2:]}.jsonl:7: has #\u0023{hidden[2:]}".replace(r"\\", "\\")


def test_annotations_are_on_the_lines_of_the_rows_and_what_is_left_out_is_said(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: Any
) -> None:
    folder, documents = made
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    with caplog.at_level("INFO"):
        github.annotate(documents["backdoor"])
    out, err = capsys.readouterr()
    assert out == ""
    read = [read_back(line) for line in err.splitlines()]
    bad = asked(200, 30)[1]
    assert [(level, values["file"], int(values["line"])) for level, values, _ in read] == [
        ("error", "sub/data, set.jsonl", row + 1) for row in bad[:10]
    ]
    assert "annotations: 10 of 30 rows" in caplog.text


def test_every_finding_gets_an_annotation_before_any_gets_a_second(made: Made) -> None:
    document = made[1]["backdoor"]
    second = document["findings"][0] | {"number": 2, "kind": "suspect"}
    lines = document["rows"]
    rows = [*lines[:12], *(line | {"finding": 2, "flagged": False} for line in lines[12:])]
    third = [rows[3] | {"finding": None, "row": 150}]
    chosen = list(github.annotated(document | {"findings": [*document["findings"], second], "rows": [*rows, *third]}))
    assert [reported.rule.name for reported in chosen[:3]] == ["backdoor", "entropy", "suspect"]
    assert [sum(reported.rule.level == level for reported in chosen) for level in ("error", "warning")] == [10, 10]


@pytest.mark.parametrize("name", ["backdoor", "entropy", "unexamined"])
def test_the_summary_says_what_the_console_says(name: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    github.annotate(made[1][name])
    text = unescape(re.sub(r"</?code>", "", path.read_text()))
    assert text.startswith("before\n### gradsentry: ")
    wanted = {"backdoor": "30 of 200 rows (15.0 %) look poisoned.", "entropy": "look poisoned.", "unexamined": "2 rows were NOT examined"}
    assert wanted[name] in text
    assert text.count("\n| ") >= len(made[1][name]["rows"][:20]) + len(made[1][name]["unscored"])
    assert ("... and 10 more rows; report.json has all." in text) == (name == "backdoor")


@given(text=st.text(min_size=1, max_size=60))
def test_no_text_is_markup_in_the_summary(text: str) -> None:
    shown = github._text(text)
    inside = shown.removeprefix("<code>").removesuffix("</code>")
    assert not re.search(r"[!-\"$%'-/:<-@\[-`{-~]", inside.replace("&#", "").replace(";", ""))
    assert "\n" not in inside
