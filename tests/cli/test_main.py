"""The command line as a user types it: a real process, its exit code, its stdout and its stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from typed import clean, gradsentry, python, rows_as_lines


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text(rows_as_lines())
    return path


def test_help_and_version_take_no_torch(tmp_path: Path) -> None:
    probe = "import sys; from typer.testing import CliRunner; from gradsentry.cli.main import app; r = CliRunner().invoke(app, {!r}); "
    probe += "print(r.exit_code, 'torch' in sys.modules, 'datasets' in sys.modules)"
    for arguments in (["--help"], ["scan", "--help"], ["--version"]):
        out = subprocess.run([sys.executable, "-c", probe.format(arguments)], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert out.stdout.split() == ["0", "False", "False"]


def test_every_option_of_the_config_is_in_the_help(tmp_path: Path) -> None:
    from dataclasses import fields

    from gradsentry.config import ScanConfig

    help_text = gradsentry("scan", "--help", cwd=tmp_path).stdout
    for item in fields(ScanConfig):
        assert "--" + item.name.replace("_", "-") in help_text


def test_scan_prints_a_result_and_exits_1_when_rows_are_flagged(data: Path, model_dir: Path, tmp_path: Path) -> None:
    result = gradsentry("scan", data, "--model", model_dir, "--out", "run", "--threshold", "0.1775", cwd=tmp_path)
    clean(result)
    assert result.returncode == 1
    assert "2 of 40 rows (5.0 %) look poisoned." in result.stdout
    assert "threshold" in result.stdout
    assert "format: prompt-completion; supervised: completion" in result.stderr
    assert "format:" not in result.stdout


def test_json_is_all_that_stdout_has(data: Path, model_dir: Path, tmp_path: Path) -> None:
    result = gradsentry("scan", data, "--model", model_dir, "--out", "run", "--threshold", "0.1775", "--json", cwd=tmp_path)
    document = json.loads(result.stdout)
    assert document["counts"]["flagged"] == len(document["flagged"]) == 2
    assert document == json.loads((tmp_path / "run" / "report.json").read_text())


def test_nothing_flagged_is_exit_0_and_the_default_directory_is_named_after_the_data(data: Path, model_dir: Path, tmp_path: Path) -> None:
    result = gradsentry("scan", data, "--model", model_dir, "--threshold", "1.0", cwd=tmp_path)
    clean(result)
    assert result.returncode == 0
    assert "Nothing found in 40 rows." in result.stdout
    run = tmp_path / "gradsentry-runs" / "data"
    assert (run / "kept.jsonl").read_bytes() == data.read_bytes()
    assert (run / "flagged.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (".", "work"),
        ("./", "work"),
        ("sub/..", "work"),
        ("..", "above"),
        ("sub", "sub"),
        ("sub/", "sub"),
        ("sub/.", "sub"),
        ("./d.jsonl", "d"),
        ("org/name", "name"),
    ],
)
def test_the_default_directory_has_the_name_of_the_data_whatever_it_is_called(data: str, name: str, tmp_path: Path) -> None:
    here = tmp_path / "above" / "work"
    (here / "sub").mkdir(parents=True)
    code = "import gradsentry.api as s\ndef scan(data, out, **_): print(out)\ns.scan = scan\nfrom gradsentry.cli.main import app\napp()"
    assert python(code, "scan", data, cwd=here).stdout == f"gradsentry-runs/{name}\n"


def test_the_working_directory_is_scanned(data: Path, model_dir: Path, tmp_path: Path) -> None:
    here, run = tmp_path / "here", tmp_path / "run"
    here.mkdir()
    data.rename(here / "data.jsonl")
    assert gradsentry("scan", ".", "--model", model_dir, "--out", run, "--threshold", "1.0", cwd=here).returncode == 0
    assert json.loads((run / "report.json").read_text())["run"]["data"] == "."
    assert pq.read_table(run / "verdicts.parquet").num_rows == 40


def test_an_unreliable_threshold_is_said_loudly_on_stderr(data: Path, model_dir: Path, tmp_path: Path) -> None:
    result = gradsentry("scan", data, "--model", model_dir, "--out", "run", "--policy", "paper", cwd=tmp_path)
    assert "NOT reliable" in clean(result)


def test_a_dry_run_looks_and_filter_acts_without_a_model(data: Path, model_dir: Path, tmp_path: Path) -> None:
    gradsentry("scan", data, "--model", model_dir, "--out", "run", "--threshold", "1.0", cwd=tmp_path)
    looked = gradsentry("filter", "run", "--dry-run", "--threshold", "0.0939", "--json", cwd=tmp_path)
    assert looked.returncode == 0, "a look is no failure"
    assert json.loads(looked.stdout)["counts"]["flagged"] == 20
    assert (tmp_path / "run" / "flagged.jsonl").read_bytes() == b""
    acted = gradsentry("filter", "run", "--threshold", "0.0939", cwd=tmp_path)
    assert acted.returncode == 1
    assert len((tmp_path / "run" / "flagged.jsonl").read_bytes().splitlines()) == 20
    old = gradsentry("threshold", "run", "--threshold", "0.0939", "--json", cwd=tmp_path)
    assert (old.returncode, old.stdout) == (0, looked.stdout)
    assert old.stderr == "gradsentry threshold is deprecated: use gradsentry filter --dry-run\n"


def test_a_dry_run_says_by_which_rule_rows_are_flagged_and_how_many_lie_above(scanned: Path) -> None:
    def told(*options: str) -> str:
        return gradsentry("filter", "run", "--dry-run", *options, cwd=scanned).stdout

    middle = sorted(pq.read_table(scanned / "run" / "verdicts.parquet")["entropy"].to_pylist())[19]
    assert told().startswith("policy evidence flags 0 of 40 rows; 0 lie above the published threshold 0.7000 (fallback, not reliable: ")
    above = f"rows; 20 lie above the threshold {middle:.4f} (given, "
    assert told("--threshold", repr(middle)).startswith(f"policy evidence with --threshold {middle!r} flags 20 of 40 {above}")
    document = json.loads(told("--strict", "--threshold", repr(middle), "--json"))
    assert document["policy"] == "evidence"
    assert document["strict"] is True
    assert document["above_threshold"] == document["counts"]["flagged"] == 20
    assert document["threshold"]["value"] == middle


def test_a_row_is_explained(data: Path, model_dir: Path, tmp_path: Path) -> None:
    gradsentry("scan", data, "--model", model_dir, "--out", "run", cwd=tmp_path)
    shown = gradsentry("explain", "run", "7", cwd=tmp_path)
    clean(shown)
    assert shown.returncode == 0
    assert "row 7: kept, scored" in shown.stdout
    assert "most surprising" in shown.stdout
    document = json.loads(gradsentry("explain", "run", "7", "--json", cwd=tmp_path).stdout)
    assert document["row"] == 7
    assert {"text", "surprise", "supervised"} == set(document["tokens"][0])
    place = f"{data.name}:8"
    assert json.loads(gradsentry("explain", "run", place, "--json", cwd=tmp_path).stdout) == document
    wrong = gradsentry("explain", "run", "elsewhere.jsonl:8", cwd=tmp_path)
    assert wrong.returncode == 2
    assert f"elsewhere.jsonl:8: no row is there; give the number of a row, or a place such as {data.name}:1" in clean(wrong)
    for row in (40, -1):
        wrong = gradsentry("explain", "run", row, cwd=tmp_path)
        assert wrong.returncode == 2
        assert f"row {row}: the run has rows 0 to 39" in clean(wrong)
    assert gradsentry("explain", "run", "7", "--jsn", cwd=tmp_path).returncode == 2


def test_text_from_the_data_cannot_steer_the_terminal(model_dir: Path, tmp_path: Path) -> None:
    nasty = "\x1b[31mred\x1b]0;title\x07 \u202eevil [bold]markup[/bold] <script>alert(1)</script>"
    rows = [{"prompt": nasty, "completion": nasty * (1 + n)} for n in range(10)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = gradsentry("scan", "d.jsonl", "--model", model_dir, "--out", "run", "--threshold", "0.0", cwd=tmp_path)
    assert result.returncode == 1
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "[bold]markup[/bold]" in result.stdout
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "\u202e" not in page


def bad_input(tmp_path: Path, model_dir: Path) -> dict[str, tuple[list[object], int, list[str]]]:
    """Case -> arguments after `scan`, exit code, what stderr must say."""
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "unknown.jsonl").write_text('{"a": 1, "b": 2}\n')
    (tmp_path / "unscorable.jsonl").write_text('{"prompt": "a", "completion": ""}\n' * 3)
    (tmp_path / "table.jsonl").write_text("prompt,completion\na,b\n")
    (tmp_path / "array.jsonl").write_text('[{"prompt": "a", "completion": "b"}]')
    (tmp_path / "broken.json").write_text('[{"prompt": "a", "completion": "b"}')
    (tmp_path / "ok.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "fake.parquet").write_text("no parquet")
    (tmp_path / "nomodel").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text((model_dir / "config.json").read_text())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    model = ["--model", model_dir]
    return {
        "no such file": (["nothing.jsonl", *model], 2, ["nothing.jsonl"]),
        "no data": (["", *model, "--out", tmp_path.parent / "run"], 2, ["no data given"]),
        "empty file": (["empty.jsonl", *model], 3, ["empty.jsonl", "no rows"]),
        "unknown columns": (["unknown.jsonl", *model], 2, ["'a', 'b'", "--map"]),
        "nothing scorable": (["unscorable.jsonl", *model], 3, ["no row could be scored", "unscorable.jsonl:1", "empty"]),
        "CSV under another name": (["table.jsonl", *model], 3, ["no row could be scored", "if the file is CSV, rename it to .csv"]),
        "broken array": (["broken.json", *model], 2, ["broken.json"]),
        "no parquet": (["fake.parquet", *model], 2, ["fake.parquet"]),
        "no such column": (["ok.jsonl", *model, "--map", "completion=reply"], 2, ["'reply'", "prompt, completion"]),
        "bad map": (["ok.jsonl", *model, "--map", "reply"], 2, ["--map"]),
        "bad format": (["ok.jsonl", *model, "--format", "yaml"], 2, ["yaml", "prompt-completion"]),
        "bad threshold": (["ok.jsonl", *model, "--threshold", "7"], 2, ["--threshold 7", "from 0 to 1"]),
        "bad crop": (["ok.jsonl", *model, "--crop", "half"], 2, ["half", "reference"]),
        "no such model": (["ok.jsonl", "--model", tmp_path / "gone"], 2, ["gone", "no such model directory"]),
        "no such hub model": (["ok.jsonl", "--model", "nobody/nothing"], 2, ["nobody/nothing"]),
        "no model in there": (["ok.jsonl", "--model", "nomodel"], 2, ["config.json"]),
        "pickled weights": (["ok.jsonl", "--model", "pickled"], 2, ["pickle", "--allow-pickle"]),
        "foreign directory": (["ok.jsonl", *model, "--out", "foreign", "--overwrite"], 2, ["foreign", "holds no run"]),
        "out is a file": (["ok.jsonl", *model, "--out", "array.jsonl"], 2, ["is a file"]),
        "out below a file": (
            ["ok.jsonl", "--model", "nomodel", "--out", "array.jsonl/run"],
            2,
            ["--out array.jsonl/run", "array.jsonl is a file"],
        ),
        "no such device": (["ok.jsonl", *model, "--device", "warp"], 2, ["--device warp"]),
    }


CASES = [
    "no such file", "no data", "empty file", "unknown columns", "nothing scorable", "broken array", "CSV under another name",
    "no parquet", "no such column", "bad map", "bad format", "bad threshold", "bad crop", "no such model", "no such hub model",
    "no model in there", "pickled weights", "foreign directory", "out is a file", "out below a file", "no such device",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_a_message_and_its_exit_code(case: str, model_dir: Path, tmp_path: Path) -> None:
    cases = bad_input(tmp_path, model_dir)
    assert set(cases) == set(CASES)
    arguments, code, words = cases[case]
    result = gradsentry("scan", *arguments, cwd=tmp_path)
    said = clean(result)
    assert result.returncode == code, said
    for word in words:
        assert word in said
    assert (tmp_path / "foreign" / "thesis.txt").read_text() == "mine"


def test_another_run_is_refused_with_the_flag_that_overrides(data: Path, model_dir: Path, tmp_path: Path) -> None:
    gradsentry("scan", data, "--model", model_dir, "--out", "run", cwd=tmp_path)
    refused = gradsentry("scan", data, "--model", model_dir, "--out", "run", "--crop", "none", cwd=tmp_path)
    assert refused.returncode == 2
    assert "already holds another run" in clean(refused)
    assert "--overwrite" in refused.stderr
    assert gradsentry("scan", data, "--model", model_dir, "--out", "run", "--crop", "none", "--overwrite", cwd=tmp_path).returncode in (
        0,
        1,
    )


def test_bad_rows_are_set_apart_listed_and_counted(model_dir: Path, tmp_path: Path) -> None:
    lines = [
        b'{"prompt": "a", "completion": "fine"}',
        b'{"prompt": "a", "completion": ',
        b'{"prompt": "\xff", "completion": "not UTF-8"}',
        b'{"messages": [{"role": "user", "content": "another format"}]}',
        b'{"prompt": "a", "completion": ""}',
        b'{"prompt": "' + b"long " * 600 + b'", "completion": "cut"}',
        b"[1, 2]",
        b'{"prompt": "a", "completion": "fine too"}',
    ]
    (tmp_path / "d.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    result = gradsentry("scan", "d.jsonl", "--model", model_dir, "--out", "run", "--threshold", "1.0", cwd=tmp_path)
    clean(result)
    assert result.returncode == 4
    verdicts = pq.read_table(tmp_path / "run" / "verdicts.parquet").to_pylist()
    assert [v["status"] for v in verdicts] == ["scored", "error", "error", "error", "unscorable", "scored", "error", "scored"]
    for line, verdict in enumerate(verdicts, start=1):
        if verdict["status"] != "scored":
            assert f"d.jsonl:{line}" in verdict["reason"]
    assert "cut from the prompt's left" in verdicts[5]["reason"]
    assert "1 row was longer than" in result.stderr
    assert "scored 3, unscorable 1, error 4" in result.stdout
    assert "No answer for 3 rows: no rule can judge such rows, see the notes.\n5 rows were NOT examined" in result.stdout
    assert "d.jsonl:2: not valid JSON" in result.stdout
    assert "it looks like messages" in verdicts[3]["reason"]
    assert (tmp_path / "run" / "kept.jsonl").read_bytes() == b"".join(lines[i] + b"\n" for i in (0, 5, 7))
    assert (tmp_path / "run" / "unexamined.jsonl").read_bytes() == b"".join(lines[i] + b"\n" for i in (1, 2, 3, 4, 6))


def test_parquet_in_is_parquet_out(model_dir: Path, tmp_path: Path) -> None:
    table = pa.table({"prompt": [f"q{n}" for n in range(20)], "completion": ["abcdefgh"[: 1 + n % 8] for n in range(20)], "n": range(20)})
    pq.write_table(table, tmp_path / "d.parquet")
    result = gradsentry("scan", "d.parquet", "--model", model_dir, "--out", "run", "--threshold", "0.0753", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    kept, flagged = (pq.read_table(tmp_path / "run" / f"{name}.parquet") for name in ("kept", "flagged"))
    assert kept.schema == flagged.schema == table.schema
    assert sorted(kept["n"].to_pylist() + flagged["n"].to_pylist()) == list(range(20))


def test_a_value_that_cannot_be_read_hides_no_row_whose_format_does_not_read_it(model_dir: Path, tmp_path: Path) -> None:
    offsets = [0, 3, 6, 7, 10]
    completion = pa.StringArray.from_buffers(4, pa.array(offsets, pa.int32()).buffers()[1], pa.py_buffer(b"onetwo\xffend"))
    made = pa.array([0, 2**60, 0, 2**60], pa.timestamp("ms"))
    table = pa.table({"prompt": ["a", "b", "c", "d"], "completion": completion, "made": made})
    pq.write_table(
        pa.concat_tables([table, pa.table({"prompt": ["e"], "completion": [""], "made": made.slice(1, 1)})]), tmp_path / "d.parquet"
    )
    result = gradsentry("scan", "d.parquet", "--model", model_dir, "--out", "run", "--threshold", "1.0", cwd=tmp_path)
    clean(result)
    assert result.returncode == 4
    verdicts = pq.read_table(tmp_path / "run" / "verdicts.parquet").to_pylist()
    assert [verdict["status"] for verdict in verdicts] == ["scored", "scored", "error", "scored", "unscorable"]
    assert verdicts[2]["reason"].startswith("d.parquet row 2: column 'completion': a value cannot be read: 'utf-8' codec")
    assert verdicts[2]["reason"].endswith("; mend or remove the row")
    unscored = json.loads((tmp_path / "run" / "report.json").read_text())["unscored"]
    assert "completion: (cannot be read: 'utf-8' codec" in unscored[0]["completion"]
    assert "made: (cannot be read: " in unscored[1]["completion"]
    parts = [pq.read_table(tmp_path / "run" / f"{name}.parquet") for name in ("kept", "unexamined")]
    assert [part["prompt"].to_pylist() for part in parts] == [["a", "b", "d"], ["c", "e"]]


def test_text_in_a_message_is_no_emoji(tmp_path: Path) -> None:
    assert "error: --threshold :x:: give auto" in gradsentry("scan", "d.jsonl", "--threshold", ":x:", cwd=tmp_path).stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_disk_that_is_full_is_one_message_and_the_same_command_goes_on(data: Path, model_dir: Path, tmp_path: Path, workers: str) -> None:
    # Each of two workers has one shard, and waits for another when it cannot be written.
    limit = "import os, resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); import gradsentry.run.devices as d; "
    limit += "d.cores = lambda: sorted(os.sched_getaffinity(0))[:1] * 2; from gradsentry.cli.main import app; app()"
    arguments = ["scan", str(data), "--model", str(model_dir), "--out", "run", "--shard-rows", "20", "--threshold", "1.0"]
    full = python(limit, *arguments, "--workers", workers, cwd=tmp_path)
    assert full.returncode == 2
    assert "MiB free); make room and run the same command again" in clean(full)
    assert not list((tmp_path / "run").rglob(".part-*"))
    assert gradsentry(*arguments, cwd=tmp_path).returncode == 0
