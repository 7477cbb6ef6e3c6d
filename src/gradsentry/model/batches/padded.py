"""Rows -> bins of similar length under a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TOKEN_BUDGETS = {"cpu": 2048, "mps": 4096, "cuda": 16384}
"""Tokens in a batch by device type. `benchmarks/token_budget.py` compares budgets on a CPU; the GPU values are not measured."""


def default_budget(device: torch.device) -> int:
    """Tokens in one batch without `--token-budget`."""
    return TOKEN_BUDGETS.get(device.type, TOKEN_BUDGETS["mps"])


def bins(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Row indices 0..n-1 grouped so that ``longest row x number of rows <= token_budget`` in every bin.

    The cost of a padded batch is its longest row times its number of rows, so rows are sorted by length to keep the
    padding small. A row longer than the budget gets a bin for itself. The longest rows come first, so that a batch too
    large for the device fails at the start.

    Raises:
        ValueError: a budget below 1.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; it must be at least 1")
    result: list[list[int]] = []
    longest = 0
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not result or longest * (len(result[-1]) + 1) > token_budget:
            result.append([])
            longest = lengths[position]
        result[-1].append(position)
    return result
