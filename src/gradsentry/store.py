"""The run directory: what is in it, and that nothing half-written ever stands under a final name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry.errors import RunError
from gradsentry.types import Score, Shard

SCORES = pa.schema(
    [
        ("row", pa.int64()),
        ("status", pa.string()),
        ("entropy", pa.float64()),
        ("n_tokens", pa.int64()),
        ("loss", pa.float64()),
        ("reason", pa.string()),
    ]
)
"""Columns of ``scores/part-*.parquet``: one line a row, nothing that depends on a threshold."""

VERDICTS = pa.schema([*list(SCORES)[:5], pa.field("flagged", pa.bool_()), SCORES.field("reason")])
"""Columns of ``verdicts.parquet``."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there gets the final name when, and only when, all went well."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        yield part
        if part.is_dir():
            if path.exists():
                shutil.rmtree(path)
        else:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk. All writes go through `whole`."""

    path: Path

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    def part(self, shard: Shard) -> Path:
        """The shard's scores; the file's existence says that the shard is done."""
        return self.path / "scores" / f"part-{shard.index:05d}.parquet"

    def output(self, name: str, suffix: str) -> Path:
        """``kept.<suffix>`` or ``flagged.<suffix>``."""
        return self.path / f"{name}.{suffix}"

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None where there is no run.

        Raises:
            RunError: it is there but is no run's: it is never taken for one, not even to overwrite it.
        """
        try:
            manifest = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RunError(f"{self.manifest_path} cannot be read: {error}; delete the directory, or give another") from None
        if not isinstance(manifest, dict) or not isinstance(manifest.get("identity"), dict):
            raise RunError(f"{self.manifest_path} is not the manifest of a run; give another directory")
        return manifest

    def claim(self, identity: dict[str, Any], overwrite: bool) -> None:
        """Make the directory ready for a run with this identity: new, or one that stopped and goes on.

        Args:
            identity: everything that changes a score; compared key by key with the manifest's.
            overwrite: throw another run away.

        Raises:
            RunError: the directory holds another run, or files that are no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"--out {self.path} is a file; give a directory")
        known = self.manifest()
        if known is not None and not overwrite:
            different = differences(known["identity"], identity)
            if different:
                raise RunError(
                    f"{self.path} already holds another run ({'; '.join(different)}); give another --out, or --overwrite to replace it"
                )
        elif known is None and self.path.is_dir() and not self._untouched():
            raise RunError(f"--out {self.path} is not empty and holds no run; give another directory")
        if overwrite and known is not None:
            self._clear()
        (self.path / "scores").mkdir(parents=True, exist_ok=True)

    def _untouched(self) -> bool:
        """Whether nothing is here but what a run that was killed before its first manifest leaves."""
        others = [entry for entry in self.path.iterdir() if not entry.name.startswith(".part-")]
        return all(entry.name == "scores" and entry.is_dir() and not any(entry.iterdir()) for entry in others)

    def _clear(self) -> None:
        """Delete what a run writes, and nothing else that somebody put beside it. The manifest goes last."""
        shutil.rmtree(self.path / "scores", ignore_errors=True)
        outputs = [*self.path.glob("kept.*"), *self.path.glob("flagged.*"), *self.path.glob("report.*"), self.path / "verdicts.parquet"]
        for path in [*outputs, self.manifest_path]:
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write ``<name>`` as indented JSON."""
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write ``<name>`` as UTF-8; a lone surrogate in someone's row is written as a question mark."""
        with whole(self.path / name) as part:
            part.write_text(text, encoding="utf-8", errors="replace")

    def write_scores(self, shard: Shard, scores: Sequence[Score]) -> None:
        """Write one shard's scores; a lone surrogate that a reason quotes is written as a question mark."""
        columns = {name: [getattr(score, name) for score in scores] for name in SCORES.names}
        columns["reason"] = [reason.encode("utf-8", "replace").decode() for reason in columns["reason"]]
        with whole(self.part(shard)) as part:
            pq.write_table(pa.table(columns, schema=SCORES), part)

    def read_scores(self, shards: Sequence[Shard]) -> pa.Table:
        """All scores in row order.

        Raises:
            RunError: a shard is missing or holds other rows than it should: the scan has not ended.
        """
        missing = [shard for shard in shards if not self.part(shard).is_file()]
        if missing:
            raise RunError(
                f"{self.path} is not complete: {len(missing)} of {len(shards)} parts are missing; run the same scan again to finish it"
            )
        tables = [pq.read_table(self.part(shard), schema=SCORES) for shard in shards]
        for shard, table in zip(shards, tables, strict=True):
            if table.num_rows != shard.stop - shard.start:
                raise RunError(f"{self.part(shard)} has {table.num_rows} rows, not {shard.stop - shard.start}; delete it and scan again")
        return pa.concat_tables(tables)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two identities, in words: ``model: a, now b``."""
    return [f"{key}: {old.get(key)!r}, now {new.get(key)!r}" for key in {**old, **new} if old.get(key) != new.get(key)]
