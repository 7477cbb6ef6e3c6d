"""The module that connects the packages: data -> scores -> verdicts -> run directory and report."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Unpack

import numpy as np
import pyarrow.parquet as pq

from gradsentry.config import DecisionOptions, ScanConfig, ScanOptions, check_names
from gradsentry.data.formats import FORMATS
from gradsentry.data.sources import Source, open_source
from gradsentry.errors import RunError, UsageError
from gradsentry.escape import one_line
from gradsentry.report.document import Previews, report_document, rows_to_show
from gradsentry.report.html import render
from gradsentry.report.places import RowPlaces, Visitors
from gradsentry.report.progress import show_bar
from gradsentry.result import ScanResult
from gradsentry.run.atomic import atomic_write, remove
from gradsentry.run.directory import RunDirectory, as_json, open_run, write_text
from gradsentry.run.engines import make_engine
from gradsentry.run.engines.base import Engine
from gradsentry.run.job import absolute, plan
from gradsentry.run.notes import kept_warnings
from gradsentry.run.reviews import read_allowed, read_reviews
from gradsentry.run.words import RunWords, words_of_rows
from gradsentry.types import Progress, Shard
from gradsentry.verdict.combine import Decision
from gradsentry.verdict.decide import decide_table
from gradsentry.verdict.policies import policy_named
from gradsentry.verdict.reviewed import reviewed
from gradsentry.verdict.words import RowWords

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class ArrowTable(Protocol):
    """A pandas or polars DataFrame, a pyarrow Table: what hands out Arrow data."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> object: ...


Data: TypeAlias = (
    "str | os.PathLike[str] | datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | ArrowTable | Sequence[Mapping[str, Any]]"
)
"""What can be scanned."""


def scan(
    data: Data,
    model: str | os.PathLike[str] | PreTrainedModel | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    config: ScanConfig | None = None,
    progress: Progress | None = None,
    **options: Unpack[ScanOptions],
) -> ScanResult:
    """Score every row of a fine-tuning set and decide which rows to flag.

    Args:
        data: a file, a saved data set's directory, a Hub id, a `datasets.Dataset`, `DatasetDict` or `IterableDataset`, a pandas or
            polars DataFrame, an Arrow table, or a list of dicts.
        model: the base model: a directory, a ``.gguf`` file, a Hub id, or a loaded model with its `tokenizer`; None is
            the embedded one.
        out: the run directory. A stopped run of the same data and options resumes there. None writes nothing.
        config, options: `ScanConfig` and fields that override it: threshold, crop, format, map, loss_on, dtype, device ...
        progress: receives how far the scan is. Default: a bar on a terminal and in a notebook; `Progress()` shows nothing.

    Raises:
        DataError, ModelError, RunError, UsageError: what is wrong, where, and what to do; an option that does not exist too.
        NothingScorable: the data set has no rows.

    Example:
        >>> result = scan("data.jsonl", out="runs/first")  # doctest: +SKIP
        >>> clean = dataset.select(result.kept)  # doctest: +SKIP
    """
    check_names(options, {*ScanOptions.__annotations__, "model", "out", "tokenizer", "config", "progress"})
    config = replace(config or ScanConfig(), **options)
    with nullcontext(progress) if progress else show_bar() as shown:
        result = _scan(data, model, out, tokenizer, config, shown, make_engine(None, config))
    assert result is not None  # the two engines for one machine end what they begin
    return result


def scan_on(
    engine: str, data: Data, out: Path, config: ScanConfig, engine_options: Sequence[str] = (), progress: Progress | None = None
) -> ScanResult | None:
    """As `scan`, with an engine of `run.engines.ENGINES`.

    Args:
        engine_options: ``KEY=VALUE`` for the engine.

    Returns:
        None where other processes finish the run.

    Raises:
        UsageError: the engine is not installed, or has no such option. Else as `scan`.
    """
    config = replace(config, model=absolute(config.model))  # other processes may run in another directory
    return _scan(absolute(data), None, out.resolve(), None, config, progress or Progress(), make_engine(engine, config, engine_options))


