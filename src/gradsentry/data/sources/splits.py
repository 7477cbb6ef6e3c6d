"""Several splits as one source: their rows are scored together and written split by split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from gradsentry.data.sources.dataset import DatasetSource
from gradsentry.data.sources.shards import Visitor, cut_into_shards, row_count_changed, visit_by_row
from gradsentry.types import Record, Shard


class SplitsSource:
    """The rows of several splits, one split after the other. They are written as directories of a `datasets.DatasetDict`."""

    kind = "dataset"
    suffix = "dataset"

    def __init__(self, parts: Mapping[str, DatasetSource], name: str, notes: tuple[str, ...] = ()) -> None:
        """`parts` by the name of the split, `name` for messages and the report."""
        self.name = name
        self.notes = notes
        self._parts = parts

    def plan(self, shard_rows: int) -> list[Shard]:
        """Cut by the row counts; a shard may hold rows of two splits."""
        return cut_into_shards(sum(part.rows for part in self._parts.values()), shard_rows)

    def read(self, shard: Shard) -> Iterator[Record]:
        """The shard's rows."""
        first = 0
        for part in self._parts.values():
            low, high = max(shard.start, first), min(shard.stop, first + part.rows)
            if low < high:
                for record in part.read(Shard(0, low - first, high - first)):
                    yield replace(record, row=record.row + first)
            first += part.rows

    def fingerprint(self) -> str:
        """SHA-256 over the names and fingerprints of the splits."""
        lines = [f"{name} {part.fingerprint()}\n" for name, part in self._parts.items()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def split(self, parts: Iterable[int], paths: Sequence[Path], visitor: Visitor | None = None) -> tuple[int, ...]:
        """Write each split to the directories, for load_from_disk."""
        numbers, counts = iter(parts), [0] * len(paths)
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
            (path / "dataset_dict.json").write_text(json.dumps({"splits": list(self._parts)}))
        for name, part in self._parts.items():
            own = part.split(islice(numbers, part.rows), [path / name for path in paths])
            counts = [one + other for one, other in zip(counts, own, strict=True)]
        if next(numbers, None) is not None:
            raise row_count_changed(self.name, "fewer")
        visit_by_row(self.read, visitor)
        return tuple(counts)
