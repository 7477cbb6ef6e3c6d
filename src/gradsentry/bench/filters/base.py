"""What a filter is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradsentry.bench.training import TargetModel

Rows = Sequence[Mapping[str, Any]]
"""Plain rows, ``{"prompt", "completion"}``."""
Floats = NDArray[np.float64]
Places = NDArray[np.int64]
"""[N] positions of a data set's rows among the M rows that were measured."""


@dataclass(frozen=True)
class Verdicts:
    """A filter's verdicts on N rows."""

    flagged: NDArray[np.bool_]
    """[N] True: taken for poisoned."""
    scores: Floats | None = None
    """[N] higher is more suspicious; None: the filter has no score (it clusters)."""


@dataclass(frozen=True)
class Filter:
    """A filter in two steps, so that what many data sets have in common is measured once."""

    about: str
    """What it does and whose it is, in one line."""
    measure: Callable[[TargetModel, Rows], Any]
    """Runs the model on M rows. Filters with the same function share its result."""
    decide: Callable[[Any, Places, Rows, int], Verdicts]
    """(measured, places [N] of a data set's rows among the M, those N rows, seed) -> verdicts."""
    per_row: bool = True
    """Whether `measure` treats each row by itself; if not, it runs anew on every data set."""
