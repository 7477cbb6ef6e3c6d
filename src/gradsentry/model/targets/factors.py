"""What a scored parameter gives for each row: the seam for parameters other than the output projection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gradsentry import spectrum


@dataclass(frozen=True)
class RowGradient:
    """One row's gradient, reduced to what its spectrum and its loss need."""

    gram_pair: spectrum.GramPair
    """[n, n] with n = min(T, columns of `hidden` that the crop keeps), of the gradient of the SUMMED loss."""
    losses: Tensor
    """[T] float32, negative log-likelihood of each supervised token in nats."""


class Target(Protocol):
    """A scored weight [out, in]. Both methods take a row's states [T, d] before the head and the tokens [T] that they predict."""

    def gradients(self, states: Sequence[Tensor], labels: Sequence[Tensor]) -> list[RowGradient]:
        """The gradient of each row, in order."""
        ...

    def deltas(self, states: Tensor, labels: Tensor) -> Iterator[Tensor]:
        """[n, out] gradients of the token losses at the layer's output without any crop, a block of consecutive tokens at a time."""
        ...
