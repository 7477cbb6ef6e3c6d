"""Defences: small functions that say which rows of a data set are poisoned; one file each, one line in `DEFENCES`.

ours.py       GradSentry, both policies      baselines.py  length, loss, duplicates, chance, nothing
graceful.py   gradients' low frequencies     spectral.py   the direction of most variance
cube.py       fine-tuned hidden states       onion.py      words without which a row reads better
ablations.py  the published rule, changed    passes.py     what several take from one forward pass
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradsentry.bench.training import Training
from gradsentry.errors import UsageError
from gradsentry.scorer import Scorer

Rows = Sequence[Mapping[str, Any]]
"""Plain rows, ``{"prompt", "completion"}``."""


@dataclass(frozen=True)
class Subject:
    """The model that is to be fine-tuned on the rows, and how."""

    model: str | None = None
    """A directory or Hub id; None: the embedded model."""
    device: str = "auto"
    dtype: str = "auto"
    training: Training = field(default_factory=Training)
    """For defences that fine-tune on the suspicious rows themselves."""

    @cached_property
    def scorer(self) -> Scorer:
        """Loaded once, for all defences of one pass."""
        return Scorer(self.model, device=self.device, dtype=self.dtype, format="prompt-completion")

    def load(self) -> None:
        """Load the scorer now, if it is not loaded."""
        _ = self.scorer

    def release(self) -> None:
        """Let go of the scorer, which is loaded again when it is asked for: training needs the memory."""
        self.__dict__.pop("scorer", None)


@dataclass(frozen=True)
class Verdicts:
    """What a defence says of N rows."""

    flagged: NDArray[np.bool_]
    """[N] taken for poisoned."""
    scores: NDArray[np.float64] | None = None
    """[N] higher is more suspicious; None where the defence has no score (clusters)."""


@dataclass(frozen=True)
class Defence:
    """A filter in two steps, so that what many data sets have in common is measured once."""

    about: str
    """What it is and whose, in one line."""
    measure: Callable[[Subject, Rows], Any]
    """Looks at M rows with the model. Defences that name one and the same function share its result."""
    decide: Callable[[Any, NDArray[np.int64], Rows, int], Verdicts]
    """From what was measured, the places [N] of a data set's rows among the M, those rows and a seed."""
    alone: bool = True
    """Whether each row is measured by itself; else the M rows are the data set, and `measure` is called for each anew."""


DEFENCES = {
    "paper": "ours:PAPER",
    "evidence": "ours:EVIDENCE",
    "paper-k4": "ablations:RANK_4",
    "paper-k8": "ablations:RANK_8",
    "paper-uncropped": "ablations:UNCROPPED",
    "graceful": "graceful:DEFENCE",
    "spectral": "spectral:DEFENCE",
    "cube": "cube:DEFENCE",
    "onion": "onion:DEFENCE",
    "length": "baselines:LENGTH",
    "loss": "baselines:LOSS",
    "duplicates": "baselines:DUPLICATE",
    "random": "baselines:RANDOM",
    "none": "baselines:NONE",
}
"""Every defence by its name: module of this package and name there, read when `defence` is asked for it."""

ONE_PASS = ("paper", "evidence", "graceful", "spectral", "length", "loss", "duplicates", "random")
"""The filters that a bench compares unless told otherwise: one forward pass, or none."""


def defence(name: str) -> Defence:
    """A defence by its name in `DEFENCES`.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in DEFENCES:
        close = get_close_matches(name, DEFENCES, n=1)
        meant = f", did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"defence {name!r} is unknown{meant}; there are {', '.join(DEFENCES)}")
    module, place = DEFENCES[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), place)
