"""Data sets that the `datasets` library opens: saved directories, plain directories, the Hub, its own objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry.errors import DataError, UsageError
from gradsentry.sources.table import DatasetSource

if TYPE_CHECKING:
    import datasets

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def looks_like_id(text: str) -> bool:
    """Whether this could name a data set on the Hub: ``name`` or ``org/name``."""
    return _HUB_ID.fullmatch(text) is not None


def from_object(data: Any, split: str | None) -> DatasetSource:
    """The source for a `datasets.Dataset` or one split of a `DatasetDict`.

    Raises:
        UsageError: It is something else, or `split` does not fit it.
    """
    import datasets

    if isinstance(data, datasets.Dataset) and split is not None:
        raise UsageError(f"a split ({split!r}) was asked for, but a Dataset has no splits; leave the split out")
    if isinstance(data, datasets.Dataset | datasets.DatasetDict):
        return DatasetSource(_choose(data, split, "the DatasetDict"), "dataset", "dataset")
    kind = type(data).__name__
    raise UsageError(
        f"a {kind} cannot be read as a data set; give a path, a Hub id, a datasets.Dataset (not an IterableDataset: "
        "rows are read more than once) or a list of dicts"
    )


def from_directory(path: Path, split: str | None) -> DatasetSource:
    """The source for a directory: one that save_to_disk made, or one that load_dataset understands.

    Raises:
        DataError: `datasets` cannot load it.
        UsageError: `split` does not fit it.
    """
    import datasets

    saved = any((path / name).is_file() for name in ("state.json", "dataset_info.json", "dataset_dict.json"))
    if saved:
        loaded = _load(
            lambda: datasets.load_from_disk(str(path)),
            f"{path}: the saved data set cannot be loaded",
            "save it again with save_to_disk",
        )
    else:
        loaded = _load(
            lambda: datasets.load_dataset(str(path), split=split),
            f"{path}: the directory cannot be loaded as a data set",
            "give one of the files in it",
        )
    return DatasetSource(_choose(loaded, split, str(path)), str(path), path.resolve().name)


def from_hub(name: str, split: str | None) -> DatasetSource:
    """The source for a data set on the Hub.

    Raises:
        DataError: There is none, it cannot be reached, or it needs choices that gradsentry does not offer.
        UsageError: `split` does not fit it.
    """
    import datasets

    loaded = _load(
        lambda: datasets.load_dataset(name, split=split),
        f"{name}: no file or directory has this name, and as the id of a data set on the Hub it cannot be loaded",
        "check the name and the connection, or load it in Python, save_to_disk and give that directory",
    )
    return DatasetSource(_choose(loaded, split, name), name, name)


def _load(load: Callable[[], Any], failure: str, advice: str) -> Any:
    """What `load` returns, with its many errors turned into one that says `failure`, the cause and `advice`."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    # Network and hub errors are OSErrors; unknown splits, several configurations and unreadable files ValueErrors;
    # data sets that are scripts RuntimeErrors; and hand-edited metadata gives KeyErrors, TypeErrors or IndexErrors.
    known = (DatasetsError, pa.ArrowException, OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError)
    try:
        return load()
    except known as error:
        raise DataError(f"{failure}: {_cause(error)}; {advice}") from error


def _choose(loaded: Any, split: str | None, name: str) -> datasets.Dataset:
    """The data set itself, or one split of several."""
    import datasets

    if isinstance(loaded, datasets.Dataset):
        return loaded
    splits = list(loaded)
    wanted = split or (splits[0] if len(splits) == 1 else "train")
    if wanted not in splits:
        asked = f"it has no split {split!r}" if split else "it has several splits"
        raise UsageError(f"{name}: {asked}; choose one of them: {', '.join(splits) or 'none'}")
    return loaded[wanted]


def _cause(error: BaseException) -> str:
    """The first line of what went wrong at the bottom: `datasets` wraps it in general words."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or type(error).__name__
