"""How the command line ends: interrupted, by a fault of ours, with nobody who reads on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from typed import COMMAND, clean, gradsentry, python


def raising(what: str, *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """the command line where what `filter --dry-run` and `scan` call raises this."""
    code = f"import gradsentry.api as s\ndef fail(*a, **k): raise {what}\ns.preview_decision = s.scan = fail\n"
    return python(code + COMMAND[-1], *arguments, cwd=cwd, NO_COLOR="1", COLUMNS="200", **environment)


def test_ctrl_c_says_that_the_same_command_goes_on_where_it_does(tmp_path: Path) -> None:
    def message(*options: str) -> str:
        result = raising("KeyboardInterrupt", "scan", "d.jsonl", *options, cwd=tmp_path)
        assert result.returncode == 130
        return result.stderr

    assert message() == "stopped\n"
    scores = tmp_path / "gradsentry-runs" / "d" / "scores"
    scores.mkdir(parents=True)
    (scores / "tokens.parquet").write_text("")
    assert message() == "stopped\n"
    (scores / "part-00000.parquet").write_text("")
    assert message() == "stopped; scored rows are kept; the same command resumes there\n"
    assert message("--overwrite") == "stopped\n"
    assert message("--out", "run") == "stopped\n"
    assert raising("KeyboardInterrupt", "filter", "run", "--dry-run", cwd=tmp_path).stderr == "stopped\n"


def test_a_fault_of_ours_is_one_message_and_never_says_that_rows_are_flagged(tmp_path: Path) -> None:
    fault = "KeyError('a\\x1b[31m')"
    result = raising(fault, "filter", "run", "--dry-run", cwd=tmp_path)
    assert result.returncode == 2
    said = clean(result)
    assert said.startswith("error: unexpected KeyError: ")
    assert len(said.splitlines()) == 1
    assert "GRADSENTRY_TRACEBACK=1" in said
    shown = raising(fault, "filter", "run", "--dry-run", cwd=tmp_path, GRADSENTRY_TRACEBACK="1")
    assert shown.returncode == 2
    assert "Traceback" in shown.stderr
    assert "\x1b" not in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["filter", "run"], 0),
        (["filter", "run", "--threshold", "0.0939", "--json"], 1),
        (["filter", "run", "--dry-run"], 0),
        (["filter", "run", "--dry-run", "--json"], 0),
        (["explain", "run", "7"], 0),
        (["explain", "run", "7", "--json"], 0),
    ],
)
def test_who_reads_no_further_changes_no_exit_code(scanned: Path, arguments: list[str], code: int) -> None:
    unread, end = os.pipe()
    os.close(unread)
    result = subprocess.run([*COMMAND, *arguments], cwd=scanned, stdout=end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(end)
    assert result.returncode == code, result.stderr
    assert result.stderr == ""


def test_who_hears_no_message_changes_no_exit_code(scanned: Path) -> None:
    unread, end = os.pipe()
    os.close(unread)
    result = subprocess.run([*COMMAND, "threshold", "run", "--threshold", "7"], cwd=scanned, stderr=end, check=False)
    os.close(end)
    assert result.returncode == 2


def test_ctrl_c_while_modules_are_imported_is_no_traceback(tmp_path: Path) -> None:
    code = "import sys, signal, os\nclass Stop:\n    def find_spec(self, name, *rest):\n"
    code += "        if name == 'numpy': os.kill(os.getpid(), signal.SIGINT)\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\nsys.meta_path.insert(0, Stop())\n"
    code += "from gradsentry.__main__ import main\nmain()"
    result = subprocess.run([sys.executable, "-c", code, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "stopped\n")


def test_python_m_is_the_command(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-m", "gradsentry", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout.startswith("gradsentry ")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_what_the_output_cannot_hold_is_escaped_and_changes_no_exit_code(scanned: Path, tmp_path: Path, encoding: str) -> None:
    run = tmp_path / "lauf\u65e5"
    shutil.copytree(scanned / "run", run)
    result = gradsentry("filter", run, cwd=scanned, PYTHONIOENCODING=encoding)
    assert (result.returncode, result.stderr) == (0, "")
    assert ("lauf\u65e5" if encoding == "utf-8" else r"lauf\u65e5") in result.stdout
    wrong = gradsentry("explain", run, 40, cwd=scanned, PYTHONIOENCODING=encoding)
    assert wrong.returncode == 2
    assert "row 40: the run has rows 0 to 39" in clean(wrong)
    helped = gradsentry("scan", "--help", cwd=scanned, PYTHONIOENCODING=encoding)
    assert (helped.returncode, helped.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_json_is_json_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    document = {"\u00e9": "\u65e5 \U0001f600 \ud83d"}
    code = f"import gradsentry.cli.main as c\nc.main()\nc.print_json({document!a})"
    env = os.environ | {"PYTHONIOENCODING": encoding}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, check=True)
    assert json.loads(result.stdout.decode(encoding)) == document
    assert result.stdout.isascii()
