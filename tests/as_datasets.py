"""Files as `datasets.load_dataset` reads them, beside our reading of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets

from gradsentry.data.sources import Source, open_source
from gradsentry.errors import DataError
from gradsentry.types import Record

BUILDERS = {"jsonl": ("json", {}), "json": ("json", {}), "csv": ("csv", {}), "tsv": ("csv", {"sep": "\t"}), "parquet": ("parquet", {})}


def load(path: Path, streaming: bool = True) -> list[dict[str, Any]] | None:
    """The rows as `datasets` reads them; None where it refuses the file."""
    builder, options = BUILDERS[path.suffix[1:]]
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        return list(datasets.load_dataset(builder, data_files=str(path), split="train", streaming=streaming, **options))
    except (Exception, RecursionError):
        return None


def read(path: Path, shard_rows: int = 2) -> tuple[Source, list[Record]] | None:
    """The file as a source, and its records; None where it is refused as a whole."""
    try:
        source = open_source(path)
        shards = source.plan(shard_rows)
    except DataError:
        return None
    return source, [record for shard in reversed(shards) for record in reversed(list(source.read(shard)))][::-1]


def same_texts(ours: Record, theirs: dict[str, Any]) -> bool:
    """Whether every text that `datasets` gives the row is the one that we read. Other values may have other types there."""
    assert ours.value is not None
    held = {name: value for name, value in theirs.items() if isinstance(value, str)}
    return all(ours.value.get(name) == value for name, value in held.items()) and not any(
        isinstance(value, str) and value.strip() and theirs.get(name) is None and value not in MISSING and not name.startswith(INDEX)
        for name, value in ours.value.items()
    )


INDEX = "__index_level_"
"""Columns of a row index, which `datasets` drops where the index counts the rows."""


MISSING = ("NA", "N/A", "null", "NULL", "nan", "NaN", "None", "n/a", "<NA>", "#N/A", "-nan", "-NaN")
"""Texts of a CSV file that pandas reads as no value."""


def _is_read_by_columns(path: Path) -> bool:
    """Whether the file is one JSON object with a control character in a text: then `datasets` falls back to pandas, which reads columns."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        whole = json.loads(data, strict=False)
    except ValueError:
        return False
    try:
        json.loads(data)
    except ValueError:
        return isinstance(whole, dict)
    return False


def check(path: Path, shard_rows: int = 2) -> str:
    """Compare both readings of the file, and what `datasets` reads from the rows that we keep. Returns what was compared."""
    theirs, ours = load(path), read(path, shard_rows)
    if ours is None:
        assert theirs is None, f"datasets reads {theirs}"
        return "refused by both"
    source, records = ours
    unread = [record.value is None for record in records]
    if theirs is not None and not _is_read_by_columns(path):
        assert len(records) == len(theirs), ([record.value for record in records], theirs)
        for record, row in zip(records, theirs, strict=True):
            assert record.value is None or same_texts(record, row), (record.value, row)
    kept, rest = path.with_name(f"kept.{source.suffix}"), path.with_name(f"rest.{source.suffix}")
    assert source.split(unread, [kept, rest]) == (unread.count(False), unread.count(True))
    again = load(kept)
    if again is not None and not all(unread) and not _is_read_by_columns(kept):
        for record, row in zip([record for record in records if record.value is not None], again, strict=True):
            assert same_texts(record, row), (record.value, row)
    if theirs is None:
        return "refused by datasets"
    return "not all rows read" if any(unread) else "all rows read"
