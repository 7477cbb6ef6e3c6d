"""The run directory: its files, and the identity of the run in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry.errors import RunError
from gradsentry.escape import json_text
from gradsentry.run.atomic import TEMPORARY, atomic_write, create_once, remove, sweep
from gradsentry.schema import PART, SCORES, SPECTRUM, SURPRISES
from gradsentry.types import Score, Shard, Vocabulary


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk. All writes are atomic."""

    path: Path

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def engine(self) -> Path:
        """Folder of an engine's logs and markers, which do not count as evidence that a shard is done."""
        return self.path / "engine"

    @property
    def reviews(self) -> Path:
        """What people decided on the findings and rows of the run; see `run.reviews`."""
        return self.path / "reviews.jsonl"

    def part(self, shard: Shard) -> Path:
        """The shard's scores; if the file exists, the shard is done."""
        return self.path / "scores" / f"part-{shard.index:05d}.parquet"

    def output(self, name: str, suffix: str) -> Path:
        """``kept.<suffix>``, ``flagged.<suffix>``, or ``unexamined.<suffix>``, which is there only if it has rows."""
        return self.path / f"{name}.{suffix}"

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None where there is no run.

        Raises:
            RunError: the file is not a run's manifest; such a directory is not overwritten either.
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

    def check(self, known: dict[str, Any], overwrite: bool = False) -> None:
        """Refuse a directory that a run with this identity cannot use; changes nothing.

        Args:
            known: everything that changes a score, or the part that is known so far.
            overwrite: accept another run, which will be deleted.

        Raises:
            RunError: the directory holds another run, a run with decisions of people that would be replaced, or files that are no run, or
                cannot be written.
        """
        self.check_writable()
        manifest = self.manifest()
        if manifest is None and not self._untouched():
            manifest = self.manifest()  # another process may have claimed the directory meanwhile
            if manifest is None:
                raise RunError(f"--out {self.path} is not empty and holds no run; give another directory")
        if manifest is not None and not overwrite:
            self._compare(manifest, known)
        if manifest is not None and overwrite and self.reviews.exists():
            raise RunError(
                f"{self.reviews} has decisions on the run that --overwrite would replace; move it away, and give it to --allow to use "
                "them again, or delete it"
            )

    def check_writable(self) -> None:
        """Refuse a directory that cannot be created or written; changes nothing.

        Raises:
            RunError: the path is a file, or permissions are missing.
        """
        there = next(folder for folder in (self.path, *self.path.absolute().parents) if os.path.exists(folder))
        if not there.is_dir():
            raise RunError(f"--out {self.path}: {there} is a file; give a directory")
        if not os.access(there, os.W_OK | os.X_OK):
            raise RunError(f"{there}: it is not writable; make it writable, or use another directory")

    def claim(self, manifest: dict[str, Any], overwrite: bool = False) -> dict[str, Any]:
        """Start a run in the directory, or resume the one in it. Of many processes that try, one writes the manifest.

        Args:
            manifest: what a new run writes; its ``identity`` is compared key by key with that of an existing run.
            overwrite: delete another run.

        Returns:
            The manifest that the directory now has.

        Raises:
            RunError: as for `check`.
        """
        self.check(manifest["identity"], overwrite)
        if overwrite and self.manifest() is not None:
            self.clear()
        (self.path / "scores").mkdir(parents=True, exist_ok=True)
        with create_once(self.manifest_path) as part:
            write_text(part, as_json(manifest))
        held = self.manifest() or manifest
        self._compare(held, manifest["identity"])
        return held

    def _compare(self, manifest: dict[str, Any], known: dict[str, Any]) -> None:
        held = {key: manifest["identity"].get(key) for key in known}
        different = differences(held, known)
        if different:
            raise RunError(
                f"{self.path} already holds another run (fingerprint {fingerprint(held)}, now {fingerprint(known)}: "
                f"{'; '.join(different)}); give another --out, or --overwrite to replace it"
            )

    def _untouched(self) -> bool:
        """Whether the directory holds only what a run without a manifest leaves, which includes an engine's files."""
        if not self.path.exists():
            return True
        others = [entry for entry in self.path.iterdir() if not entry.name.startswith(TEMPORARY) and entry != self.engine]
        return all(entry.name == "scores" and entry.is_dir() and not any(entry.iterdir()) for entry in others)

    def clear(self) -> None:
        """Delete the files of a run and no others, the manifest last."""
        shutil.rmtree(self.path / "scores", ignore_errors=True)
        shutil.rmtree(self.engine, ignore_errors=True)
        outputs = [*self.path.glob("kept.*"), *self.path.glob("flagged.*"), *self.path.glob("unexamined.*"), *self.path.glob("report.*")]
        outputs += [self.path / "verdicts.parquet", self.path / "evidence.parquet"]
        for path in [*outputs, self.manifest_path]:
            remove(path)

    def sweep(self) -> None:
        """Delete the half-written files of killed processes, and none of a live process."""
        for folder in (self.path, self.path / "scores"):
            sweep(folder)

    def write_json(self, name: str, value: Any) -> None:
        """Write ``<name>`` as indented JSON."""
        with atomic_write(self.path / name) as part:
            write_text(part, as_json(value))

    def write_scores(self, shard: Shard, scores: Sequence[Score]) -> None:
        """Write one shard's scores; a lone surrogate in a reason is written as a question mark."""
        columns: dict[str, list[Any]] = {name: [getattr(score, name) for score in scores] for name in SCORES.names}
        columns["reason"] = [reason.encode("utf-8", "replace").decode() for reason in columns["reason"]]
        for name in SURPRISES.names:
            columns[name] = [score.surprises and getattr(score.surprises, name) for score in scores]
        columns[SPECTRUM.name] = [score.spectrum for score in scores]
        with atomic_write(self.part(shard)) as part:
            pq.write_table(pa.table(columns, schema=PART), part, compression="zstd")

    @property
    def vocabulary_path(self) -> Path:
        return self.path / "scores" / "tokens.parquet"

    @property
    def has_vocabulary(self) -> bool:
        """Whether `vocabulary` can be read."""
        return is_table(self.vocabulary_path)

    def write_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Write the text of each token, so that the surprises can be read without the model."""
        with atomic_write(self.vocabulary_path) as part:
            pq.write_table(pa.table({"piece": vocabulary.pieces, "special": vocabulary.special}), part, compression="zstd")

    def vocabulary(self) -> Vocabulary:
        """The text of each token.

        Raises:
            RunError: the file is missing or damaged.
        """
        try:
            table = read_table(self.vocabulary_path)
        except FileNotFoundError:
            raise RunError(f"{self.vocabulary_path} is missing: run the same scan again to write it") from None
        return Vocabulary(table["piece"].to_pylist(), table["special"].to_numpy())

    def surprises(self, shards: Sequence[Shard]) -> Iterator[pa.Table]:
        """Part by part: row and the columns of `SURPRISES`.

        Raises:
            RunError: a part is damaged.
        """
        for shard in shards:
            yield read_table(self.part(shard), columns=["row", *SURPRISES.names])

    def missing(self, shards: Sequence[Shard]) -> list[Shard]:
        """The shards whose scores are missing or unreadable.

        If the vocabulary is missing, the first shard is included: scoring it writes a new vocabulary.
        """
        missing = [shard for shard in shards if not is_table(self.part(shard))]
        return missing if missing or self.has_vocabulary else list(shards[:1])

    def check_complete(self, shards: Sequence[Shard]) -> None:
        """Refuse a run in which parts are missing.

        Raises:
            RunError: the scan has not finished.
        """
        missing = sum(not self.part(shard).is_file() for shard in shards)
        if missing:
            raise RunError(
                f"{self.path} is not complete: {missing} of {len(shards)} parts are missing; run the same scan again to finish it"
            )

    def read_scores(self, shards: Sequence[Shard]) -> pa.Table:
        """All scores in row order.

        Raises:
            RunError: a part is missing or damaged, or has another number of rows than its shard.
        """
        self.check_complete(shards)
        tables = [read_table(self.part(shard), columns=SCORES.names) for shard in shards]
        for shard, table in zip(shards, tables, strict=True):
            if table.num_rows != shard.stop - shard.start:
                raise RunError(f"{self.part(shard)} has {table.num_rows} rows, not {shard.stop - shard.start}; delete it and scan again")
        return pa.concat_tables(tables)


def open_run(path: str | os.PathLike[str]) -> tuple[RunDirectory, dict[str, Any], list[Shard]]:
    """A run whose rows are all scored, its manifest and its shards, without its data.

    Raises:
        RunError: there is no run, or it is not complete.
    """
    run = RunDirectory(Path(path))
    manifest = run.manifest()
    if manifest is None:
        raise RunError(f"{path} is no run directory: it has no manifest.json; make one with gradsentry scan DATA --out {path}")
    rows, size = manifest["data"]["rows"], manifest["config"]["shard_rows"]
    shards = [Shard(i, start, min(start + size, rows)) for i, start in enumerate(range(0, rows, size))]
    run.check_complete(shards)
    return run, manifest, shards


def read_table(path: Path, **options: Any) -> pa.Table:
    """A Parquet file that a scan wrote.

    Args:
        options: of `pyarrow.parquet.read_table`: columns, filters.

    Raises:
        FileNotFoundError: it does not exist. RunError: it is damaged.
    """
    try:
        return pq.read_table(path, **options)
    except (pa.ArrowException, OSError) as error:
        if _from_the_system(error):
            raise
        cause = str(error).partition("\n")[0].removeprefix(f"Could not open Parquet input source '{path}': ")
        raise RunError(f"{path} is damaged ({cause}); delete it and run the same scan again to write it anew") from error


def is_table(path: Path) -> bool:
    """Whether a Parquet file exists and can be opened. A truncated one cannot: its index is at the end."""
    try:
        pq.read_metadata(path)
    except FileNotFoundError:
        return False
    except (pa.ArrowException, OSError) as error:
        if _from_the_system(error):
            raise
        return False
    return True


def _from_the_system(error: Exception) -> bool:
    """Whether the operating system raised the error. pyarrow raises OSError for some damaged files too, without an error number."""
    return isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno is not None)


def fingerprint(identity: dict[str, Any]) -> str:
    """A short hash of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The differences between two identities, in words: ``model: a, now b``."""
    return [f"{key}: {old.get(key)!r}, now {new.get(key)!r}" for key in {**old, **new} if old.get(key) != new.get(key)]


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; a lone surrogate in someone's row is written as a question mark (`as_json` escapes it)."""
    path.write_text(text, encoding="utf-8", errors="replace")


def as_json(value: Any) -> str:
    """JSON as a run keeps it."""
    return json_text(value) + "\n"
