"""Run directories as a scan begins them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradsentry.run.directory import RunDirectory
from gradsentry.run.job import ModelFacts

IDENTITY = {"data": "abc", "model": "m1", "rows": 4, "max_length": None}


def begun(path: Path, identity: dict[str, Any] = IDENTITY) -> RunDirectory:
    """A run that has been claimed and has its manifest, as `scan` makes it."""
    run = RunDirectory(path)
    run.claim({"identity": identity})
    return run


def facts(**changes: Any) -> ModelFacts:
    """What a run knows of a model, with some of it changed."""
    return ModelFacts(
        **(
            {
                "name": "m",
                "revision": "",
                "dtype": "float32",
                "stamp": "s",
                "max_length": 256,
                "token_budget": 512,
                "memory": "memory: 1 MiB",
            }
            | changes
        )
    )
