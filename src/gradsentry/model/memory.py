"""How much memory a batch takes and how much there is: said before a scan starts, and what the batch size is chosen from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from gradsentry.model.batches.padded import default_budget
from gradsentry.model.targets.head import BLOCK

log = logging.getLogger(__name__)

PER_WIDTH = 64
"""Bytes a token takes in a batch for each unit of the model's width and of its feed-forward width, at the peak. Measured
on SmolLM2-135M on a CPU: 33 to 66 (bfloat16 to float32); above it, so that the plan errs on the safe side."""

BLOCKS = 3
"""Blocks of logits in memory at once: as the model gives them, raised to float32, and delta."""

SHARE = 0.5
"""Part of the free memory that a batch may take."""

SCARCE = 4
"""A batch of less than the usual one's tokens by this factor is warned of."""

FULL = (
    "can't allocate memory",  # a CPU
    "DefaultCPUAllocator: not enough memory",  # a CPU, on Windows
    "MPS backend out of memory",
    "error: out of memory",  # CUDA and HIP themselves, not torch's allocator
    "STATUS_ALLOC_FAILED",  # cuBLAS, cuSOLVER
)
"""How messages of errors that have no class of their own say that memory could not be had."""


@dataclass(frozen=True)
class MemoryPlan:
    """What a scan will take."""

    model: int
    """Bytes of the weights."""
    batch: int
    """Bytes of one batch at most, rows of ordinary length."""
    free: int
    """Bytes free on the device when the model was loaded, for this process's share."""
    token_budget: int
    """Tokens in a batch."""

    def __str__(self) -> str:
        model, batch, free = (f"{value / 2**20:,.0f} MiB" for value in (self.model, self.batch, self.free))
        return f"memory: model {model}, a batch of {self.token_budget:,} tokens about {batch}, {free} free"


def plan(model: Any, token_budget: int | None, processes: int = 1) -> MemoryPlan:
    """The memory that scoring with this model takes.

    Args:
        token_budget: as the user gave it; None chooses the device's usual one, or less where memory is scarce.
        processes: how many share the machine's memory.
    """
    config = model.config.get_text_config()
    feed_forward = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    if not isinstance(feed_forward, int):  # some models give one for each layer
        feed_forward = max(feed_forward)
    per_token = PER_WIDTH * (config.hidden_size + feed_forward)
    free = free_memory(model.device) // (processes if model.device.type == "cpu" else 1)
    if token_budget is None:
        most = int((SHARE * free - BLOCKS * BLOCK) / per_token)
        usual = default_budget(model.device)
        token_budget = max(1, min(usual, most))
        if SCARCE * token_budget < usual:
            log.warning(
                "memory is scarce, which makes the scan slow: batches of %s tokens (usually %s) for %s MiB free; free some, or set "
                "--token-budget if more is free than that",
                *(f"{value:,.0f}" for value in (token_budget, usual, free / 2**20)),
            )
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return MemoryPlan(weights, BLOCKS * BLOCK + token_budget * per_token, free, token_budget)


def out_of_memory(error: Exception) -> bool:
    """Whether memory could not be had; torch has an exception of its own for that on CUDA alone, and not for all that CUDA tells."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in FULL)


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still have on the device; on a CPU within the limit of its control group (a container)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(psutil.virtual_memory().available, _group_limit())


def _group_limit(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes left in the control group (version 2, as seen from inside a container); plenty where there is none or no limit.

    Pages of files that were read count as used there, but those not in use lately are given back when memory is asked for.
    """
    try:
        most, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, most - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):  # no such file, or the word "max"
        return 1 << 62
