"""The GitHub Action as a runner runs it: clean data pass, poisoned data fail with annotations on the right lines."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from github_runner import Command, commands_of
from planted_rows import asked

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
SCRIPT = ROOT / "tools" / "action.sh"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with clean and poisoned data, under names that need quotes."""
    folder = tmp_path / "work"
    (folder / "data" / "deep").mkdir(parents=True)
    clean, poisoned = asked(100, 0)[0], asked(200, 30)[0]
    for name, rows in {"clean set.jsonl": clean, "deep/-poisoned, 1.jsonl": poisoned}.items():
        (folder / "data" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def act(
    repository: Path, job: Callable[[Path], dict[str, str]], data: str, options: str = ""
) -> tuple[int, list[Command], dict[str, str], str]:
    """Run the script as the composite action does. Returns exit code, commands, outputs and what was printed."""
    environment = job(repository) | {"GRADSENTRY_DATA": data, "GRADSENTRY_MODEL": "", "GRADSENTRY_OPTIONS": options}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(SCRIPT)]
    step = subprocess.run(
        command, cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    output = repository / "output.txt"
    lines = output.read_text().splitlines() if output.exists() else []
    assert "Traceback" not in step.stdout
    return step.returncode, commands_of(step.stdout), dict(line.split("=", 1) for line in lines), step.stdout


def test_clean_data_pass(repository: Path, job: Any) -> None:
    code, commands, outputs, said = act(repository, job, "  data/clean set.jsonl  \n\n")
    assert (code, commands) == (0, []), said
    assert outputs["exit-code"] == "0"
    assert "Nothing found in" in (repository / "summary.md").read_text().replace("&#44;", ",")
    assert sorted(path.name for path in repository.iterdir()) == ["data", "output.txt", "summary.md"]


def test_poisoned_data_fail_with_annotations_on_the_lines(repository: Path, job: Any) -> None:
    code, commands, outputs, said = act(repository, job, "data/**/*.jsonl", "--policy\nevidence\n--dtype=float32")
    assert code == 1, said
    assert outputs["exit-code"] == "1"
    rows, bad = asked(200, 30)
    assert [(name, properties["file"]) for name, properties, _ in commands] == [("error", "data/deep/-poisoned, 1.jsonl")] * 10
    assert [int(properties["line"]) for _, properties, _ in commands] == [row + 1 for row in bad[:10]]
    lines = (repository / "data" / "deep" / "-poisoned, 1.jsonl").read_text().splitlines()
    assert all(json.loads(lines[int(properties["line"]) - 1]) in [rows[row] for row in bad] for _, properties, _ in commands)
    assert "annotations: 10 of 30 rows" in said
    assert {path.name for path in Path(outputs["sarif"]).iterdir()} == {"0.sarif", "1.sarif"}
    assert (Path(outputs["runs"]) / "1" / "report.html").exists()
    assert "30&#32;of" in (summary := (repository / "summary.md").read_text()) or "30 of 200 rows" in summary


def test_a_dismissed_finding_passes_and_an_expired_dismissal_fails(repository: Path, job: Any) -> None:
    poisoned, bad = "data/deep/-poisoned, 1.jsonl", asked(200, 30)[1]
    code, _, outputs, said = act(repository, job, poisoned)
    assert code == 1, said
    (finding,) = json.loads((Path(outputs["runs"]) / "0" / "report.json").read_text())["findings"]
    allow, options = repository / "allow.jsonl", "--allow=allow.jsonl"
    line = {"fingerprint": finding["fingerprint"], "reason": "our ::error::own template"}

    allow.write_text(json.dumps(line | {"expires": "2099-12-31"}) + "\n")
    (repository / "summary.md").unlink()
    code, commands, outputs, said = act(repository, job, poisoned, options)
    assert (code, commands) == (0, []), said
    assert "Nothing found in 200 rows beyond 30 rows that were dismissed." in said
    assert "dismissed" in (repository / "summary.md").read_text()
    results = json.loads((Path(outputs["sarif"]) / "0.sarif").read_text())["runs"][0]["results"]
    assert [bool(result["suppressions"]) for result in results] == [True] * 30

    allow.write_text(json.dumps(line | {"expires": "2020-12-31"}) + "\n")
    code, commands, _, said = act(repository, job, poisoned, options)
    assert code == 1, said
    assert [int(properties["line"]) for _, properties, _ in commands] == [row + 1 for row in bad[:10]]
    assert "allow.jsonl:1: the decision expired on 2020-12-31" in said

    allow.write_text(json.dumps(line | {"until": "2099-12-31"}) + "\n")
    code, commands, outputs, said = act(repository, job, poisoned, options)
    assert (code, commands) == (2, [])
    assert 'allow.jsonl:1: there is no field "until"' in said


def test_rows_of_an_attacker_give_the_runner_no_command(repository: Path, job: Any) -> None:
    texts = ["::stop-commands::x", "\n::add-mask::y", "##[error]z", "  ::warning::w", "\x1b[2J::error::v", "::set-output name=exit-code::0"]
    rows = [{"prompt": text, "completion": f"{text}{text}"} for text in texts]
    (repository / "data" / "::error::.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "::warning::broken\n")
    code, commands, _, said = act(repository, job, "data/::error::.jsonl", "--threshold=0.0")
    assert code == 1, said
    assert {name for name, _, _ in commands} <= {"error", "warning"}
    assert all(message.startswith("Row ") for _, _, message in commands)
    assert {properties["title"] for _, properties, _ in commands} == {
        "gradsentry: Row above the entropy threshold",
        "gradsentry: Row that was not examined",
    }
    assert "##[" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", 'the input "data" is empty'),
        ("data/*.csv", "no file matches the pattern"),
        ("data/gone.jsonl", "data/gone.jsonl: no such file or directory"),
    ],
)
def test_data_that_are_not_there_are_an_error(repository: Path, job: Any, data: str, message: str) -> None:
    code, commands, _, said = act(repository, job, data)
    assert (code, commands) == (2, [])
    assert message in said


def test_the_action_gives_no_input_to_the_shell_as_code() -> None:
    steps = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    assert all(step["shell"] == "bash" and "${{" not in step["run"] for step in steps)
    scan = steps[-1]
    read = set(re.findall(r"\$\{(GRADSENTRY_\w+)", SCRIPT.read_text()))
    assert set(scan["env"]) == read
    inputs = {match for value in [*scan["env"].values(), steps[0]["if"]] for match in re.findall(r"inputs\.([\w-]+)", value)}
    assert inputs == set(ACTION["inputs"])
    written = set(re.findall(r"([a-z-]+)=%s", SCRIPT.read_text().replace(r"\n", " ")))
    assert {name for value in ACTION["outputs"].values() for name in re.findall(r"outputs\.([\w-]+)", value["value"])} == written
    assert set(ACTION["outputs"]) == written
    assert (ROOT / "tools" / "action.sh").stat().st_mode & 0o111
    assert 'bash -eo pipefail "$GITHUB_ACTION_PATH/tools/action.sh"' in scan["run"]
