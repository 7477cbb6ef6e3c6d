"""The reports for machines, as a user asks for them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gradsentry.cli.reports import Reports
from gradsentry.errors import UsageError
from planted_rows import asked
from typed import clean, gradsentry


@pytest.fixture(scope="module")
def poisoned(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in which a backdoor was found."""
    folder = tmp_path_factory.mktemp("poisoned")
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked(200, 30)[0]))
    result = gradsentry("scan", "data.jsonl", "--model", model_dir, "--out", "run", "--sarif", "scan.sarif", cwd=folder)
    assert result.returncode == 1, result.stderr
    return folder


def test_scan_and_filter_write_the_same_sarif(poisoned: Path) -> None:
    before = (poisoned / "scan.sarif").read_bytes()
    result = gradsentry("filter", "run", "--sarif", "filter.sarif", cwd=poisoned)
    assert result.returncode == 1
    assert (poisoned / "filter.sarif").read_bytes() == before
    results = json.loads(before)["runs"][0]["results"]
    assert [found["properties"]["row"] for found in results] == asked(200, 30)[1]


def test_annotations_go_to_stderr_so_that_stdout_is_json(poisoned: Path) -> None:
    summary = poisoned / "summary.md"
    result = gradsentry("filter", "run", "--annotate", "github", "--json", cwd=poisoned, GITHUB_STEP_SUMMARY=str(summary))
    json.loads(result.stdout)
    commands = [line for line in clean(result).splitlines() if line.startswith("::")]
    lines = [row + 1 for row in asked(200, 30)[1]]
    assert [command.partition("::Row")[0] for command in commands] == [
        f"::error file=data.jsonl,line={line},title=gradsentry%3A Row of a backdoor" for line in lines[:10]
    ]
    assert "annotations: 10 of 30 rows" in result.stderr
    assert "look poisoned" in summary.read_text()


def test_a_summary_that_nobody_asked_for_is_not_written(poisoned: Path, tmp_path: Path) -> None:
    gradsentry("filter", "run", cwd=poisoned, GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"))
    assert not (tmp_path / "summary.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sarif", "gone/x.sarif"], "--sarif gone/x.sarif: there is no directory gone; make it, or give another file"),
        (["--sarif", "run"], "--sarif run: it is a directory; give a file"),
        (["--annotate", "gitlab"], "--annotate gitlab: it can be github"),
        (["--dry-run", "--sarif", "x.sarif"], "--dry-run makes no report"),
    ],
)
def test_a_report_that_cannot_be_made_is_refused_before_anything_is_done(poisoned: Path, arguments: list[str], message: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in (poisoned / "run").iterdir()}
    result = gradsentry("filter", "run", *arguments, cwd=poisoned)
    assert result.returncode == 2
    assert message in clean(result)
    assert {path: path.stat().st_mtime_ns for path in (poisoned / "run").iterdir()} == before


def test_a_folder_without_write_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root, who may run the tests, may write anywhere
    with pytest.raises(UsageError, match="is not writable; make it writable, or give another file"):
        Reports({"sarif": tmp_path / "x.sarif"}).check()
    Reports({"sarif": Path("x.sarif")}).check()


def test_the_help_names_each_format(tmp_path: Path) -> None:
    for command in ("scan", "filter"):
        helped = gradsentry(command, "--help", cwd=tmp_path).stdout
        assert "--sarif" in helped
        assert "--annotate" in helped
