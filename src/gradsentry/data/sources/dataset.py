"""`datasets.Dataset`: a memory-mapped table that knows its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsentry.data.sources.shards import Visitor, cut_into_shards, visit_by_row, with_parts
from gradsentry.data.sources.tables import records
from gradsentry.types import Record, Shard

if TYPE_CHECKING:
    import datasets


class DatasetSource:
    """A `datasets.Dataset`."""

    kind = "dataset"
    suffix = "dataset"

    def __init__(
        self, dataset: datasets.Dataset, name: str, place: str, fingerprint: str | None = None, notes: tuple[str, ...] = ()
    ) -> None:
        """`name` is for messages and the report, `place` names rows; `fingerprint` replaces the one that `datasets` keeps."""
        from datasets import Features

        self.name = name
        self.notes = notes
        self.rows = len(dataset)
        self._place = place
        self._fingerprint = fingerprint or dataset._fingerprint  # read it first: with_format makes another
        self._dataset = dataset.with_format(None)
        self._undecoded = dataset.with_format(None)
        self._undecoded.info.features = Features(without_decoding(dict(dataset.features)))

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row count."""
        return cut_into_shards(self.rows, shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows; media are left as stored."""
        return records(self._place, shard.start, shard.stop, self._undecoded.column_names, self._columns)

    def fingerprint(self) -> str:
        """The fingerprint that was given, or the one that `datasets` keeps."""
        return self._fingerprint

    def split(self, parts: Iterable[int], paths: Sequence[Path], visitor: Visitor | None = None) -> tuple[int, ...]:
        """Write the rows to directories with save_to_disk."""
        part_of = np.fromiter((part for _, part in with_parts(range(len(self._dataset)), parts, self.name)), dtype=np.int64)
        counts = []
        for part, path in enumerate(paths):
            rows = np.flatnonzero(part_of == part)
            # By default save_to_disk writes no file for a data set without rows, and load_from_disk then fails.
            self._dataset.select(rows).save_to_disk(path, num_shards=None if len(rows) else 1)
            counts.append(len(rows))
        visit_by_row(self.read, visitor)
        return tuple(counts)

    def _columns(self, names: Sequence[str], start: int, stop: int) -> dict[str, list[Any]]:
        dataset = self._undecoded
        return (dataset if len(names) == len(dataset.column_names) else dataset.select_columns(list(names)))[start:stop]


def without_decoding(feature: Any) -> Any:
    """The feature with the decoding of media switched off, at any depth.

    Decoding images and sound is slow, needs more packages, and adds nothing to a score. JSON stays decoded: it is text for models.
    """
    from datasets import Json, LargeList, List

    if isinstance(feature, dict):
        return {name: without_decoding(inner) for name, inner in feature.items()}
    if isinstance(feature, List | LargeList):
        return dataclasses.replace(feature, feature=without_decoding(feature.feature))
    if getattr(feature, "decode", False) and not isinstance(feature, Json):
        return dataclasses.replace(feature, decode=False)
    return feature


def library_errors() -> tuple[type[Exception], ...]:
    """The errors of `datasets` where it cannot load or read something."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    # Network and Hub errors are OSErrors; unknown splits, several configurations and unreadable files ValueErrors;
    # data sets that are scripts RuntimeErrors; hand-edited metadata gives KeyErrors, TypeErrors or IndexErrors.
    return (DatasetsError, pa.ArrowException, OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError)
