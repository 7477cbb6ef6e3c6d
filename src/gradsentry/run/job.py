"""The work on a run's shards, wherever it is done: here, in a worker process or on a cluster."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry._version import __version__
from gradsentry.config import ScanConfig
from gradsentry.data.formats import FORMATS, Format
from gradsentry.data.formats.detect import parse_mapping, settle
from gradsentry.data.sources import Source, open_source
from gradsentry.errors import NothingScorable, UsageError
from gradsentry.run.directory import RunDirectory
from gradsentry.types import Progress, Row, Score, Shard

if TYPE_CHECKING:
    from gradsentry.scorer import Scorer

log = logging.getLogger(__name__)

MATHS_VERSION = 4
"""Raised when a change of the code changes scores: runs of different versions are not mixed."""

DETECTION_ROWS = 100
"""Rows from which the format is told."""


@dataclass(frozen=True)
class ModelFacts:
    """What a run wants to know of the model that scores it."""

    name: str
    revision: str
    dtype: str
    stamp: str
    """Names weights and tokenizer."""
    max_length: int
    """Longest row in tokens."""
    token_budget: int
    """Tokens in a batch, unless the run has settled on another number."""
    memory: str
    """What a scan will take, in words."""

    @classmethod
    def of(cls, scorer: Scorer) -> ModelFacts:
        loaded = scorer.loaded
        return cls(loaded.name, loaded.revision, loaded.dtype, loaded.stamp, scorer.max_length, scorer.token_budget, str(scorer.memory))


@dataclass(frozen=True)
class Job:
    """What a process needs to score shards of a run. It travels to workers and engines by pickle."""

    out: Path
    """The run directory."""
    source: Source
    """The data, as it was opened once: the same commit of a Hub data set and no second survey, wherever the job goes."""
    shards: tuple[Shard, ...]
    """All of the run."""
    config: ScanConfig
    """The options, with the format that was detected."""
    model: Any
    """A path, a Hub id, None for the embedded model, or a loaded one."""
    tokenizer: Any
    """Of a loaded model."""
    known: dict[str, Any]
    """The part of the run's identity for which no model is needed."""
    described: dict[str, Any]
    """The manifest's ``data``."""

    def load(self) -> Scorer:
        """The model, on this process's devices.

        Raises:
            ModelError: it cannot be loaded. UsageError: options that cannot be.
        """
        from gradsentry.scorer import Scorer

        return Scorer(self.model, self.tokenizer, config=self.config)

    def identity(self, facts: ModelFacts) -> dict[str, Any]:
        """Everything that changes a score; two runs with the same identity may share a directory."""
        return self.known | {"model": facts.stamp, "dtype": facts.dtype, "max_length": facts.max_length}

    def claim(self, facts: ModelFacts) -> dict[str, Any]:
        """Make the run directory this job's.

        Returns:
            The manifest. Its `token_budget` is the one to score with: another would change the last bits of the scores.

        Raises:
            RunError: the directory holds another run, or is none.
        """
        run = RunDirectory(self.out)
        log.info("%s", facts.memory)
        manifest = {
            "tool": f"gradsentry {__version__}",
            "started": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
            "identity": self.identity(facts),
            "config": self.config.as_dict(),
            "data": self.described,
            "model": {"name": facts.name, "revision": facts.revision, "dtype": facts.dtype},
            "token_budget": facts.token_budget,
        }
        held = run.claim(manifest, self.config.overwrite)
        budget = self.config.token_budget or held.get("token_budget", facts.token_budget)
        if budget != held.get("token_budget"):
            held |= {"token_budget": budget}
            run.write_json("manifest.json", held)
        return held

    def start(self, progress: Progress) -> list[Shard]:
        """Say how far the run is and return the shards that have no scores yet."""
        missing = RunDirectory(self.out).missing(self.shards)
        rows = self.shards[-1].stop
        done = rows - sum(shard.stop - shard.start for shard in missing)
        if done:
            log.info("going on after %d rows scored before", done)
        progress.start(rows, done)
        return missing


