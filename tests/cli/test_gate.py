"""What a pipeline sees of a verdict: exit codes, and which rows are in which file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gradsentry
from gradsentry.types import FailOn
from planted_rows import asked
from typed import clean
from typed import gradsentry as typed

CLEAN, _ = asked(200, 0)
POISONED, _ = asked(200, 30)
BROKEN = {"prompt": "no answer", "completion": ""}
SETS: dict[str, tuple[list[dict[str, str]], int]] = {
    "clean": (CLEAN, 0),
    "unexamined": ([*CLEAN, BROKEN], 4),
    "few": (CLEAN[:5], 4),
    "poisoned": (POISONED, 1),
    "poisoned and unexamined": ([BROKEN, *POISONED], 1),
    "nothing scorable": ([BROKEN] * 3, 3),
}
LEVELS = {0: "nothing found", 1: "poisoned", 3: "look", 4: "look"}


def lines_of(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", SETS)
def test_the_exit_code_says_what_was_found(name: str, model_dir: Path, tmp_path: Path) -> None:
    rows, code = SETS[name]
    (tmp_path / "data.jsonl").write_text(lines_of(rows))
    result = typed("scan", "data.jsonl", "--model", model_dir, "--out", "run", cwd=tmp_path)
    clean(result)
    assert result.returncode == code
    document = json.loads((tmp_path / "run" / "report.json").read_text())
    assert document["verdict"] == LEVELS[code]
    assert ("Nothing found" in result.stdout) == (code == 0)
    page = (tmp_path / "run" / "report.html").read_text()
    assert ('<h1 class="ok">' in page) == (code == 0)
    assert ('<h1 class="bad">' in page) == (code == 1)
    again = typed("filter", "run", cwd=tmp_path)
    assert again.returncode == code
    looked = typed("filter", "run", "--dry-run", cwd=tmp_path)
    assert looked.returncode == (3 if code == 3 else 0)
    assert typed("filter", "run", "--exit-zero", cwd=tmp_path).returncode == (3 if code == 3 else 0)


def test_a_pipeline_chooses_what_it_fails_for(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(lines_of([BROKEN, *POISONED]))
    chosen: list[tuple[list[str], int]] = [
        (["flagged"], 1),
        (["unexamined"], 4),
        (["suspect"], 0),
        (["suspect", "unexamined"], 4),
        (["suspect", "unexamined", "flagged"], 1),
    ]
    assert typed("scan", "data.jsonl", "--model", model_dir, "--out", "run", "--fail-on", "suspect", cwd=tmp_path).returncode == 0
    for words, code in chosen:
        options = [part for word in words for part in ("--fail-on", word)]
        assert typed("filter", "run", *options, cwd=tmp_path).returncode == code, words
    wrong = typed("filter", "run", "--fail-on", "anything", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "suspect" in wrong.stderr
    both = typed("filter", "run", "--fail-on", "flagged", "--exit-zero", cwd=tmp_path)
    assert both.returncode == 2
    assert "leave out one of them" in clean(both)


def test_suspects_alone_are_exit_code_4_and_their_rows_are_kept(model_dir: Path, tmp_path: Path) -> None:
    """Nothing but the effect is taken from these rows: the trigger stands in them, the answers are as elsewhere."""
    rows, bad = asked(200, 30)
    plain = [row | {"completion": row["completion"].partition(",")[0]} for row in rows]
    result = gradsentry.scan(plain, model=model_dir, out=tmp_path / "run")
    assert (result.level, result.flagged) == ("look", [])
    assert set(result.suspects) == set(bad)
    assert result.counts["suspected"] == len(bad)
    assert len(result.kept) == 200
    assert result.exit_code == result.exit_code_for([FailOn.suspect]) == 4
    assert result.exit_code_for([FailOn.flagged, FailOn.unexamined]) == 0


def test_a_second_decision_leaves_no_file_of_the_first(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(data := lines_of([BROKEN, *CLEAN]))
    run = tmp_path / "run"
    assert typed("scan", "data.jsonl", "--model", model_dir, "--out", "run", cwd=tmp_path).returncode == 4
    assert (run / "unexamined.jsonl").read_text() == lines_of([BROKEN])
    assert (run / "kept.jsonl").read_text() == lines_of(CLEAN)
    kept = typed("filter", "run", "--keep-unexamined", cwd=tmp_path)
    assert kept.returncode == 4, "the row is in kept, and still nobody has looked at it"
    assert "It is in kept, as you chose." in kept.stdout
    assert not (run / "unexamined.jsonl").exists()
    assert (run / "kept.jsonl").read_text() == data
    typed("filter", "run", "--strict", cwd=tmp_path)
    assert not (run / "unexamined.jsonl").exists(), "the choice is the run's"
    typed("filter", "run", "--no-keep-unexamined", cwd=tmp_path)
    assert (run / "unexamined.jsonl").read_text() == lines_of([BROKEN])
    typed("scan", "data.jsonl", "--model", model_dir, "--out", "run", "--keep-unexamined", "--overwrite", cwd=tmp_path)
    assert not (run / "unexamined.jsonl").exists()


def test_the_table_of_exit_codes_is_in_the_help_of_both_commands(tmp_path: Path) -> None:
    for name in ("scan", "filter"):
        text = typed(name, "--help", cwd=tmp_path).stdout
        for line in ("0 nothing found, and every row examined", "1 rows flagged", "2 usage", "3 nothing scorable", "4 no row flagged, but"):
            assert f" {line}" in text


@pytest.mark.parametrize(("above", "level"), [(12, "look"), (0, "look")])
def test_text_without_prompts_is_judged_by_a_reliable_threshold_or_not_at_all(
    above: int, level: str, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clear groups of lengths have two clear groups of entropies; one group has no threshold."""
    texts = [{"text": "ab" if n >= above else "what is it that you say of all of this and that, my friend? " * 3} for n in range(60)]
    result = gradsentry.scan(texts, model=model_dir, out=tmp_path / "run")
    assert (result.level, result.flagged, result.exit_code) == (level, [], 4)
    assert result.suspects == list(range(above))
    assert any("have no prompts" in note for note in result.notes)
    assert any("is no answer either" in note for note in result.notes) == (above == 0)
    if above:
        (finding,) = result.document["findings"]
        assert finding["sentence"].startswith("12 rows have an entropy above the published threshold 0.")
        assert result.threshold is not None
        assert result.threshold.reliable
    page = (tmp_path / "run" / "report.html").read_text()
    assert ("No answer for 60 rows" in page) == (above == 0)
    assert "Nothing found" not in page
    (tmp_path / "texts.jsonl").write_text(lines_of(texts))
    scan = ("scan", "texts.jsonl", "--model", model_dir, "--out", "texts")
    paper = typed(*scan, "--policy", "paper", cwd=tmp_path)
    assert paper.returncode == (1 if above else 4), "an unreliable threshold that flags nothing has found nothing out"
    assert ("No answer for 60 rows" in paper.stdout) == (above == 0)
    assert typed(*scan, "--policy", "paper", "--threshold", "1", cwd=tmp_path).returncode == 0, "a threshold given is an answer"
    assert typed(*scan, "--threshold", "1", cwd=tmp_path).returncode == 4, "and not to whether there are triggers"
