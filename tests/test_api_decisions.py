"""Deciding once more on a run: what is read, what is written, and what is told where that cannot be."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import gradsentry
from answered import run
from gradsentry.api import preview_decision
from gradsentry.errors import RunError, UsageError
from gradsentry.report.explain import explain
from trees import tree


def test_another_threshold_takes_no_model(jsonl: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    first = run(jsonl, model_dir, out)
    monkeypatch.setattr("gradsentry.scorer.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    preview, _ = preview_decision(out, "0.0")
    assert pq.read_table(out / "verdicts.parquet").equals(first.decision.verdicts)  # a look changes nothing
    again = gradsentry.redecide(out, "0.0")
    assert again.counts == preview.counts
    entropies = first.decision.verdicts["entropy"].to_pylist()
    assert again.flagged == [i for i, value in enumerate(entropies) if value is not None and value > 0]
    assert len((out / "flagged.jsonl").read_bytes().splitlines()) == len(again.flagged)
    assert json.loads((out / "manifest.json").read_text())["config"]["threshold"] == "0.0"
    jsonl.write_text(jsonl.read_text() + "\n{}")
    with pytest.raises(RunError, match="has changed"):
        gradsentry.redecide(out, "0.5")


def test_an_incomplete_run_is_not_decided_on(jsonl: Path, model_dir: Path, tmp_path: Path) -> None:
    run(jsonl, model_dir, tmp_path / "run")
    (tmp_path / "run" / "scores" / "part-00001.parquet").unlink()
    before = tree(tmp_path / "run")
    with pytest.raises(RunError, match="1 of 4 parts are missing"):
        gradsentry.redecide(tmp_path / "run", "0.5", policy="paper")
    assert tree(tmp_path / "run") == before
    with pytest.raises(RunError, match="is no run directory"):
        gradsentry.redecide(tmp_path, "0.5")


def test_a_split_that_fails_leaves_the_decision_before_whole(
    jsonl: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run(jsonl, model_dir, out)
    before = tree(out)

    def fill(source: Any, parts: Any, paths: list[Path], *_: Any) -> None:
        paths[0].write_text("half")
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("gradsentry.data.sources.text_file.TextSource.split", fill)
    with pytest.raises(RunError, match="no space left on the disk"):
        gradsentry.redecide(out, "0.0")
    assert tree(out) == before
    monkeypatch.undo()
    again = gradsentry.redecide(out, "0.0")
    assert json.loads((out / "manifest.json").read_text())["config"]["threshold"] == "0.0"
    assert pq.read_table(out / "verdicts.parquet").equals(again.decision.verdicts)


LOOKS: dict[str, Callable[[Path], object]] = {
    "threshold": preview_decision,
    "filter": gradsentry.redecide,
    "explain": lambda run: explain(run, 20),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_missing_part_is_told_as_such_and_a_damaged_one_by_its_name(jsonl: Path, model_dir: Path, tmp_path: Path, look: str) -> None:
    out = tmp_path / "run"
    run(jsonl, model_dir, out)
    part = out / "scores" / "part-00001.parquet"
    os.truncate(part, 300)
    with pytest.raises(RunError, match=r"part-00001.parquet is damaged .*; delete it and run the same scan again"):
        LOOKS[look](out)
    part.unlink()
    with pytest.raises(RunError, match=r"run is not complete: 1 of 4 parts are missing; run the same scan again"):
        LOOKS[look](out)


@pytest.mark.parametrize("name", ["verdicts.parquet", "evidence.parquet"])
def test_a_damaged_verdict_is_told_by_its_file(jsonl: Path, model_dir: Path, tmp_path: Path, name: str) -> None:
    run(jsonl, model_dir, tmp_path / "run")
    os.truncate(tmp_path / "run" / name, 300)
    with pytest.raises(RunError, match=f"{name} is damaged .*; delete it and run the same scan again"):
        explain(tmp_path / "run", 20)


def test_a_threshold_may_be_a_number(jsonl: Path, model_dir: Path, tmp_path: Path) -> None:
    result = run(jsonl, model_dir, tmp_path / "run", threshold=0.1)
    assert result.flagged == run(jsonl, model_dir, threshold="0.1").flagged != []
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]["threshold"] == "0.1"
    with pytest.raises(UsageError, match=r"--threshold 1.5: give auto"):
        gradsentry.ScanConfig(threshold=1.5)  # pyright: ignore[reportArgumentType]


def test_the_paper_policy_warns_when_it_is_not_reliable(jsonl: Path, model_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not run(jsonl, model_dir, threshold="auto").decision.by_entropy
    assert "NOT reliable" not in caplog.text
    result = run(jsonl, model_dir, threshold="auto", policy="paper")
    assert "the threshold is NOT reliable" in caplog.text
    assert result.threshold is not None
    assert not result.threshold.reliable
    assert result.threshold.value == 0.7
    assert result.document["threshold"]["problems"]


def test_a_bad_threshold_leaves_the_run_as_it_was(jsonl: Path, model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(jsonl, model_dir, out)
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="--threshold 7"):
        gradsentry.redecide(out, "7")
    assert (out / "manifest.json").read_bytes() == before


def test_an_unknown_policy_is_refused_before_a_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradsentry.scorer.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(UsageError, match="--policy none: it can be evidence, paper"):
        gradsentry.scan([{"prompt": "a", "completion": "b"}], out=tmp_path / "run", policy="none")
