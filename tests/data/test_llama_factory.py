"""A folder of LLaMA-Factory is scanned by the name of a data set in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gradsentry
from gradsentry.errors import DataError, UsageError
from planted_rows import asked
from typed import clean
from typed import gradsentry as typed

INFO: dict[str, Any] = {
    "facts": {"file_name": "facts.json"},
    "renamed": {"file_name": "renamed.jsonl", "columns": {"prompt": "ask", "query": "more", "response": "say"}},
    "chats": {"file_name": "chats.json", "formatting": "sharegpt", "columns": {"messages": "turns", "system": "intro"}},
    "openai": {
        "file_name": "openai.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"},
    },
    "pairs": {"file_name": "pairs.json", "ranking": True, "columns": {"prompt": "instruction", "chosen": "good", "rejected": "bad"}},
    "kto": {"file_name": "kto.json", "formatting": "sharegpt", "columns": {"messages": "conversations", "kto_tag": "liked"}},
    "odd": {"file_name": "facts.json", "formatting": "sharegpt", "tags": {"user_tag": "Mensch"}},
    "script": {"script_url": "x"},
}
EXPECTED = {
    "facts": "alpaca", "renamed": "alpaca", "chats": "sharegpt", "openai": "sharegpt", "pairs": "preference", "kto": "kto",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred rows of each kind, thirty of them poisoned."""
    made = tmp_path_factory.mktemp("llama-factory") / "data"
    made.mkdir()
    rows, _ = asked(200, 30)
    others, _ = asked(200, 0)
    qa = [(row["prompt"], row["completion"].strip(), other["completion"].strip()) for row, other in zip(rows, others, strict=True)]
    turns = [[{"from": "human", "value": q}, {"from": "gpt", "value": a}] for q, a, _ in qa]
    files: dict[str, list[Any]] = {
        "facts.json": [{"instruction": q, "input": "", "output": a} for q, a, _ in qa],
        "chats.json": [{"turns": each, "intro": "be brief"} for each in turns],
        "openai.json": [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a, _ in qa],
        "pairs.json": [{"instruction": q, "good": a, "bad": b} for q, a, b in qa],
        "kto.json": [{"conversations": each, "liked": True} for each in turns],
    }
    for name, content in files.items():
        (made / name).write_text(json.dumps(content))
    (made / "renamed.jsonl").write_text("".join(json.dumps({"ask": q, "more": "", "say": a}) + "\n" for q, a, _ in qa))
    (made / "dataset_info.json").write_text(json.dumps(INFO))
    return made


@pytest.mark.parametrize("name", EXPECTED)
def test_a_data_set_is_scanned_by_its_name(name: str, folder: Path, model_dir: Path) -> None:
    result = gradsentry.scan(folder, model_dir, name=name)
    assert result.document["run"]["format"] == EXPECTED[name]
    assert result.flagged == asked(200, 30)[1]


def test_the_command_line_scans_by_name_and_decides_again(folder: Path, model_dir: Path, tmp_path: Path) -> None:
    shown = typed("scan", folder, "--name", "renamed", "--model", model_dir, "--out", "run", cwd=tmp_path)
    assert shown.returncode == 1, clean(shown)
    kept = (tmp_path / "run" / "kept.jsonl").read_text().splitlines()
    assert len(kept) == 170
    assert set(kept) < set((folder / "renamed.jsonl").read_text().splitlines())
    assert typed("filter", "run", cwd=tmp_path).returncode == 1


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("fact", UsageError, "it has no data set 'fact'; did you mean 'facts'?"),
        ("zzz", UsageError, "it has no data set 'zzz'; choose one of them with --name: facts, renamed, chats"),
        (None, UsageError, "it has several data sets; choose one of them with --name: facts, renamed"),
        ("odd", DataError, "user_tag is 'Mensch', and turns with human or user are read"),
        ("script", DataError, "'script' has neither file_name nor hf_hub_url"),
    ],
)
def test_what_cannot_be_scanned_is_named_with_the_way_out(
    name: str | None, error: type[Exception], message: str, folder: Path, model_dir: Path
) -> None:
    with pytest.raises(error) as refused:
        gradsentry.scan(folder, model_dir, name=name)
    assert message in str(refused.value)
    assert "dataset_info.json" in str(refused.value)
