"""No text in rows or in names of columns, files and models steers a terminal or a CI runner: a property of all outputs."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gradsentry.escape import is_unseen
from hostile import HOSTILE
from typed import gradsentry

STEERING = [
    *HOSTILE,
    "::warning file=a,line=1::x",
    "\n::stop-commands::token\n",
    "  ::error::y",
    "##[group]z",
    "##vso[task.complete]",
    "\x1b]8;;http://x\x07click\x1b]8;;\x07",
    "\x9b2J\x85next\x00",
    "spaces\u00a0\u2003\u3000\u3164\u2028\u2029",
    "selectors\ufe0f\U000e0100 tags\U000e0041\U000e007f",
    "half \ud83d",
    "a\ttab\rover",
]
TEXT = st.one_of(
    st.sampled_from(STEERING), st.text(max_size=12), st.tuples(st.sampled_from(STEERING), st.sampled_from(STEERING)).map("".join)
)


def as_name(text: str) -> str:
    """The text as the name of a file: what the file system takes."""
    return text.replace("/", "-").replace("\x00", "").encode("utf-8", "ignore")[:80].decode("utf-8", "ignore")


def assert_harmless(output: str, where: str) -> None:
    bad = sorted({f"{char!r} {unicodedata.name(char, '')}" for char in output if is_unseen(char)})
    assert not bad, f"{where}: {bad}"
    commands = [line for line in output.split("\n") if line.lstrip().startswith("::") or "##[" in line or "##vso[" in line]
    assert not commands, f"{where}: {commands}"


def assert_page_is_harmless(page: str) -> None:
    assert not [char for char in page if is_unseen(char) and char != "\t"], "report.html, where a tab moves nothing"


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=set(Phase) - {Phase.shrink})
@given(texts=st.lists(TEXT, min_size=4, max_size=12), name=TEXT, column=TEXT, model=TEXT)
def test_nothing_in_data_or_names_reaches_a_reader_unescaped(model_dir: Path, texts: list[str], name: str, column: str, model: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="leaks"))
    try:
        file, run, tiny = f"d{as_name(name)}.jsonl", f"r{as_name(name)}", f"m{as_name(model)}"
        (folder / tiny).symlink_to(model_dir, target_is_directory=True)
        rows = [{"prompt": text, "completion": text * (1 + n % 3), column: n} for n, text in enumerate(texts)]
        lines = [json.dumps(row) for row in rows] + ['{"prompt": broken', json.dumps({"prompt": texts[0], "completion": ""})]
        (folder / file).write_text("\n".join(lines) + "\n")
        (folder / "unknown.jsonl").write_text(json.dumps({column: 1, texts[0]: 2}) + "\n")
        scan = ["scan", f"./{file}", "--model", f"./{tiny}", "--out", run, "--threshold", "0.05"]
        codes = {}
        for case, arguments in {
            "scan": scan,
            "again, as JSON": [*scan, "--json"],
            "dry run": ["filter", run, "--dry-run", "--threshold", "0.05"],
            "explain": ["explain", run, "0"],
            "explain as JSON": ["explain", run, "0", "--json"],
            "no such place": ["explain", run, f"{file}:999"],
            "another run": [*scan, "--crop", "none"],
            "unknown columns": ["scan", "unknown.jsonl", "--model", f"./{tiny}"],
            "no such file": ["scan", f"./gone{file}", "--model", f"./{tiny}"],
            "wrong arguments": ["scan", f"./{file}", f"./{file}", f"--no{as_name(column)}"],
        }.items():
            result = gradsentry(*arguments, cwd=folder, COLUMNS="60")
            codes[case] = result.returncode
            assert_harmless(result.stdout, f"stdout of {case}")
            assert_harmless(result.stderr, f"stderr of {case}")
            assert "Traceback" not in result.stderr
            if case == "again, as JSON":
                assert json.loads(result.stdout) == json.loads((folder / run / "report.json").read_text())
        assert set(codes.values()) <= {0, 1, 2, 3, 4}
        assert [codes[case] for case in ("no such place", "unknown columns", "no such file", "wrong arguments")] == [2] * 4
        if codes["scan"] != 2:
            assert_harmless((folder / run / "report.json").read_bytes().decode("ascii"), "report.json")
            reported = gradsentry("filter", run, "--sarif", "s.sarif", "--annotate", "github", cwd=folder, GITHUB_STEP_SUMMARY="summary.md")
            commands = [line for line in reported.stderr.split("\n") if line.startswith("::")]
            assert all(
                re.match(r"::(error|warning) (file=[^,:]*,)?(line=\d+,)?title=gradsentry%3A [\w ]+::(.*: )?Row \d+", line)
                for line in commands
            )
            assert_harmless(re.sub("(?m)^::", "", reported.stderr), "annotations")
            assert_harmless((folder / "s.sarif").read_bytes().decode("ascii"), "SARIF")
            assert_harmless((folder / "summary.md").read_bytes().decode(), "summary")
            assert_page_is_harmless((folder / run / "report.html").read_bytes().decode("utf-8"))
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_text_that_steers_is_escaped_wherever_it_is_shown(workers: str, model_dir: Path, tmp_path: Path) -> None:
    name = "d" + as_name("\x1b[2J\u202e::x\n::warning::y") + ".jsonl"
    rows = [{"prompt": text, "completion": f" {text}"} for text in STEERING]
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["scan", name, "--model", model_dir, "--out", "run", "--threshold", "0.0", "--workers", workers]
    result = gradsentry(*command, cwd=tmp_path, COLUMNS="70")
    assert result.returncode == 1, result.stderr
    assert_harmless(result.stdout + result.stderr, "scan")
    assert r"d\u001b[2J\u202e::x" in result.stdout.replace("\n", "")
    document = json.loads((tmp_path / "run" / "report.json").read_text())
    assert document["run"]["data"] == r"d\u001b[2J\u202e::x\n::warning::y.jsonl"
    place = document["flagged"][0]["place"]
    assert place.startswith(document["run"]["data"])
    explained = gradsentry("explain", "run", place, "--json", cwd=tmp_path)
    assert json.loads(explained.stdout)["row"] == document["flagged"][0]["row"]
    assert os.listdir(tmp_path / "run")
