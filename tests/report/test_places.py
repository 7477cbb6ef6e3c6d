"""Where rows are, and what identifies them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradsentry
from gradsentry.report.places import Place, place_of, row_sha256
from machine_runs import NAMES, documents

SCHEMA = json.loads((Path(gradsentry.__file__).parent / "report" / "report.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("place", "data", "found"),
    [
        ("data.jsonl:17", "some/data.jsonl", Place("some/data.jsonl", 17, None)),
        ("data.jsonl:17:34", "data.jsonl", Place("data.jsonl", 17, 34)),
        ("a:3:17", "x/a:3", Place("x/a:3", 17, None)),
        ("train.jsonl:5", "folder/", Place("folder/train.jsonl", 5, None)),
        ("data.parquet row 16", "x/data.parquet", Place("x/data.parquet", None, None)),
        ("org/name row 16", "org/name", Place("org/name", None, None)),
        ("row 3", "rows", Place(None, None, None)),
        ("dataset row 3", "dataset", Place(None, None, None)),
        ("stream train row 3", "stream", Place(None, None, None)),
        ("folder test row 3", "x/folder", Place("x/folder", None, None)),
    ],
)
def test_a_place_is_taken_apart(place: str, data: str, found: Place) -> None:
    assert place_of(place, data) == found


@given(row=st.dictionaries(st.text(), st.recursive(st.text() | st.integers() | st.booleans(), st.lists)))
def test_the_fingerprint_is_that_of_canonical_json(row: dict[str, Any]) -> None:
    text = json.dumps(row, sort_keys=True, ensure_ascii=False)
    assert row_sha256(row) == hashlib.sha256(text.encode()).hexdigest()
    assert row_sha256(dict(reversed(row.items()))) == row_sha256(row)


def test_a_fingerprint_exists_for_any_value() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for value in (float("nan"), b"\xff", object, 10**5000, deep, "\ud83d"):
        assert len(row_sha256({"prompt": value})) == 64


def test_the_schema_is_a_schema_and_describes_the_documents(model_dir: Path, tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    made = documents(model_dir, tmp_path)
    for name in NAMES:
        validator.validate(made[name])
        assert made[name].keys() == set(SCHEMA["properties"]), "a field without a description"
    validator.validate(json.loads((tmp_path / "r1" / "report.json").read_text()))
    rows = [{"prompt": f"What is {n}?", "completion": " 1" * (1 + n % 7)} for n in range(20)]
    validator.validate(gradsentry.scan(rows, model=model_dir, threshold="0.1").document)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(made["backdoor"] | {"rows": [made["backdoor"]["rows"][0] | {"sha256": "x"}]})


def test_all_flagged_rows_are_listed_with_their_file_line_and_fingerprint(model_dir: Path, tmp_path: Path) -> None:
    rows = [{"id": n, "prompt": f"What is {n}?", "completion": " one two three four"[: 2 + n % 17]} for n in range(1200)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = gradsentry.scan(data, model=model_dir, policy="paper", threshold="0.0").document
    assert len(document["flagged"]) == document["listed_at_most"] == 1000
    assert document["counts"]["flagged"] == len(document["rows"]) > 1000
    for line in document["rows"]:
        assert line["line"] == line["row"] + 1
        assert line["path"] == str(data)
        assert line["sha256"] == row_sha256(rows[line["row"]])
        assert (line["flagged"], line["finding"]) == (True, None)
