"""The model that the bench scores with and fine-tunes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from gradsentry.bench.training import Training
from gradsentry.scorer import Scorer


@dataclass(frozen=True)
class TargetModel:
    """The base model that will be fine-tuned on the rows, and how it will be fine-tuned."""

    model: str | None = None
    """A directory or Hub id; None: the embedded model."""
    device: str = "auto"
    dtype: str = "auto"
    training: Training = field(default_factory=Training)
    """Also used by filters that fine-tune on the suspicious rows themselves."""

    @cached_property
    def scorer(self) -> Scorer:
        """Loaded at first use and shared by all filters."""
        return Scorer(self.model, device=self.device, dtype=self.dtype, format="prompt-completion")

    def release(self) -> None:
        """Free the scorer, so that fine-tuning has its memory; the next use loads it again."""
        self.__dict__.pop("scorer", None)
