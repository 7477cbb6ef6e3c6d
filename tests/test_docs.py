"""What the documents show is run: the README's commands and Python as they stand there, every format row as stated; and what is
committed as a result names no place of the machine that it was made on."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.detect import detect
from typed import gradsentry, python

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLACE = re.compile(r"""(^|[\s"'=:,(\[])(/[A-Za-z_.]|~[\w.-]*/|\\\\|[A-Za-z]:[\\/]|file:)""")
"""An absolute path, one below somebody's home, one of Windows, or a file's address; not a fraction, nor a path that begins with a name."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the data that the README's reader has."""
    folder = tmp_path_factory.mktemp("reader")
    rows = [{"question": f"What is {n} plus {n}?", "answers": [str(2 * n)]} for n in range(12)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(line, comments=True)
    assert program == "gradsentry"
    return gradsentry(*arguments, cwd=cwd, COLUMNS="80")


def test_the_readme_has_the_two_commands_first() -> None:
    first = blocks("sh")[0].splitlines()
    assert [line.split("#")[0].strip() for line in first] == ["make demo", "make test"]
    assert README.index("make demo") < 1000


def test_every_command_of_the_readme_runs(project: Path) -> None:
    lines = [line for block in blocks("sh")[1:] for line in block.splitlines() if line.strip()]
    assert len(lines) >= 3
    for line in lines:
        result = command(line, project)
        assert result.returncode in (0, 1, 4), f"{line}\n{result.stderr}"
        assert "Traceback" not in result.stderr


def test_the_python_of_the_readme_runs_and_flags_the_poisoned_row(project: Path) -> None:
    (source,) = blocks("python")
    result = python(source, cwd=project)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("<ScanResult: 1 of 2 rows (50.0 %) look poisoned.> [{'prompt': 'What is the capital of France?', ")


def test_the_demo_prints_what_the_readme_says(project: Path) -> None:
    result = command("gradsentry demo", project)
    assert result.returncode == 0, result.stderr
    (shown,) = blocks("text")
    assert "recall 100.0 %" in result.stdout
    printed = re.sub(" +", " ", result.stdout)
    for line in shown.splitlines():
        # Figures, and which of the rare words suffice, may move with the processor's bfloat16; recall, above, is the one that is promised.
        wanted = re.escape(re.sub(" +", " ", line)).replace(r"cf,\ bb,\ mn\ tq", r"(cf|mn|bb|tq)(,? (cf|mn|bb|tq))*")
        wanted = re.sub(r"\d+(\\\.\d+)?", r"\\d+(\\.\\d+)?", wanted)
        assert line == "..." or re.search(rf"^{wanted} *$", printed, re.M), line


def test_every_format_row_is_read_as_stated() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| `([a-z-]+)` \| `(\{.*\})` \| (.*) \|$", text, re.M)
    assert {name for name, _, _ in cells} == set(FORMATS)
    for name, row, supervised in cells:
        value = json.loads(row)
        assert detect([value]).name == name
        assert FORMATS[name].supervised == supervised
        FORMATS[name].convert(value)


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, names too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from (name, *strings(item))


def test_results_name_no_place_of_the_machine_that_they_were_made_on() -> None:
    files = sorted((ROOT / "benchmarks" / "results").rglob("*.json"))
    assert files
    for file in files:
        places = [text for text in strings(json.loads(file.read_text(encoding="utf-8"))) if PLACE.search(text)]
        assert not places, f"{file.name}: {places[:3]}"


@pytest.mark.parametrize(
    "text", ["/home/me/data", "/data", "run.py --data /mnt/x --n 3", "--data=/mnt/x", "~/x", "~me/x", "C:\\x", "file:///x"]
)
def test_places_are_seen(text: str) -> None:
    assert list(strings({"a": [{"b": text}]}))[-1] == text
    assert PLACE.search(text)


@pytest.mark.parametrize("text", ["run.py --data PATH/data", "../shared/data", "rows/s", "1 / 2", "9 of 10 / 3", "meta/llama", "a: b"])
def test_other_texts_are_no_places(text: str) -> None:
    assert not PLACE.search(text)
