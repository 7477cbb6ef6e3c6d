"""Memory: how much a batch needs, how much is free, the batch size that follows, and smaller batches where it does not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from gradsentry.model.device import Sizes, sizes_for
from gradsentry.types import Encoded

log = logging.getLogger(__name__)

BATCH_BYTES_PER_WIDTH = 64
"""Peak bytes of a token in a batch for each unit of the model's width plus its feed-forward width. Measured with SmolLM2-135M on a
CPU: 33 (bfloat16) to 66 (float32). The upper end, so that a plan is rather too high than too low."""

LIVE_LOGIT_BLOCKS = 3
"""Blocks of logits in memory at the same time: the model's, their float32 copy, and delta."""

BATCH_SHARE_OF_FREE = 0.5
"""Share of the free memory that a batch may use."""

TOKEN_BUDGETS = {"cpu": 2048, "mps": 4096, "cuda": 16384}
"""Tokens in a batch by device type. `benchmarks/token_budget.py` compares budgets on a CPU; the GPU values are not measured."""

SCARCE_FACTOR = 4
"""A warning is logged if the token budget is smaller than the usual one by more than this factor."""

OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",  # a CPU
    "DefaultCPUAllocator: not enough memory",  # a CPU, on Windows
    "MPS backend out of memory",
    "error: out of memory",  # CUDA and HIP themselves, not torch's allocator
    "STATUS_ALLOC_FAILED",  # cuBLAS, cuSOLVER
)
"""Texts in the messages of out-of-memory errors that have no exception class."""


@dataclass(frozen=True)
class MemoryPlan:
    """The memory that a scan needs."""

    model: int
    """Bytes of the weights."""
    batch: int
    """Most bytes of one batch, if no row is longer than the token budget."""
    free: int
    """This process's share of the bytes that are free on the device, with the model loaded."""
    token_budget: int
    """Tokens in a batch."""
    sizes: Sizes
    """How much the device computes at once."""

    def __str__(self) -> str:
        model, batch, free = (f"{value / 2**20:,.0f} MiB" for value in (self.model, self.batch, self.free))
        return f"memory: model {model}, a batch of {self.token_budget:,} tokens about {batch}, {free} free"


def plan(model: Any, token_budget: int | None, processes: int = 1, sizes: Sizes | None = None) -> MemoryPlan:
    """The memory that scoring with this model needs.

    Args:
        token_budget: the user's; None chooses the device's usual one, or a smaller one if memory is scarce.
        processes: number of processes that share the machine's memory.
        sizes: None takes the device's.
    """
    config = model.config.get_text_config()
    feed_forward = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    if not isinstance(feed_forward, int):  # some models have one for each layer
        feed_forward = max(feed_forward)
    per_token = BATCH_BYTES_PER_WIDTH * (config.hidden_size + feed_forward)
    free = free_memory(model.device) // (processes if model.device.type == "cpu" else 1)
    sizes = sizes or sizes_for(model.device, free)
    logits = LIVE_LOGIT_BLOCKS * sizes.logit_bytes
    if token_budget is None:
        fitting = int((BATCH_SHARE_OF_FREE * free - logits) / per_token)
        usual = default_budget(model.device)
        token_budget = max(1, min(usual, fitting))
        if SCARCE_FACTOR * token_budget < usual:
            log.warning(
                "memory is scarce, which makes the scan slow: batches of %s tokens (usually %s) for %s MiB free; free some, or set "
                "--token-budget if more is free than that",
                *(f"{value:,.0f}" for value in (token_budget, usual, free / 2**20)),
            )
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return MemoryPlan(weights, logits + token_budget * per_token, free, token_budget, sizes)


def default_budget(device: torch.device) -> int:
    """Tokens in one batch without `--token-budget`."""
    return TOKEN_BUDGETS.get(device.type, TOKEN_BUDGETS["mps"])


def out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out. torch has an exception class for that on CUDA only, and not for all cases there."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in OUT_OF_MEMORY_MESSAGES)


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still allocate on the device; on a CPU within the limit of its control group (a container)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(psutil.virtual_memory().available, _group_limit())


def _group_limit(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes left in the control group (version 2, seen from inside a container); a huge number without a group or a limit.

    The group counts cached file pages as used; the kernel frees the inactive ones on demand, so they are added back.
    """
    try:
        limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):  # no such file, or the word "max"
        return 1 << 62


Result = TypeVar("Result")


def in_fitting_batches(
    rows: Sequence[Encoded], token_budget: int, compute: Callable[[Sequence[Encoded], int], Iterator[tuple[list[Encoded], Result]]]
) -> Iterator[tuple[list[Encoded], Result | None]]:
    """Results for all rows, in smaller batches if memory runs out.

    After an out-of-memory error the rows without a result are tried with a quarter of the budget, at last one row at a time,
    the longest first. A row that does not fit alone is yielded with None, and the other rows continue with the full budget.

    Args:
        compute: (rows, token budget) -> rows of a batch and the result for them, batch by batch.
    """
    waiting, budget, alone = list(rows), token_budget, False
    while waiting:
        done: set[int] = set()
        attempt = [max(waiting, key=lambda row: len(row.input_ids))] if alone else waiting
        full = False
        try:
            for members, result in compute(attempt, budget):
                done.update(row.row for row in members)
                yield members, result
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            full = True  # handled below: the error, while it is handled, keeps what filled the memory
        if full and alone:
            done.add(attempt[0].row)
            yield attempt, None
            budget, alone = token_budget, False
        elif full and budget == 1:
            alone = True
        elif full:
            budget = max(1, budget // 4)
            log.warning("out of memory: continuing with %d tokens in a batch; set a scan's --token-budget to start with that", budget)
        waiting = [row for row in waiting if row.row not in done]


Item = TypeVar("Item")


def one_behind(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each after the next one was made. If making one fails, the item before it is yielded first, so that it is not lost."""
    failure: Exception | None = None
    waiting: list[Item] = []
    try:
        for item in items:
            yield from waiting
            waiting = [item]
    except (MemoryError, RuntimeError) as error:
        failure = error
    yield from waiting
    if failure is not None:
        raise failure
