"""The bar of a scan from Python code: on a terminal, in a notebook, nowhere else."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import gradsentry
from answered import ROWS, run
from gradsentry.types import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_script_on_a_terminal_shows_a_bar_to_the_last_row(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", stderr := Terminal())
    run(ROWS, model_dir)
    last = stderr.getvalue().rstrip("\n").rpartition("\r")[2]
    assert "scoring: 100%" in last
    assert "60/60" in last
    assert " tokens" in last


def test_a_log_and_a_caller_with_a_progress_of_its_own_get_no_bar(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", log := io.StringIO())
    run(ROWS, model_dir)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    gradsentry.scan(ROWS, model_dir, progress=Progress())
    assert "scoring:" not in log.getvalue() + terminal.getvalue()


def test_a_notebook_gets_a_bar_though_its_stderr_is_no_terminal(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("sys.stderr", stderr := io.StringIO())
    run(ROWS, model_dir)
    assert "60/60" in stderr.getvalue()


def test_a_scan_that_resumes_begins_where_it_stopped(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ROWS, model_dir, tmp_path / "run")
    (tmp_path / "run" / "scores" / "part-00003.parquet").unlink()
    monkeypatch.setattr("sys.stderr", stderr := Terminal())
    run(ROWS, model_dir, tmp_path / "run")
    assert "48/60" in stderr.getvalue()
    assert "60/60" in stderr.getvalue()
