"""Filters: functions that decide which rows of a data set are poisoned. One small file each, one line in `FILTERS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradsentry.bench.registry import Registry

if TYPE_CHECKING:
    from gradsentry.bench.filters.base import Filter

FILTERS: Registry[Filter] = Registry(
    "filter",
    {
        "paper": "filters.ours:PAPER",
        "evidence": "filters.ours:EVIDENCE",
        "paper-k4": "filters.ours:RANK_4",
        "paper-k8": "filters.ours:RANK_8",
        "paper-uncropped": "filters.ours:UNCROPPED",
        "graceful": "filters.graceful:FILTER",
        "spectral": "filters.spectral:FILTER",
        "cube": "filters.cube:FILTER",
        "onion": "filters.onion:FILTER",
        "length": "filters.baselines:LENGTH",
        "loss": "filters.baselines:LOSS",
        "duplicates": "filters.baselines:DUPLICATE",
        "random": "filters.baselines:RANDOM",
        "none": "filters.baselines:NONE",
    },
)

ONE_PASS = ("paper", "evidence", "graceful", "spectral", "length", "loss", "duplicates", "random")
"""The filters that a bench compares by default: they need one forward pass, or none."""
SLOW = ("cube", "onion")
"""Filters that fine-tune a model or delete word by word."""
CLEANGEN = "cleangen"
"""The one defence that is no filter: it flags nothing and decodes with the base model beside the fine-tuned one."""