def plan(data: Any, out: Path, config: ScanConfig, model: Any = None, tokenizer: Any = None) -> Job:
    """Open the data, cut it into shards and settle the format: all that can be wrong before a model is loaded.

    Raises:
        DataError, UsageError: data or options that cannot be. NothingScorable: no rows.
    """
    _keep_apart(data, out)
    source = open_source(data, split=config.split, streaming=config.streaming)
    shards = tuple(source.plan(config.shard_rows))
    if not shards:
        raise NothingScorable(f"{source.name} has no rows")
    format = _format(source, shards, config)
    config = replace(config, format=format.name)
    described = {
        "name": source.name,
        "reopen": str(absolute(data)) if isinstance(data, (str, os.PathLike)) else None,
        "kind": source.kind,
        "rows": shards[-1].stop,
    }
    options = {name: value for name, value in config.score_options().items() if name not in ("model", "dtype", "max_length")}
    known = {"maths": MATHS_VERSION, "data": source.fingerprint(), "rows": shards[-1].stop, **options}
    return Job(out, source, shards, config, model if model is not None else config.model, tokenizer, known, described)


def _keep_apart(data: Any, out: Path) -> None:
    """Refuse a run in whose directory the data lies, which it would replace or delete, and one that would become a part of the data."""
    if not isinstance(data, (str, os.PathLike)) or not data or not Path(data).exists():
        return
    where, run = Path(data).resolve(), out.resolve()
    inside = where.parents if where.is_file() else (where, *where.parents)
    if run in inside:
        raise UsageError(f"--out {out}: {data} lies in it, and a run replaces what is there; give another directory, or move the data")
    if where.is_dir() and where in run.parents:
        raise UsageError(f"--out {out} lies in the data, {data}, of which it would become a part; give a directory outside of it")


def _format(source: Source, shards: Sequence[Shard], config: ScanConfig) -> Format:
    """The format of the rows: that of the options, or what the first rows that can be read have."""
    mapping = parse_mapping(config.map)

    def readable() -> Iterator[Row]:
        return (record.value for shard in shards for record in source.read(shard) if record.value is not None)

    rows = list(islice(readable(), DETECTION_ROWS))
    if not rows and config.format is None:
        return FORMATS["text"]  # any will do: no row can be read, and each is told with its own reason
    for column in mapping.values():
        if not any(column in row for row in rows):  # few rows may have it, none of them among the first
            rows += islice((row for row in readable() if column in row), 1)
    format = settle(config.format, mapping, rows)
    if format.name == "tokens" and config.loss_on:
        raise UsageError(f"--loss-on {config.loss_on}: rows of token ids say by their labels what is supervised; leave it out")
    log.info("format: %s; supervised: %s", format.name, format.describe_supervised(config.loss_on))
    return format


def absolute(where: Any) -> Any:
    """A path that leads somewhere, so that it leads there from other directories too; anything else as it is."""
    return str(Path(where).resolve()) if isinstance(where, (str, os.PathLike)) and Path(where).exists() else where


def score_shards(
    run: RunDirectory,
    source: Source,
    shards: Iterable[Shard],
    scorer: Scorer,
    progress: Progress,
    written: Callable[[Shard], None] = lambda _: None,
) -> None:
    """Score shards one after the other; meanwhile the next is read and tokenised, and the last one written.

    Args:
        shards: taken one ahead, in a thread of their own: the iterator may wait, also until the last part is written.
        progress: advanced after each batch. written: called after each part, in another thread.

    Raises:
        DataError, RunError: the data cannot be read, a part not be written.
    """
    if not run.has_vocabulary:
        run.write_vocabulary(scorer.vocabulary)
    coming = iter(shards)

    def prepare() -> tuple[Shard, list[Any]] | None:
        shard = next(coming, None)
        return None if shard is None else (shard, scorer.prepare(list(source.read(shard))))

    def write(shard: Shard, scores: list[Score]) -> None:
        run.write_scores(shard, scores)
        written(shard)

    pool = ThreadPoolExecutor(2, "shard")
    writing: Future[None] = Future()
    writing.set_result(None)
    try:
        ahead = pool.submit(prepare)
        while (prepared := _result(ahead, writing)) is not None:
            ahead = pool.submit(prepare)
            shard, items = prepared
            scores = scorer.score_prepared(items, progress)
            writing.result()
            writing = pool.submit(write, shard, scores)
        writing.result()
    finally:
        wait([writing])  # what was scored is kept
        pool.shutdown(wait=False, cancel_futures=True)  # the iterator may wait for ever


def _result(ahead: Future[tuple[Shard, list[Any]] | None], writing: Future[None]) -> tuple[Shard, list[Any]] | None:
    """What `ahead` gives; raises what `writing` raises, if that ends first: `ahead` may wait for a part that is never written."""
    both: list[Future[Any]] = [ahead, writing]
    wait(both, return_when=FIRST_COMPLETED)
    if writing.done():
        writing.result()
    return ahead.result()
