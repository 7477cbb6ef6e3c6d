"""Data sets that the `datasets` library opens: saved directories, plain directories, ids on the Hub, its own objects."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gradsentry.data.sources.dataset import DatasetSource, library_errors
from gradsentry.data.sources.files import sha256_of
from gradsentry.data.sources.parquet import tables_of_files
from gradsentry.data.sources.stream import StreamSource, copy_stream
from gradsentry.errors import DataError, UsageError

log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def looks_like_id(text: str) -> bool:
    """Whether this could name a data set on the Hub: ``name`` or ``org/name``."""
    return _HUB_ID.fullmatch(text) is not None


def from_object(data: Any, split: str | None) -> DatasetSource:
    """The source for a `datasets.Dataset` or `IterableDataset`, or one split of a dict of them.

    Raises:
        UsageError: it is something else, or `split` does not fit it.
        DataError: the rows of an `IterableDataset` cannot be read.
    """
    import datasets

    kind = type(data).__name__
    if isinstance(data, datasets.Dataset | datasets.IterableDataset) and split is not None:
        raise UsageError(f"a split ({split!r}) was given, but a single {kind} has no splits; leave the split out")
    if isinstance(data, datasets.Dataset | datasets.DatasetDict):
        return DatasetSource(_choose(data, split, f"the {kind}"), "dataset", "dataset")
    if isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict):
        return copy_stream(_choose(data, split, f"the {kind}"), "stream", "stream")
    raise UsageError(
        f"a {kind} cannot be read as a data set; give a path, a Hub id, a datasets.Dataset or IterableDataset, or a list of dicts"
    )


def from_directory(path: Path, split: str | None, streaming: bool) -> DatasetSource | StreamSource:
    """The source for a directory: one that save_to_disk made, or one that load_dataset reads.

    Raises:
        DataError: `datasets` cannot load it.
        UsageError: `split` does not fit it.
    """
    import datasets

    name, where = str(path), path.resolve()  # load_dataset(".") finds nothing
    if any((path / file).is_file() for file in ("state.json", "dataset_info.json", "dataset_dict.json")):
        failure, advice = f"{path}: the saved data set cannot be loaded", "save it again with save_to_disk"
        loaded = _load(lambda: datasets.load_from_disk(str(where)), failure, advice)
    else:
        log.info("looking for data files in %s", path)  # the search includes subdirectories and may take minutes
        failure, advice = f"{path}: the directory cannot be loaded as a data set", "give one of the files in it"
        if streaming:
            return _stream(str(where), split, name, where.name, failure, advice)
        loaded = _load(lambda: datasets.load_dataset(str(where), split=split), failure, advice)
    return DatasetSource(_choose(loaded, split, name), name, where.name)


def from_hub(name: str, split: str | None, streaming: bool) -> DatasetSource | StreamSource:
    """The source for a data set on the Hub.

    Raises:
        DataError: it does not exist, cannot be reached, or needs options that gradsentry does not have.
        UsageError: `split` does not fit it.
    """
    import datasets

    failure = f"{name}: no file or directory has this name, and as the id of a data set on the Hub it cannot be loaded"
    advice = "check the name and the connection, or load it in Python, save_to_disk and give that directory"
    if streaming:
        return _stream(name, split, name, name, failure, advice)
    return DatasetSource(_choose(_load(lambda: datasets.load_dataset(name, split=split), failure, advice), split, name), name, name)


def _stream(where: str, split: str | None, name: str, place: str, failure: str, advice: str) -> DatasetSource | StreamSource:
    """The stream that load_dataset makes of a directory or id; its builder knows revision, files and row count."""
    import datasets

    builder = _load(lambda: datasets.load_dataset_builder(where), failure, advice)
    stream = _choose(_load(builder.as_streaming_dataset, failure, advice), split, name)
    chosen, splits = str(stream.split), builder.info.splits or {}
    files = [str(file) for file in (builder.config.data_files or {}).get(chosen, ())]
    local = bool(files) and all(map(os.path.isfile, files))
    if builder.repo_id is not None:
        identity = partial(str, f"{builder.repo_id}@{builder.hash} {builder.config.name} {chosen}")
    elif local:
        identity = partial(_content_hash, files)
    else:  # data from somewhere else, such as the addresses in a directory's README
        return copy_stream(stream, name, place)
    tables = None
    if local and builder.name == "parquet" and all(file.endswith(".parquet") for file in files):
        tables = partial(tables_of_files, files, stream.features.arrow_schema)
    rows = (splits[chosen].num_examples if chosen in splits else None) or None
    arrow = isinstance(builder, datasets.ArrowBasedBuilder)
    return StreamSource(stream, name, place, identity, rows=rows, arrow=arrow, tables=tables)


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


def _choose(loaded: Any, split: str | None, name: str) -> Any:
    """The data set itself, or one split of several."""
    import datasets

    if isinstance(loaded, datasets.Dataset | datasets.IterableDataset):
        return loaded
    splits = list(loaded)
    wanted = split or (splits[0] if len(splits) == 1 else "train")
    if wanted not in splits:
        problem = f"it has no split {split!r}" if split else "it has several splits"
        raise UsageError(f"{name}: {problem}; choose one of them: {', '.join(splits) or 'none'}")
    return loaded[wanted]
