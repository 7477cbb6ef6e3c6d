"""The demo replaces what it has made itself, and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from gradsentry import scan
from gradsentry.demo import run_demo
from gradsentry.errors import GradsentryError
from gradsentry.types import Progress
from runs import begun
from trees import tree


def written(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"prompt": "mine", "completion": " precious"}\n')


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "data": (lambda out: written(Path(f"{out}-data") / "facts.jsonl"), r"train-data/facts.jsonl is there and is not the demo's; give"),
    "run": (begun, r"--out .*train holds a run that is not the demo's; give another directory, or delete it"),
    "directory": (lambda out: written(out / "train.jsonl"), r"train is not empty and holds no run; give another"),
    "file": (written, r"train is a file; give a directory"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_not_the_demos_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr("gradsentry.demo.scan", lambda *_, **__: pytest.fail("scanned"))
    make, words = FOREIGN[what]
    make(tmp_path / "train")
    before = tree(tmp_path)
    with pytest.raises(GradsentryError, match=words):
        run_demo(tmp_path / "train", Progress())
    assert tree(tmp_path) == before


@pytest.mark.parametrize("out", ["train", "."])
def test_the_demo_goes_over_its_own_run_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_dir: Path, out: str) -> None:
    monkeypatch.setattr("gradsentry.demo.scan", functools.partial(scan, model=model_dir))
    here = tmp_path / "here"
    here.mkdir()
    written(tmp_path / "train.jsonl")
    monkeypatch.chdir(here if out == "." else tmp_path)
    (first, found), (second, again) = (run_demo(Path(out), Progress()) for _ in range(2))
    assert found == again
    assert first.decision.verdicts.equals(second.decision.verdicts)
    assert (Path(out) / "kept.jsonl").is_file()
    assert "precious" in (tmp_path / "train.jsonl").read_text()
