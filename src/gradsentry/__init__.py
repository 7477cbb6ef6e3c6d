"""Find backdoor-poisoned rows in fine-tuning data, before training on them.

import gradsentry
result = gradsentry.scan("data.jsonl", out="runs/first")
clean = dataset.select(result.kept)
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from gradsentry._version import __version__

if TYPE_CHECKING:
    from gradsentry import spectrum
    from gradsentry.api import redecide, scan
    from gradsentry.config import ScanConfig
    from gradsentry.errors import GradsentryError
    from gradsentry.result import ScanResult
    from gradsentry.scorer import Scorer
    from gradsentry.verdict.decide import decide

__all__ = ["GradsentryError", "ScanConfig", "ScanResult", "Scorer", "__version__", "decide", "redecide", "scan", "spectrum"]

_HOMES = {
    "GradsentryError": "gradsentry.errors",
    "ScanConfig": "gradsentry.config",
    "ScanResult": "gradsentry.result",
    "Scorer": "gradsentry.scorer",
    "decide": "gradsentry.verdict.decide",
    "redecide": "gradsentry.api",
    "scan": "gradsentry.api",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import gradsentry` and `gradsentry --help` do not import torch."""
    if name == "rescan_decision":
        warnings.warn("gradsentry.rescan_decision is deprecated: use gradsentry.redecide", DeprecationWarning, stacklevel=2)
        name = "redecide"
    if name == "spectrum":
        return importlib.import_module("gradsentry.spectrum")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gradsentry' has no attribute {name!r}")
