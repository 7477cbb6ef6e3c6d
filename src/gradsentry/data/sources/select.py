"""Chosen rows of data in memory, as the same kind of object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradsentry.errors import DataError, UsageError

TextOf = Callable[[int, Any], str]
"""The text of a row, from its number and value."""


def selected(data: Any, kept: NDArray[np.bool_], texts: Mapping[int, str], text_of: TextOf) -> Any:
    """The rows of `data` where `kept` is true.

    Args:
        kept: [N] one value a row.
        texts: of some rows that are not kept, to tell these rows from others.

    Raises:
        UsageError: rows cannot be chosen from such an object.
        DataError: it has another number of rows, or another row in a place of `texts`.
    """
    import datasets
    import pandas as pd
    import pyarrow as pa

    if isinstance(data, datasets.DatasetDict):
        bounds = np.cumsum([0, *(len(part) for part in data.values())])
        _check_count(int(bounds[-1]), len(kept))
        names = zip(data, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        parts = {name: (data[name], kept[a:b], {row - a: text for row, text in texts.items() if a <= row < b}) for name, a, b in names}
        return datasets.DatasetDict({name: selected(*part, text_of) for name, part in parts.items()})
    if isinstance(data, datasets.IterableDataset):
        return _stream(data, kept, texts, text_of)
    if isinstance(data, str) or not isinstance(data, datasets.Dataset | pd.DataFrame | pa.Table | Sequence):
        kinds = "a datasets.Dataset, DatasetDict or IterableDataset, a pandas DataFrame, a pyarrow Table, or a list"
        raise UsageError(f"rows cannot be chosen from a {type(data).__name__}; give {kinds}, or read the files kept.* of a run")
    _check_count(len(data), len(kept))
    rows = np.flatnonzero(kept)
    if isinstance(data, pd.DataFrame):
        _check_texts(lambda row: data.iloc[row].to_dict(), texts, text_of)
        return data.iloc[rows]
    if isinstance(data, pa.Table):
        _check_texts(lambda row: data.slice(row, 1).to_pylist()[0], texts, text_of)
        return data.take(rows)
    if isinstance(data, datasets.Dataset):
        plain = data.with_format(None)
        _check_texts(lambda row: plain[row], texts, text_of)
        return data.select(rows)
    _check_texts(data.__getitem__, texts, text_of)
    return [data[row] for row in rows]


def _stream(data: Any, kept: NDArray[np.bool_], texts: Mapping[int, str], text_of: TextOf) -> Any:
    """A stream of the kept rows, which raises DataError where it turns out to be another one.

    One generator reads all rows: `filter` with indices would number the rows of each loader's worker from 0.
    """
    import datasets
    from torch.utils.data import get_worker_info

    stored = data.decode(False) if data.features else data

    def rows() -> Iterator[Any]:
        row, worker = -1, get_worker_info()
        if worker is not None and worker.num_workers > 1:
            raise UsageError(f"{worker.num_workers} workers would each read a part of the stream, whose rows are numbered; use one worker")
        for row, value in enumerate(stored):
            if row >= len(kept):
                break
            if row in texts:
                _check_texts(lambda _, value=value: value, {row: texts[row]}, text_of)
            if kept[row]:
                yield value
        _check_count(row + 1, len(kept))

    return datasets.IterableDataset.from_generator(rows, features=data.features)


def _check_count(count: int, scanned: int) -> None:
    if count != scanned:
        more = "more" if count > scanned else "fewer"
        raise DataError(f"the data has {more} rows than the {scanned:,} that were scanned; give the rows that were scanned, or scan these")


def _check_texts(row_at: Callable[[int], Any], texts: Mapping[int, str], text_of: TextOf) -> None:
    for row, text in texts.items():
        if text_of(row, row_at(row)) != text:
            raise DataError(
                f"row {row} is not the one that was flagged: the data has other rows or another order than was scanned; "
                "give the rows as they were scanned, or scan these"
            )
