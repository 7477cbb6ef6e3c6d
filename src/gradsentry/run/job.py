"""What a scan has settled before it scores: the data, the shards, the format, the options, and the run's identity."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry._version import __version__
from gradsentry.config import ScanConfig
from gradsentry.data import llama_factory
from gradsentry.data.formats import FORMATS, Format
from gradsentry.data.formats.detect import DETECTION_ROWS, parse_mapping, settle
from gradsentry.data.sources import Source, open_source
from gradsentry.errors import NothingScorable, UsageError
from gradsentry.run.directory import RunDirectory
from gradsentry.run.notes import kept_warnings
from gradsentry.types import Progress, Row, Shard

if TYPE_CHECKING:
    from gradsentry.scorer import Scorer

log = logging.getLogger(__name__)

MATHS_VERSION = 6
"""Raised when a change of the code changes scores: a run never mixes scores of two versions."""

MODEL_OPTIONS = ("model", "dtype", "max_length")
"""Options that change a score and whose effect is known only once the model is loaded."""


@dataclass(frozen=True)
class ModelFacts:
    """What a run records about the model that scores it."""

    name: str
    revision: str
    dtype: str
    stamp: str
    """Hash of weights and tokenizer."""
    max_length: int
    """Longest row in tokens."""
    token_budget: int
    """Tokens in a batch, unless the run already has another number."""
    memory: str
    """The memory that the scan needs, in words."""

    @classmethod
    def of(cls, scorer: Scorer) -> ModelFacts:
        loaded = scorer.loaded
        budget = scorer.memory.token_budget
        return cls(loaded.name, loaded.revision, loaded.dtype, loaded.stamp, scorer.max_length, budget, str(scorer.memory))


@dataclass(frozen=True)
class Job:
    """What a process needs to score shards of a run. Workers and engines receive it by pickle."""

    out: Path
    """The run directory."""
    source: Source
    """The opened data: every process reads the same commit of a Hub data set, and none counts the rows again."""
    shards: tuple[Shard, ...]
    """All shards of the run."""
    config: ScanConfig
    """The options, with the format that was detected."""
    model: Any
    """A path, a Hub id, None for the embedded model, or a loaded model."""
    tokenizer: Any
    """The tokenizer of a loaded model."""
    known: dict[str, Any]
    """The part of the run's identity that needs no model."""
    described: dict[str, Any]
    """The manifest's ``data``."""
    notes: tuple[str, ...]
    """What opening the data warned of, for the report."""

    @property
    def directory(self) -> RunDirectory:
        """The run directory, with its methods."""
        return RunDirectory(self.out)

    def load(self) -> Scorer:
        """A scorer with the model on this process's devices.

        Raises:
            ModelError: the model cannot be loaded. UsageError: impossible options.
        """
        from gradsentry.scorer import Scorer

        return Scorer(self.model, self.tokenizer, config=self.config)

    def identity(self, facts: ModelFacts) -> dict[str, Any]:
        """Everything that changes a score; two runs with the same identity may share a directory."""
        return self.known | {"model": facts.stamp, "dtype": facts.dtype, "max_length": facts.max_length}

    def claim(self, facts: ModelFacts) -> dict[str, Any]:
        """Make the run directory this job's.

        Returns:
            The manifest. Its `token_budget` is the one to score with: another one would change the last bits of the scores.

        Raises:
            RunError: the directory holds another run, or other files.
        """
        run = self.directory
        log.info("%s", facts.memory)
        manifest = {
            "tool": f"gradsentry {__version__}",
            "started": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
            "identity": self.identity(facts),
            "config": self.config.as_dict(),
            "data": self.described,
            "model": {"name": facts.name, "revision": facts.revision, "dtype": facts.dtype, "files": stamp_of_files(self.model)},
            "token_budget": facts.token_budget,
            "notes": list(self.notes),
        }
        held = run.claim(manifest, self.config.overwrite)
        budget = self.config.token_budget or held.get("token_budget", facts.token_budget)
        if budget != held.get("token_budget"):
            held |= {"token_budget": budget}
            run.write_json("manifest.json", held)
        return held

    def missing(self, shards: Sequence[Shard] | None = None) -> list[Shard]:
        """Those of the shards (None: of all) that have no scores yet."""
        return self.directory.missing(self.shards if shards is None else shards)

    def finished(self) -> dict[str, Any] | None:
        """The manifest if every row is scored with this job's model, as far as that shows without loading the model.

        None: shards are missing, the model was given in memory, its files have changed, or the run names another one.
        """
        manifest = self.directory.manifest()
        in_memory = self.tokenizer is not None or not isinstance(self.model, (str, os.PathLike, type(None)))
        if manifest is None or in_memory or self.config.overwrite or self.missing() or self.other_model(manifest):
            return None
        return manifest if manifest["model"].get("files") == stamp_of_files(self.model) else None

    def other_model(self, manifest: dict[str, Any]) -> str:
        """The first of `MODEL_OPTIONS` in which the run's manifest differs from this job, in words; empty if none does."""
        for name in MODEL_OPTIONS:
            before, now = absolute(manifest["config"][name]), getattr(self.config, name)
            if before != now:
                return f"{name}: {before!r}, now {now!r}"
        return ""

    def begin(self, missing: Sequence[Shard], progress: Progress, shards: Sequence[Shard] | None = None) -> None:
        """Report how many rows of the shards (None: of all) earlier runs have scored."""
        rows = sum(shard.stop - shard.start for shard in (self.shards if shards is None else shards))
        done = rows - sum(shard.stop - shard.start for shard in missing)
        if done and shards is None:
            log.info("resuming: %d rows are scored already", done)
        progress.start(rows, done)


