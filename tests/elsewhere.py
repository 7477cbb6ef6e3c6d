"""Tensors that behave as on a device without float64 (Apple's GPUs), wherever the tests run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Elsewhere(Tensor):
    """A tensor that is told to be on the device "mps", and refuses to be made float64 there."""

    @staticmethod
    def of(tensor: Tensor) -> Elsewhere:
        return torch.Tensor._make_subclass(Elsewhere, tensor.detach())

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return torch.device("mps")

    def cpu(self, *args: Any, **options: Any) -> Tensor:
        return self.as_subclass(Tensor)

    def double(self, *args: Any, **options: Any) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")

    def to(self, *args: Any, **options: Any) -> Tensor:
        if torch.float64 in (*args, *options.values()):
            return self.double()
        if "cpu" in args:
            return self.cpu()
        return super().to(*args, **options)