def _scan(
    data: Data, model: Any, out: str | os.PathLike[str] | None, tokenizer: Any, config: ScanConfig, progress: Progress, engine: Engine
) -> ScanResult | None:
    started = time.time()
    policy_named(config.policy)  # errors before scoring, not after
    read_allowed(config.allow)
    with _run_directory(out) as run:
        job = plan(data, run.path, config, model, tokenizer)
        run.check(job.known, config.overwrite)
        manifest = job.finished()
        notes = list(job.notes)
        if manifest is None:
            try:
                with kept_warnings(notes.append):
                    manifest = engine.run(job, job.shards if config.overwrite else job.missing(), progress)
            finally:
                run.sweep()
        if manifest is None:
            return None
        # An interrupted scan may have left notes in the manifest, other processes too.
        notes = list(dict.fromkeys([*manifest.get("notes", ()), *notes]))
        manifest |= {"seconds": round(time.time() - started, 3), "notes": notes}
        return _conclude(run, manifest, job.source, job.shards, job.config, keep=out is not None)


def redecide(run_path: str | os.PathLike[str], threshold: str | float = "auto", **options: Unpack[DecisionOptions]) -> ScanResult:
    """Decide again from the scores of a run, with another threshold or policy. No model is loaded and no row is scored again.

    Rewrites verdicts, kept, flagged, unexamined, the reports and the options of the run: all of them, or none if it fails.

    Args:
        options: `policy`, `strict` and `keep_unexamined` of `ScanConfig`, by default the run's own; a decision by `policy="paper"`
            resets `strict`. And `allow`, by default None. The run's ``reviews.jsonl`` is obeyed in any case.

    Raises:
        RunError: no complete run, it is not writable, its data cannot be read again, or its reviews are malformed or of another scan.
        UsageError: an impossible threshold, or a malformed file of `allow`.
        DataError: the data is missing or has changed.
    """
    opened = reopen(run_path, threshold, **options)
    opened.run.check_writable()
    opened.run.sweep()
    return _conclude(opened.run, opened.manifest, opened.source, opened.shards, opened.config, keep=True)


def preview_decision(
    run_path: str | os.PathLike[str], threshold: str | float = "auto", **options: Unpack[DecisionOptions]
) -> tuple[Decision, ScanConfig]:
    """What a threshold or policy would decide on the scores of a run. Changes nothing and needs no model; data only for reviews.

    Args:
        options: as for `redecide`.

    Returns:
        The decision, and its options.

    Raises:
        As `redecide`; but the data may be missing or changed if nobody has decided anything.
    """
    run, manifest, shards = open_run(run_path)
    config = _config(manifest, threshold, options)
    decision = _decide(run, manifest, shards, config, lambda: _reopened(manifest, config))
    notes = dict.fromkeys([*manifest.get("notes", ()), *decision.notes])  # the scan's own first, as in the report
    return replace(decision, notes=tuple(notes)), config


def row_at(run_path: str | os.PathLike[str], place: str) -> int:
    """The row at a place, as results name it (``data.jsonl:37``). Reads the data again, up to that row.

    Raises:
        RunError: no run, or its data cannot be read again. DataError: the data is missing or has changed. UsageError: no row is there.
    """
    opened = reopen(run_path)
    first = ""
    for shard in opened.shards:
        for record in opened.source.read(shard):
            first = first or record.place
            if place in (record.place, one_line(record.place)):
                return record.row
    raise UsageError(f"{one_line(place)}: no row is there; give the number of a row, or a place such as {one_line(first)}")


@dataclass(frozen=True)
class OpenRun:
    """A finished run, and its data as they were scored."""

    run: RunDirectory
    manifest: dict[str, Any]
    config: ScanConfig
    source: Source
    shards: Sequence[Shard]


def reopen(run_path: str | os.PathLike[str], threshold: str | float | None = None, **options: Any) -> OpenRun:
    """Open a finished run and its data again.

    Args:
        threshold: of a new decision, whose `options` are as for `redecide`; None: of the run's own decision.

    Raises:
        RunError: no complete run. UsageError, DataError: its data cannot be read again, or have changed.
    """
    run, manifest, _ = open_run(run_path)
    if threshold is None:
        config = _config(manifest, manifest["config"]["threshold"], {"allow": manifest["config"].get("allow")})
    else:
        config = _config(manifest, threshold, options)
    return OpenRun(run, manifest, config, *_reopened(manifest, config))


@contextmanager
def _run_directory(out: str | os.PathLike[str] | None) -> Iterator[RunDirectory]:
    if out is not None:
        yield RunDirectory(Path(out))
        return
    with tempfile.TemporaryDirectory(prefix="gradsentry-") as folder:
        yield RunDirectory(Path(folder))