def plan(data: Any, out: Path, config: ScanConfig, model: Any = None, tokenizer: Any = None) -> Job:
    """Open the data, cut it into shards and settle the format: everything that can fail before a model is loaded.

    Raises:
        DataError, UsageError: unusable data or options. NothingScorable: no rows.
    """
    _check_apart(data, out)
    if llama_factory.is_folder(data):
        entry = llama_factory.entry_named(Path(data), config.name)
        own = {"name": entry.name, "split": config.split or entry.split, "format": config.format or entry.format}
        data, config = entry.data, replace(config, map=config.map or entry.map, **own)
    notes: list[str] = []
    with kept_warnings(notes.append):
        source = open_source(data, split=config.split, name=config.name, revision=config.revision, streaming=config.streaming)
        for note in source.notes:
            log.warning("%s", note)
        shards = tuple(source.plan(config.shard_rows))
        if not shards:
            raise NothingScorable(f"{source.name} has no rows")
        format = _settle_format(source, shards, config)
    model = model if model is not None else config.model
    named = absolute(os.fspath(model)) if isinstance(model, (str, os.PathLike)) else None
    config = replace(config, format=format.name, model=named)
    described = {
        "name": source.name,
        "reopen": str(absolute(data)) if isinstance(data, (str, os.PathLike)) else None,
        "kind": source.kind,
        "rows": shards[-1].stop,
        "notes": list(source.notes),
    }
    options = {name: value for name, value in config.score_options().items() if name not in MODEL_OPTIONS}
    known = {"maths": MATHS_VERSION, "data": source.fingerprint(), "rows": shards[-1].stop, **options}
    return Job(out, source, shards, config, model, tokenizer, known, described, tuple(notes))


def _check_apart(data: Any, out: Path) -> None:
    """Refuse a run directory that holds the data, which the run could delete, and one inside a data directory."""
    if not isinstance(data, (str, os.PathLike)) or not data or not Path(data).exists():
        return
    where, run = Path(data).resolve(), out.resolve()
    inside = where.parents if where.is_file() else (where, *where.parents)
    if run in inside:
        raise UsageError(f"--out {out}: {data} lies in it, and a run replaces what is there; give another directory, or move the data")
    if where.is_dir() and where in run.parents:
        raise UsageError(f"--out {out} lies in the data, {data}, of which it would become a part; give a directory outside of it")


def _settle_format(source: Source, shards: Sequence[Shard], config: ScanConfig) -> Format:
    """The format that the options name, or that of the first readable rows."""
    mapping = parse_mapping(config.map)

    def readable() -> Iterator[Row]:
        return (record.value for shard in shards for record in source.read(shard) if record.value is not None)

    rows = list(islice(readable(), DETECTION_ROWS))
    if not rows and config.format is None:
        return FORMATS["text"]  # any format will do: no row can be read, and each gets its own reason
    for column in mapping.values():
        if not any(column in row for row in rows):  # a rare column may be absent from the first rows
            rows += islice((row for row in readable() if column in row), 1)
    format = settle(config.format, mapping, rows)
    if format.name == "tokens" and config.loss_on:
        raise UsageError(f"--loss-on {config.loss_on}: in rows of token ids the labels say which tokens are supervised; leave it out")
    log.info("format: %s; supervised: %s", format.name, format.describe_supervised(config.loss_on))
    return format


def absolute(where: Any) -> Any:
    """An existing path as an absolute one, so that it is valid in other directories too; anything else unchanged."""
    return str(Path(where).resolve()) if isinstance(where, (str, os.PathLike)) and Path(where).exists() else where


def stamp_of_files(model: Any) -> str:
    """Hash over name, size and time of change of a local model's files; empty for a Hub id, the embedded and a loaded model."""
    if not isinstance(model, (str, os.PathLike)) or not Path(model).exists():
        return ""
    path = Path(model)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    facts = [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:16]
