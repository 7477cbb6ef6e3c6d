"""What depends on the device: the sizes of what is computed at once, and copies between host and device.

A CPU wants blocks that stay in its cache and no padding. A GPU wants few operators, each over a whole batch, and a host that never
waits for it. The code that computes is the same for both.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """How much a device computes at once."""

    logit_bytes: int
    """Bytes of one float32 block of logits, and of the largest whole delta of a row; a larger delta is computed some columns at a time."""
    softmax_tokens: int
    """Tokens whose logits go through the softmax at a time."""
    gram_padding: float
    """Largest ratio between the lengths of two rows whose Gram matrices are made together; the shorter is padded."""
    gathered_keys: int
    """Most keys gathered for one attention call of padded blocks; bounds the copy of keys and values."""
    attention_padding: float
    """Largest ratio of query-key pairs computed with padding to those needed, in such a call."""
    variable_length: bool
    """Whether a layer attends in one call of torch's variable-length kernel. `checks.pick_packing` decides for which models."""
    solving_threads: int
    """Threads of the host that compute spectra while the device computes the next batch."""


CPU = Sizes(
    logit_bytes=32 * 2**20,
    softmax_tokens=32,
    gram_padding=1.0,
    gathered_keys=16384,
    attention_padding=1.25,
    variable_length=False,
    solving_threads=1,
)
"""Larger blocks of logits are slower on a CPU: they do not fit its cache, and the C library returns them to the system each time."""

LOGIT_SHARE_OF_FREE = 1 / 64
"""Share of a GPU's free memory for a block of logits, of which `memory.LIVE_LOGIT_BLOCKS` live at once. Not measured."""

MOST_LOGIT_BYTES = 2**30
"""Bytes of the largest block of logits on a GPU: 2,000 tokens of a vocabulary of 128,000. Not measured."""


def sizes_for(device: torch.device, free: int) -> Sizes:
    """The sizes for a device with so many free bytes."""
    if device.type == "cpu":
        return CPU
    block = min(max(int(LOGIT_SHARE_OF_FREE * free), CPU.logit_bytes), MOST_LOGIT_BYTES)
    return Sizes(
        logit_bytes=block,
        softmax_tokens=block,  # a whole block: no token takes less than a byte
        gram_padding=2.0,
        gathered_keys=2**18,
        attention_padding=4.0,
        variable_length=device.type == "cuda",
        solving_threads=os.cpu_count() or 1,
    )


def to_device(array: NDArray[np.int64] | NDArray[np.int32] | NDArray[np.bool_], device: torch.device) -> Tensor:
    """The array on the device. The host does not wait for the copy to a CUDA device."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class HostCopy:
    """Tensors on their way to the host, in one copy that runs beside what the device computes next.

    Args:
        tensors: of any shapes, on `device` or already on the host. The copied ones arrive in the widest dtype among them.
    """

    def __init__(self, tensors: Sequence[Tensor], device: torch.device) -> None:
        self._shapes = [tensor.shape if tensor.device == device else None for tensor in tensors]
        self._on_host = [tensor for tensor in tensors if tensor.device != device]
        flat = torch.cat([tensor.flatten() for tensor in tensors if tensor.device == device])
        self._flat = flat.to("cpu", non_blocking=True)  # from CUDA into pinned memory
        self._event = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None

    def wait(self) -> list[Tensor]:
        """The tensors on the host, in order."""
        if self._event is not None:
            self._event.synchronize()
        on_host = iter(self._on_host)
        copied = iter(self._flat.split([math.prod(shape) for shape in self._shapes if shape is not None]))
        return [next(on_host) if shape is None else next(copied).view(shape) for shape in self._shapes]