def _conclude(
    run: RunDirectory, manifest: dict[str, Any], source: Source, shards: Sequence[Shard], config: ScanConfig, keep: bool
) -> ScanResult:
    """From scores to the result and, if `keep`, to the files of the run directory."""
    decision = _decide(run, manifest, shards, config, lambda: (source, shards))
    # A review may begin in another directory.
    manifest = manifest | {"config": config.as_dict() | {"allow": config.allow and os.path.abspath(config.allow)}}
    previews, places = Previews(rows_to_show(decision), config), RowPlaces(decision)
    words = words_of_rows(run, shards, previews.wanted) if run.has_vocabulary else {}
    if keep:
        document = _write(run, manifest, source, decision, previews, places, words)
    else:
        Visitors(previews, places).read(source, shards)
        document = report_document(decision, manifest, previews.rows, places)
    page = partial(render, document, decision, manifest, previews.rows, words, run.output("kept", source.suffix) if keep else None)
    return ScanResult(decision, document, run.path if keep else None, config, previews.rows, page)


def sides_of(config: ScanConfig) -> tuple[str, ...]:
    """Names of the sides of the run's rows."""
    return FORMATS[config.format].sides if config.format else ()


def _decide(
    run: RunDirectory,
    manifest: dict[str, Any],
    shards: Sequence[Shard],
    config: ScanConfig,
    data: Callable[[], tuple[Source, Sequence[Shard]]],
) -> Decision:
    """The decision on the run's scores, after what people decided: in the file of `allow`, and then in the run, which counts more.

    Args:
        data: opens the data, and its shards as they are read; called if anybody has decided anything.
    """
    reviews = [*read_allowed(config.allow), *read_reviews(run, manifest)]
    scores = run.read_scores(shards)
    decision = decide_table(scores, partial(RunWords, run, shards), config, sides_of(config))
    if not reviews:
        return decision
    rows = RowPlaces(decision)
    Visitors(rows).read(*data())
    after = reviewed(scores, decision, reviews, rows.sha256)
    for note in after.notes[len(decision.notes) :]:
        log.warning("%s", note)
    return after


def _write(
    run: RunDirectory,
    manifest: dict[str, Any],
    source: Source,
    decision: Decision,
    previews: Previews,
    places: RowPlaces,
    words: Mapping[int, RowWords],
) -> dict[str, Any]:
    """Write the decision under temporary names first, so that a failure leaves the previous decision intact.

    Returns:
        The content of ``report.json``, whose previews are read while the rows are split.
    """
    apart = decision.unexamined & ~decision.kept
    names = ("kept", "flagged", "unexamined") if apart.any() else ("kept", "flagged")
    outputs = [run.output(name, source.suffix) for name in names]
    reports = [run.path / name for name in ("report.json", "report.html", "verdicts.parquet", "evidence.parquet")]
    with ExitStack() as stack:
        # The manifest is entered first, so it is renamed last.
        paths = [stack.enter_context(atomic_write(path)) for path in (run.manifest_path, *reports, *outputs)]
        manifest_path, json_path, html_path, verdicts_path, evidence_path, *parts = paths
        source.split(np.where(decision.flagged, 1, np.where(apart, 2, 0)), parts, Visitors(previews, places))
        document = report_document(decision, manifest, previews.rows, places)
        write_text(manifest_path, as_json(manifest))
        write_text(json_path, as_json(document))
        write_text(html_path, render(document, decision, manifest, previews.rows, words, outputs[0]))
        pq.write_table(decision.verdicts, verdicts_path)
        pq.write_table(decision.evidence, evidence_path)
    if not apart.any():
        remove(run.output("unexamined", source.suffix))  # of an earlier decision
    return document


def _config(manifest: dict[str, Any], threshold: str | float, options: Mapping[str, Any]) -> ScanConfig:
    """The run's options with the changes of a new decision."""
    check_names(options, {*DecisionOptions.__annotations__, "threshold"})
    held = dict(manifest["config"])
    if "paper" in (held.get("policy"), options.get("policy")):
        held["strict"] = False  # it has no effect there, and must not return unseen with the next change of policy
    try:
        config = ScanConfig(**held)
    except TypeError as error:
        raise RunError(f"the run was made by another version ({manifest.get('tool')}): {error}") from None
    return replace(config, **{"threshold": str(threshold), "allow": None, **options})


def _reopened(manifest: dict[str, Any], config: ScanConfig) -> tuple[Source, list[Shard]]:
    """The run's data, opened again; it must be unchanged."""
    where = manifest["data"]["reopen"]
    if where is None:
        raise UsageError("the run was made from rows in memory; call gradsentry.scan on them again")
    source = open_source(where, split=config.split, name=config.name, revision=config.revision, streaming=config.streaming)
    shards = source.plan(config.shard_rows)
    if source.fingerprint() != manifest["identity"]["data"]:
        raise RunError(f"{where} has changed since it was scored; scan it again")
    return source, shards
