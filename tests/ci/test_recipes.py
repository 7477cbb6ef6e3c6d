"""The hook, and the recipes of docs/ci.md, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from planted_rows import asked

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.M | re.S)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with clean data, and poisoned data beside it."""
    folder = tmp_path / "work"
    (folder / "data").mkdir(parents=True)
    for name, rows in {"data/train.jsonl": asked(100, 0)[0], "poisoned.jsonl": asked(200, 30)[0]}.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(command: list[str], repository: Path, job: Any) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command, cwd=repository, env=job(repository), capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    return result


def test_the_hook_scans_several_files_and_leaves_nothing_behind(repository: Path, job: Any) -> None:
    before = sorted(repository.rglob("*"))
    hook = run([*shlex.split(HOOK["entry"]), "data/train.jsonl", "poisoned.jsonl"], repository, job)
    assert hook.returncode == 1, hook.stderr
    assert re.search(r"data/train\.jsonl:\nNothing found in", hook.stdout)
    assert re.search(r"poisoned\.jsonl:\n30 of 200 rows", hook.stdout)
    assert sorted(repository.rglob("*")) == before


def test_the_hook_ends_with_the_worst_code_whatever_the_order(repository: Path, job: Any) -> None:
    (repository / "empty.jsonl").write_text("")
    ends = run(["gradsentry", "check", "gone.jsonl", "empty.jsonl", "data/train.jsonl"], repository, job)
    assert ends.returncode == 2
    assert "gone.jsonl: no such file" in ends.stderr
    assert "empty.jsonl" in ends.stderr
    assert "Nothing found in" in ends.stdout


def test_the_hook_takes_the_files_of_fine_tuning_data() -> None:
    assert HOOK["language"] == "system"
    assert HOOK["require_serial"] is True
    taken = [name for name in ("a/b.jsonl", "b.ndjson", "c.parquet", "package.json", "d.py") if re.search(HOOK["files"], name)]
    assert taken == ["a/b.jsonl", "b.ndjson", "c.parquet"]


def test_the_makefile_stops_before_training_if_rows_are_flagged(repository: Path, job: Any) -> None:
    (makefile,) = blocks("make")
    (repository / "Makefile").write_text(makefile)
    passed = run(["make", "train"], repository, job)
    assert passed.returncode == 0, passed.stderr
    assert "train on data/train.jsonl" in passed.stdout
    (repository / "poisoned.jsonl").rename(repository / "data" / "poisoned.jsonl")
    stopped = run(["make", "train"], repository, job)
    assert stopped.returncode == 2
    assert "train on" not in stopped.stdout


def test_the_gitlab_job_scans_and_keeps_what_it_names(repository: Path, job: Any) -> None:
    recipe = next(loaded for block in blocks("yaml") if "gradsentry" in (loaded := yaml.safe_load(block)))["gradsentry"]
    scans = [line for line in recipe["script"] if not line.startswith("pip ")]
    result = run(["bash", "-eo", "pipefail", "-c", "\n".join(scans)], repository, job)
    assert result.returncode == 0, result.stderr
    assert all((repository / path).exists() for path in recipe["artifacts"]["paths"])


def test_the_workflow_gives_the_action_inputs_that_it_has() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    workflow = yaml.safe_load(blocks("yaml")[0])
    (step,) = (step for step in workflow["jobs"]["gradsentry"]["steps"] if step.get("id") == "gradsentry")
    assert set(step["with"]) <= set(action["inputs"])
    used = set(re.findall(r"steps\.gradsentry\.outputs\.([\w-]+)", blocks("yaml")[0]))
    assert used <= set(action["outputs"])


def test_the_command_of_the_guide_runs(repository: Path, job: Any) -> None:
    (line,) = (line for block in blocks("sh") for line in block.splitlines())
    result = run(shlex.split(line), repository, job)
    assert result.returncode == 0, result.stderr
    assert (repository / "gradsentry.sarif").exists()
