"""What limits a verdict is said on stderr, in report.json, on the page and on the console; and again when the scan is decided again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gradsentry
from gradsentry.run.notes import kept_warnings
from planted_rows import asked
from typed import gradsentry as typed

FEW = asked(40, 0)[0]
NOTES: dict[str, tuple[list[dict[str, Any]], list[str], str]] = {
    "five rows": (FEW[:5], [], "the rows have only 5 different prompts, too few to look for triggers"),
    "one prompt": ([row | {"prompt": "Add one to it:"} for row in FEW], [], "the rows have only 1 prompt, too few to look for triggers"),
    "no prompts": ([row | {"prompt": ""} for row in FEW], [], "the rows have no prompts, or prompts of one word"),
    "text": ([{"text": f"{i} and {i + 1} are numbers"} for i in range(40)], [], "the rows have no prompts, or prompts of one word"),
    "cut": (FEW, ["--max-length", "8"], "40 rows were longer than the context and cut"),
    "formats": ([*FEW, {"text": "a text"}, {"messages": []}], [], "1 row is in another format (text: 1); scan such rows apart"),
    "fallback": (FEW[:8], ["--policy", "paper"], "the threshold is NOT reliable: only 8 scored rows"),
}


def lines_of(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def in_words(text: str) -> str:
    """The text as the console and the page break it, in one line."""
    return " ".join(text.split())


@pytest.mark.parametrize("case", NOTES)
def test_a_note_is_in_every_form_of_the_result_and_survives_a_new_decision(case: str, model_dir: Path, tmp_path: Path) -> None:
    rows, options, note = NOTES[case]
    (tmp_path / "data.jsonl").write_text(lines_of(rows))
    shown = typed("scan", "data.jsonl", "--model", model_dir, "--out", "run", *options, cwd=tmp_path)
    again = typed("filter", "run", cwd=tmp_path)
    for result in (shown, again):
        assert note in in_words(result.stderr)
        assert f"note: {note}" in in_words(result.stdout)
        notes = json.loads((tmp_path / "run" / "report.json").read_text())["notes"]
        assert sum(note in text for text in notes) == 1
        page = (tmp_path / "run" / "report.html").read_text()
        assert page.count(f'<p class="warning">{note}') == 1
    looked = typed("filter", "run", "--dry-run", "--json", cwd=tmp_path)
    assert sum(note in text for text in json.loads(looked.stdout)["notes"]) == 1
    shown = typed("filter", "run", "--dry-run", cwd=tmp_path)
    assert note in in_words(shown.stderr)
    assert f"note: {note}" in in_words(shown.stdout)


def test_a_result_without_limits_has_no_notes(model_dir: Path) -> None:
    result = gradsentry.scan(FEW, model=model_dir)
    assert result.notes == []
    assert result.document["run"]["supervised"] == "completion", "what the message on the format says"
    assert gradsentry.scan(FEW[:5], model=model_dir).decision.notes == (
        "the rows have only 5 different prompts, too few to look for triggers",
        "the published threshold is no answer either, because it is not reliable: only 5 scored rows; the rule needs 30",
    )


def test_what_any_module_warns_of_while_the_data_are_read_or_scored_is_kept(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.jsonl").write_text(lines_of(FEW))
    monkeypatch.setattr(
        "gradsentry.run.job.open_source", warning("gradsentry.data", "half of it \x1b[2J", "gradsentry.run.job.open_source")
    )
    monkeypatch.setattr(
        "gradsentry.run.engines.inline.score_shards", warning("gradsentry.model", "slow", "gradsentry.run.shards.score_shards")
    )
    result = gradsentry.scan(tmp_path / "data.jsonl", model=model_dir, out=tmp_path / "run")
    assert result.notes == ["half of it \\u001b[2J", "slow"]
    resumed = gradsentry.scan(tmp_path / "data.jsonl", model=model_dir, out=tmp_path / "run")
    assert resumed.notes == gradsentry.redecide(tmp_path / "run").notes == result.notes
    looked = typed("filter", "run", "--dry-run", "--json", cwd=tmp_path)
    assert json.loads(looked.stdout)["notes"] == result.notes
    shown = typed("filter", "run", "--dry-run", cwd=tmp_path)
    assert all(f"note: {note}" in in_words(shown.stdout) for note in result.notes)


def warning(name: str, text: str, target: str) -> Callable[..., Any]:
    """The function with this dotted name, which now logs a warning first."""
    module, _, attribute = target.rpartition(".")
    real = getattr(__import__(module, fromlist=[attribute]), attribute)

    def warns(*arguments: Any, **options: Any) -> Any:
        logging.getLogger(name).warning("%s", text)
        return real(*arguments, **options)

    return warns


def test_only_warnings_are_kept_and_only_inside() -> None:
    notes: list[str] = []
    with kept_warnings(notes.append):
        logging.getLogger("gradsentry.x").warning("a %s", 1)
        logging.getLogger("gradsentry.x").info("b")
        logging.getLogger("other").warning("c")
    logging.getLogger("gradsentry.x").warning("d")
    assert notes == ["a 1"]
