"""Data sets that the `datasets` library opens: saved directories, plain directories, ids on the Hub, its own objects."""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import re
from collections.abc import Callable, Collection
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from gradsentry.data.sources.dataset import DatasetSource, library_errors
from gradsentry.data.sources.files import sha256_of
from gradsentry.data.sources.parquet import tables_of_files
from gradsentry.data.sources.splits import SplitsSource
from gradsentry.data.sources.stream import StreamSource, copy_stream
from gradsentry.errors import DataError, UsageError

log = logging.getLogger(__name__)

DATA_SUFFIXES: dict[str, tuple[str, dict[str, Any]]] = {
    ".jsonl": ("json", {}),
    ".ndjson": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".parquet": ("parquet", {}),
}
"""Files of a directory that hold rows, with the builder of `datasets` that reads them. A .json file may as well be a description."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def looks_like_id(text: str) -> bool:
    """Whether this could name a data set on the Hub: ``name`` or ``org/name``."""
    return _HUB_ID.fullmatch(text) is not None


def from_object(data: Any, split: str | None) -> DatasetSource | SplitsSource:
    """The source for a `datasets.Dataset` or `IterableDataset`, or for the splits of a dict of them.

    Raises:
        UsageError: it is something else, or `split` does not fit it.
        DataError: the rows of an `IterableDataset` cannot be read.
    """
    import datasets

    kind = type(data).__name__
    if isinstance(data, datasets.Dataset | datasets.IterableDataset) and split is not None:
        raise UsageError(f"a split ({split!r}) was given, but a single {kind} has no splits; leave the split out")
    if isinstance(data, datasets.Dataset | datasets.DatasetDict):
        return _source(data, split, "dataset", "dataset", f"the {kind}")
    if isinstance(data, datasets.IterableDataset):
        return copy_stream(data, "stream", "stream")
    if isinstance(data, datasets.IterableDatasetDict):
        chosen, notes = _chosen(list(map(str, data)), split, f"the {kind}")
        parts = {part: copy_stream(data[part], "stream", "stream" if len(chosen) == 1 else f"stream {part}") for part in chosen}
        return _joined(parts, "stream", notes)
    raise UsageError(
        f"a {kind} cannot be read as a data set; give a path, a Hub id, a datasets.Dataset or IterableDataset, a DataFrame, an Arrow "
        "table, or a list of dicts"
    )


def from_directory(path: Path, split: str | None, config: str | None, streaming: bool) -> DatasetSource | SplitsSource | StreamSource:
    """The source for a directory: one that save_to_disk made, or one that load_dataset reads.

    Data files that load_dataset leaves out, because they have another suffix or fit no split, are read as splits of their own,
    unless `split` or `config` names what to read.

    Raises:
        DataError: `datasets` cannot load it.
        UsageError: `split` or `config` does not fit it.
    """
    import datasets

    name, where = str(path), path.resolve()  # load_dataset(".") finds nothing
    if any((path / file).is_file() for file in ("state.json", "dataset_info.json", "dataset_dict.json")):
        if config is not None:
            raise UsageError(f"a name ({config!r}) was given, but {name} is a saved data set without configurations; leave the name out")
        failure, advice = f"{path}: the saved data set cannot be loaded", "save it again with save_to_disk"
        return _source(_load(lambda: datasets.load_from_disk(str(where)), failure, advice), split, name, where.name)
    log.info("looking for data files in %s", path)  # the search includes subdirectories and may take minutes
    failure, advice = f"{path}: the directory cannot be loaded as a data set", "give one of the files in it"
    builder = _builder(str(where), config, None, failure, advice)
    others = _other_files(where, builder)
    if streaming or split or config:
        notes = (f"{name}: not read are the files {', '.join(others)}",) if others else ()
        if streaming:
            return _stream(builder, split, name, where.name, failure, advice, notes)
        notes = (*_other_splits(builder, split, name), *notes)
        return _source(_loaded(builder, split, failure, advice), split, name, where.name, notes=notes)
    notes = []
    parts = dict(_loaded(builder, None, failure, advice))
    for file in others:
        try:
            parts[_split_name(file, parts)] = _file_of_directory(where / file)
        except DataError as error:
            notes.append(f"{name}: a file is not read: {error}")
    return _source(parts, None, name, where.name, notes=tuple(notes))


def from_hub(
    name: str, split: str | None, config: str | None, revision: str | None, streaming: bool
) -> DatasetSource | SplitsSource | StreamSource:
    """The source for a data set on the Hub.

    Raises:
        DataError: it does not exist, cannot be reached, or needs options that gradsentry does not have.
        UsageError: `split` or `config` does not fit it.
    """
    failure = f"{name}: no file or directory has this name, and as the id of a data set on the Hub it cannot be loaded"
    advice = "check the name and the connection, or load it in Python, save_to_disk and give that directory"
    builder = _builder(name, config, revision, failure, advice)
    notes = tuple(
        f"{name}: the configuration {builder.config.name!r} is read; it also has {', '.join(others)}"
        for others in [[other for other in builder.builder_configs if other != builder.config.name]]
        if others
    )
    if streaming:
        return _stream(builder, split, name, name, failure, advice, notes)
    return _source(_loaded(builder, split, failure, advice), split, name, name, notes=(*_other_splits(builder, split, name), *notes))


def _stream(
    builder: Any, split: str | None, name: str, place: str, failure: str, advice: str, notes: tuple[str, ...]
) -> DatasetSource | StreamSource:
    """The stream that the builder makes; the builder knows revision, files and row count."""
    import datasets

    streams, splits = _load(builder.as_streaming_dataset, failure, advice), builder.info.splits or {}
    if split is None and len(streams) > 1:
        choice = f"choose it with --split ({', '.join(map(str, streams))}), or leave out --streaming"
        raise UsageError(f"{name}: a stream is read from one split; {choice}")
    (chosen,), left_out = _chosen(list(streams), split, name)
    stream, notes = streams[chosen], (*left_out, *notes)
    files = [str(file) for file in (builder.config.data_files or {}).get(chosen, ())]
    local = bool(files) and all(map(os.path.isfile, files))
    if builder.repo_id is not None:
        identity = partial(str, f"{builder.repo_id}@{builder.hash} {builder.config.name} {chosen}")
    elif local:
        identity = partial(_content_hash, files)
    else:  # data from somewhere else, such as the addresses in a directory's README
        return copy_stream(stream, name, place, notes)
    tables = None
    if local and builder.name == "parquet" and all(file.endswith(".parquet") for file in files):
        tables = partial(tables_of_files, files, stream.features.arrow_schema)
    rows = (splits[chosen].num_examples if chosen in splits else None) or None
    arrow = isinstance(builder, datasets.ArrowBasedBuilder)
    return StreamSource(stream, name, place, identity, rows=rows, arrow=arrow, tables=tables, notes=notes)


def _content_hash(files: list[str]) -> str:
    """SHA-256 over the files' names and contents, in order."""
    lines = [f"{os.path.basename(file)} {sha256_of(Path(file))}\n" for file in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _load(load: Callable[[], Any], failure: str, advice: str) -> Any:
    """What `load` returns; its many kinds of errors become one DataError with `failure`, the cause and `advice`."""
    try:
        return load()
    except library_errors() as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # `datasets` wraps the innermost error in general words
            cause = cause.__cause__
        reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
        raise DataError(f"{failure}: {reason}; {advice}") from error


def _builder(where: str, config: str | None, revision: str | None, failure: str, advice: str) -> Any:
    """What `datasets` knows of a data set before it reads the rows."""
    import datasets

    try:
        return _load(lambda: datasets.load_dataset_builder(where, config, revision=revision), failure, advice)
    except DataError as error:
        missing = re.search(r"Config name is missing.*available configs: (\[.*?\])", str(error.__cause__), re.DOTALL)
        if missing is None:
            raise
        names = ", ".join(ast.literal_eval(missing.group(1)))
        raise UsageError(f"{where}: choose one of its configurations with --name: {names}") from error


def _loaded(builder: Any, split: str | None, failure: str, advice: str) -> Any:
    """All splits of the data set, or what `split` names in the notation of `datasets`."""

    def load() -> Any:
        builder.download_and_prepare()
        return builder.as_dataset(split=split)

    return _load(load, failure, advice)


def _other_files(folder: Path, builder: Any) -> list[str]:
    """The data files in the directory that the builder does not read, as paths in it. Hidden ones do not count, as for `datasets`."""
    files = {os.path.realpath(file) for files in (builder.config.data_files or {}).values() for file in files}
    inner = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in DATA_SUFFIXES and path.is_file())
    others = [path.relative_to(folder) for path in inner if os.path.realpath(path) not in files]
    return [str(path) for path in others if not any(part.startswith(".") for part in path.parts)]


