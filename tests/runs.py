"""Run directories as a scan begins them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradsentry.store import RunDirectory

IDENTITY = {"data": "abc", "model": "m1", "rows": 4, "max_length": None}


def begun(path: Path, identity: dict[str, Any] = IDENTITY) -> RunDirectory:
    """A run that has been claimed and has its manifest, as `scan` makes it."""
    run = RunDirectory(path)
    run.claim({"identity": identity})
    return run
