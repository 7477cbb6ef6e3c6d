"""What a scored parameter gives for the rows of a batch: the seam for parameters other than the output projection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from gradsentry import spectrum


@dataclass(frozen=True)
class Gradients:
    """The gradients of the rows of a batch, reduced to what their spectra and losses need."""

    losses: Tensor
    """[N] float32, negative log-likelihood of each supervised token in nats, in the order in which the tokens were given."""
    members: list[list[int]]
    """Which rows each group of Gram matrices has."""
    gram_pairs: list[spectrum.GramPair]
    """[rows, n, n] for each group, of the gradients of the SUMMED losses; n is the largest `Target.n_values` in it. The matrices of a row
    with fewer values have zeros behind them."""


class Target(Protocol):
    """A scored weight [out, in]. Both methods take states [N, d] before the head and the tokens [N] that they predict."""

    def gradients(self, states: Tensor, labels: Tensor, lengths: Sequence[int]) -> Gradients:
        """The gradient of each row; `lengths` has the number of tokens of each row, one behind the other in `states`."""
        ...

    def n_values(self, n_tokens: int) -> int:
        """Number of singular values of a row with so many supervised tokens."""
        ...

    def deltas(self, states: Tensor, labels: Tensor) -> Iterator[Tensor]:
        """[n, out] gradients of the token losses at the layer's output without any crop, a block of consecutive tokens at a time."""
        ...