def _file_of_directory(path: Path) -> Any:
    """A data file that the directory's builder leaves out."""
    import datasets

    kind, options = DATA_SUFFIXES[path.suffix.lower()]
    failure, advice = f"{path}: it cannot be loaded", "give it alone"
    return _load(lambda: datasets.load_dataset(kind, data_files=str(path), split="train", **options), failure, advice)


def _split_name(file: str, taken: Collection[str]) -> str:
    """A name for a split of this file: `datasets` allows letters, digits and underscores."""
    name = re.sub(r"\W", "_", file)
    return next(found for number in count() if (found := name + "_" * number) not in taken)


def _other_splits(builder: Any, split: str | None, name: str) -> tuple[str, ...]:
    """A note on the splits that `split` leaves out."""
    known = [*(builder.info.splits or builder.config.data_files or ())]
    others = [other for other in map(str, known) if split is not None and other not in re.split(r"[\[+\]]", split)]
    return (f"{name}: only the split {split!r} is read; it also has {', '.join(others)}",) if others else ()


def _source(loaded: Any, split: str | None, name: str, place: str, owner: str = "", notes: tuple[str, ...] = ()) -> Any:
    """The source for one data set, or for the splits of several; `owner` names the data in messages."""
    import datasets

    if isinstance(loaded, datasets.Dataset):
        return DatasetSource(loaded, name, place, notes=notes)
    chosen, left_out = _chosen(list(loaded), split, owner or name)
    places = {part: place if len(chosen) == 1 else f"{place} {part}" for part in chosen}
    return _joined({part: DatasetSource(loaded[part], name, places[part]) for part in chosen}, name, (*left_out, *notes))


def _joined(parts: dict[str, DatasetSource], name: str, notes: tuple[str, ...]) -> DatasetSource | SplitsSource:
    """One source for all parts."""
    if len(parts) > 1:
        return SplitsSource(parts, name, notes)
    (source,) = parts.values()
    source.notes = notes
    return source


def _chosen(splits: list[str], split: str | None, name: str) -> tuple[list[str], tuple[str, ...]]:
    """The splits to read, and a note on the others.

    Raises:
        UsageError: there is no such split, or none at all.
    """
    splits = list(map(str, splits))
    if split is None and splits:
        return splits, ()
    if split not in splits:
        problem = f"it has no split {split!r}; choose one of them: {', '.join(splits)}" if splits else "it has no splits"
        raise UsageError(f"{name}: {problem}")
    others = [other for other in splits if other != split]
    return [split], ((f"{name}: only the split {split!r} is read; it also has {', '.join(others)}",) if others else ())
