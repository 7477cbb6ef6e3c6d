"""The one module that wires the others: source -> scores -> threshold -> verdicts -> run directory."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradsentry._version import __version__
from gradsentry.config import ScanConfig
from gradsentry.decide import Decision, decide
from gradsentry.encode import CUT
from gradsentry.errors import NothingScorable, RunError, UsageError
from gradsentry.report.document import example_rows, report_document
from gradsentry.report.page import render
from gradsentry.sources import Source, open_source
from gradsentry.store import RunDirectory, whole
from gradsentry.types import Shard, Threshold

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gradsentry.scorer import Scorer

log = logging.getLogger(__name__)

MATHS_VERSION = 1
"""Raised when a change of the code changes scores: runs of different versions are not mixed."""

DETECTION_ROWS = 100
"""Rows from which the format is told."""


def _nothing(_first: int, _second: int) -> None:
    pass


@dataclass(frozen=True)
class Ticks:
    """Who wants to know how far a scan is."""

    start: Callable[[int, int], None] = _nothing
    """Called once with (rows in all, rows that an earlier run has scored already)."""
    advance: Callable[[int, int], None] = _nothing
    """Called after each batch with (rows, tokens) of that batch."""


@dataclass(frozen=True)
class ScanResult:
    """What a scan found."""

    decision: Decision
    """Threshold, verdict of every row, counts."""
    document: dict[str, Any]
    """The content of ``report.json``."""
    run: Path | None
    """The run directory; None when none was asked for."""

    @property
    def threshold(self) -> Threshold | None:
        """None when no row could be scored."""
        return self.decision.threshold

    @property
    def counts(self) -> dict[str, int]:
        """rows, scored, unscorable, error, flagged, kept."""
        return self.decision.counts

    @property
    def flagged(self) -> list[int]:
        """Positions of the rows to look at, in input order."""
        return np.flatnonzero(self.decision.flagged).tolist()

    @property
    def kept(self) -> list[int]:
        """Positions of the rows to train on: ``dataset.select(result.kept)``."""
        return np.flatnonzero(~self.decision.flagged).tolist()

    @property
    def exit_code(self) -> int:
        """0 nothing flagged, 1 rows flagged, 3 nothing scorable."""
        if self.threshold is None:
            return 3
        return 1 if self.flagged else 0


def scan(
    data: str | os.PathLike[str] | datasets.Dataset | datasets.IterableDataset | Sequence[Mapping[str, Any]],
    model: str | os.PathLike[str] | PreTrainedModel | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    config: ScanConfig | None = None,
    ticks: Ticks | None = None,
    **options: Any,
) -> ScanResult:
    """Score every row of a fine-tuning set and tell which to take out.

    Args:
        data: a file, a saved data set's directory, a Hub id, a `datasets.Dataset` or `IterableDataset`, or a list of dicts.
        model: the base model: a directory, a ``.gguf`` file, a Hub id, or a loaded model with its `tokenizer`; None is
            the embedded one.
        out: the run directory; a run of the same data and options that stopped goes on there. None writes nothing.
        config, options: `ScanConfig` and fields that win over it: threshold, crop, format, map, loss_on, dtype, device ...

    Raises:
        DataError, ModelError, RunError, UsageError: what is wrong, where, and what to do.
        NothingScorable: the data set has no rows at all.

    Example:
        >>> result = scan("data.jsonl", out="runs/first")  # doctest: +SKIP
        >>> clean = dataset.select(result.kept)  # doctest: +SKIP
    """
    from gradsentry.scorer import Scorer

    config = replace(config or ScanConfig(), **options)
    ticks = ticks or Ticks()
    started = time.time()
    source = open_source(data, split=config.split, streaming=config.streaming)
    shards = source.plan(config.shard_rows)
    if not shards:
        raise NothingScorable(f"{source.name} has no rows")
    scorer = Scorer(model if model is not None else config.model, tokenizer, config=config)
    format = scorer.detect(record.value for record in islice(_records(source, shards), DETECTION_ROWS) if record.value is not None)
    log.info("format: %s; supervised: %s", format.name, _supervised(scorer))
    with _run_directory(out) as run:
        identity = _identity(source, shards, scorer)
        run.claim(identity, config.overwrite)
        manifest = {
            "tool": f"gradsentry {__version__}",
            "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            "identity": identity,
            "config": config.as_dict() | {"format": format.name},
            "data": {"name": source.name, "reopen": _reopen(data), "kind": source.kind, "rows": shards[-1].stop},
            "model": {"name": scorer.loaded.name, "revision": scorer.loaded.revision, "dtype": scorer.loaded.dtype},
        }
        run.write_json("manifest.json", manifest)
        _score_missing(run, source, shards, scorer, ticks)
        run.write_json("manifest.json", manifest | {"seconds": round(time.time() - started, 3)})
        return _conclude(run, source, shards, replace(config, format=format.name), keep=out is not None)


def rescan_decision(run_path: str | os.PathLike[str], threshold: str) -> ScanResult:
    """Decide once more from the scores of a run, with another threshold: no model is loaded, no row scored again.

    Rewrites verdicts, kept, flagged and the reports of the run.

    Raises:
        RunError: no run there, not complete, or its data cannot be read again. UsageError: an impossible threshold.
        DataError: the data is gone or has changed since.
    """
    run, manifest = _existing(run_path)
    config = replace(_config(manifest), threshold=threshold)
    source, shards = _reopened(manifest, config)
    run.write_json("manifest.json", manifest | {"config": manifest["config"] | {"threshold": threshold}})
    return _conclude(run, source, shards, config, keep=True)


def preview_decision(run_path: str | os.PathLike[str], threshold: str) -> Decision:
    """What a threshold would decide on the scores of a run; changes nothing, needs neither model nor data.

    Raises:
        RunError: no run there, or not complete. UsageError: an impossible threshold.
    """
    run, manifest = _existing(run_path)
    rows, size = manifest["data"]["rows"], manifest["config"]["shard_rows"]
    shards = [Shard(i, start, min(start + size, rows)) for i, start in enumerate(range(0, rows, size))]
    return decide(run.read_scores(shards), threshold)


def _records(source: Source, shards: Sequence[Shard]) -> Iterator[Any]:
    for shard in shards:
        yield from source.read(shard)


def _supervised(scorer: Scorer) -> str:
    assert scorer.format is not None  # settled by detect
    asked = scorer.config.loss_on
    return scorer.format.supervised if asked in (None, scorer.format.loss_on) else f"--loss-on {asked}"


@contextmanager
def _run_directory(out: str | os.PathLike[str] | None) -> Iterator[RunDirectory]:
    if out is not None:
        yield RunDirectory(Path(out))
        return
    with tempfile.TemporaryDirectory(prefix="gradsentry-") as folder:
        yield RunDirectory(Path(folder))


def _identity(source: Source, shards: Sequence[Shard], scorer: Scorer) -> dict[str, Any]:
    """Everything that changes a score; two runs with the same identity may share a directory."""
    options = scorer.config.score_options() | {"model": scorer.loaded.stamp, "dtype": scorer.loaded.dtype}
    options |= {"format": scorer.format.name if scorer.format else None, "max_length": scorer.max_length}
    return {"maths": MATHS_VERSION, "data": source.fingerprint(), "rows": shards[-1].stop, **options}


def _reopen(data: Any) -> str | None:
    """How the data can be opened again later; None for rows in memory."""
    if not isinstance(data, (str, os.PathLike)):
        return None
    return str(Path(data).resolve()) if Path(data).exists() else os.fspath(data)


def _score_missing(run: RunDirectory, source: Source, shards: Sequence[Shard], scorer: Scorer, ticks: Ticks) -> None:
    """Score the shards that have no part yet."""
    missing = [shard for shard in shards if not run.part(shard).is_file()]
    done = shards[-1].stop - sum(shard.stop - shard.start for shard in missing)
    if done:
        log.info("going on after %d rows scored before", done)
    ticks.start(shards[-1].stop, done)
    for shard in missing:
        run.write_scores(shard, scorer.score_records(list(source.read(shard)), ticks.advance))


def _conclude(run: RunDirectory, source: Source, shards: Sequence[Shard], config: ScanConfig, keep: bool) -> ScanResult:
    """From scores to everything that a person reads; `keep` is False when the directory is thrown away at once."""
    scores = run.read_scores(shards)
    decision = decide(scores, config.threshold)
    _say_what_was_cut(scores)
    manifest = run.manifest()
    assert manifest is not None  # written before the first score
    examples = example_rows(decision, source, shards, config)
    document = report_document(decision, manifest, examples)
    if keep:
        with whole(run.path / "verdicts.parquet") as part:
            pq.write_table(decision.verdicts, part)
        with whole(run.output("kept", source.suffix)) as kept, whole(run.output("flagged", source.suffix)) as flagged:
            source.split(decision.flagged, kept, flagged)
        run.write_text("report.html", render(document, decision))
        run.write_json("report.json", document)
    return ScanResult(decision, document, run.path if keep else None)


def _say_what_was_cut(scores: pa.Table) -> None:
    """Truncation is counted aloud: a cut row may have lost what made it suspicious."""
    cut = sum(reason.startswith(CUT) for reason in scores["reason"].to_pylist())
    if cut:
        log.warning("%d %s longer than the context and cut; verdicts.parquet says which", cut, "row was" if cut == 1 else "rows were")


def _existing(run_path: str | os.PathLike[str]) -> tuple[RunDirectory, dict[str, Any]]:
    run = RunDirectory(Path(run_path))
    manifest = run.manifest()
    if manifest is None:
        raise RunError(f"{run_path} is no run directory: it has no manifest.json; make one with gradsentry scan DATA --out {run_path}")
    return run, manifest


def _config(manifest: dict[str, Any]) -> ScanConfig:
    try:
        return ScanConfig(**manifest["config"])
    except TypeError as error:
        raise RunError(f"the run was made by another version ({manifest.get('tool')}): {error}") from None


def _reopened(manifest: dict[str, Any], config: ScanConfig) -> tuple[Source, list[Shard]]:
    """The run's data, unchanged since it was scored."""
    where = manifest["data"]["reopen"]
    if where is None:
        raise UsageError("the run was made from rows in memory; call gradsentry.scan on them again")
    source = open_source(where, split=config.split, streaming=config.streaming)
    shards = source.plan(config.shard_rows)
    if source.fingerprint() != manifest["identity"]["data"]:
        raise RunError(f"{where} has changed since it was scored; scan it again")
    return source, shards
