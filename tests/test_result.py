"""What a script and a notebook do with a result."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest
from torch.utils.data import DataLoader

import gradsentry
from gradsentry.errors import DataError, UsageError
from planted_rows import asked


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    poisoned, _ = asked(200, 30)
    return [*poisoned[:99], {"prompt": "no answer", "completion": ""}, *poisoned[99:]]


@pytest.fixture(scope="module")
def result(rows: list[dict[str, Any]], model_dir: Path) -> gradsentry.ScanResult:
    return gradsentry.scan(rows, model_dir)


def ids(rows: Any) -> list[str]:
    return [row["prompt"] for row in rows]


@pytest.fixture(scope="module")
def kept(rows: list[dict[str, Any]], result: gradsentry.ScanResult) -> list[str]:
    assert len(result.flagged) == 30
    assert result.unexamined == [99]
    return ids([row for i, row in enumerate(rows) if i not in result.flagged and i != 99])


def test_the_repr_is_one_line(result: gradsentry.ScanResult) -> None:
    assert repr(result) == "<ScanResult: 30 of 201 rows (14.9 %) look poisoned.>"
    assert repr(replace(result, run=Path("runs/a"))).endswith("poisoned. run='runs/a'>")


def test_a_notebook_shows_the_report_in_a_frame_that_runs_nothing(result: gradsentry.ScanResult) -> None:
    frame = result._repr_html_()
    found = re.fullmatch(r'<iframe sandbox srcdoc="([^"]*)" [^<>]*></iframe>', frame)
    assert found
    page = html.unescape(found[1])
    assert page == result.page()
    assert page.lstrip().startswith("<!doctype html>")
    assert "30 of 201 rows" in page
    assert '<mark class="trigger">' in page
    assert "result.clean(data)" in page


def test_a_kept_run_shows_the_page_that_it_wrote(rows: list[dict[str, Any]], model_dir: Path, tmp_path: Path) -> None:
    result = gradsentry.scan(rows[:50], model_dir, tmp_path / "run")
    assert result.page() == (tmp_path / "run" / "report.html").read_text()


def test_findings_name_trigger_and_rows(result: gradsentry.ScanResult) -> None:
    assert result.findings[0].kind == "backdoor"
    assert result.findings[0].triggers
    assert sorted({row for finding in result.findings if finding.kind == "backdoor" for row in finding.rows.tolist()}) == result.flagged


def test_to_pandas_has_a_line_for_each_row(result: gradsentry.ScanResult) -> None:
    frame: Any = result.to_pandas()
    names = ["row", "status", "entropy", "n_tokens", "loss", "flagged", "reason", "n_cut", "beyond_length", "finding", "kept", "suspected"]
    assert list(frame.columns) == names
    assert frame["row"].tolist() == list(range(201))
    assert frame.index[frame["flagged"]].tolist() == result.flagged
    assert frame.index[frame["kept"]].tolist() == result.kept
    assert frame["finding"].isna().sum() == 201 - sum(len(finding.rows) for finding in result.findings)
    assert frame.loc[99, "status"] == "unscorable"


SAME: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "list": list,
    "dataset": datasets.Dataset.from_list,
    "stream": lambda rows: datasets.Dataset.from_list(rows).to_iterable_dataset(num_shards=4),
    "table": pa.Table.from_pylist,
}


@pytest.mark.parametrize("kind", SAME)
def test_clean_gives_the_kept_rows_as_the_same_kind(
    kind: str, rows: list[dict[str, Any]], result: gradsentry.ScanResult, kept: list[str]
) -> None:
    data = SAME[kind]([row | {"source": "web"} for row in rows])
    clean = result.clean(data)
    assert type(clean) is type(data)
    assert ids(clean.to_pylist() if kind == "table" else clean) == kept
    assert next(iter(clean.to_pylist() if kind == "table" else clean))["source"] == "web"


def test_clean_keeps_the_index_of_a_frame(rows: list[dict[str, Any]], result: gradsentry.ScanResult, kept: list[str]) -> None:
    clean = result.clean(pd.DataFrame(rows, index=[f"r{i}" for i in range(201)]))
    assert clean["prompt"].tolist() == kept
    assert clean.index.tolist() == [f"r{i}" for i in result.kept]


def test_clean_keeps_splits_and_formats_of_datasets(rows: list[dict[str, Any]], result: gradsentry.ScanResult, kept: list[str]) -> None:
    parts = {"train": datasets.Dataset.from_list(rows[:120]).with_format("numpy"), "test": datasets.Dataset.from_list(rows[120:])}
    clean = result.clean(datasets.DatasetDict(parts))  # pyright: ignore
    assert ids(clean["train"]) + ids(clean["test"]) == kept
    assert clean["train"].format["type"] == "numpy"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_cleaned_stream_has_the_same_rows_with_a_worker_of_a_loader(
    workers: int, rows: list[dict[str, Any]], result: gradsentry.ScanResult, kept: list[str]
) -> None:
    clean: Any = result.clean(SAME["stream"](rows))
    assert ids(DataLoader(clean, batch_size=None, num_workers=workers)) == kept


def test_a_cleaned_stream_refuses_several_workers(rows: list[dict[str, Any]], result: gradsentry.ScanResult) -> None:
    clean: Any = result.clean(SAME["stream"](rows))
    with pytest.raises(UsageError, match="2 workers would each read a part of the stream"):
        list(DataLoader(clean, batch_size=None, num_workers=2))


@pytest.mark.parametrize("kind", SAME)
def test_clean_refuses_other_rows(kind: str, rows: list[dict[str, Any]], result: gradsentry.ScanResult) -> None:
    for other, message in [
        (rows[:-1], "fewer rows than the 201"),
        ([*rows, rows[0]], "more rows than the 201"),
        ([*rows[1:], rows[0]], r"row \d+ is not the one that was flagged"),
        ([{"text": "a"}] * 201, r"row \d+ is not the one that was flagged"),
    ]:
        with pytest.raises(DataError, match=message):
            list(result.clean(SAME[kind](other)))


@pytest.mark.parametrize("data", ["data.jsonl", 7, {"prompt": "a"}])
def test_clean_refuses_what_has_no_rows_to_choose(data: Any, result: gradsentry.ScanResult) -> None:
    with pytest.raises(UsageError, match=r"rows cannot be chosen from a (str|int|dict); give a datasets.Dataset"):
        result.clean(data)
