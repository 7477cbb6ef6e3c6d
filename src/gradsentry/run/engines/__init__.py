"""Engines: who scores the shards of a run. To add one, write a module here and add one line to `ENGINES`.

Every engine scores the same shards, and a shard is done when its part is in the run directory: engines can be mixed, and any
of them can resume a run that another one began.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from gradsentry.config import ScanConfig
from gradsentry.errors import UsageError
from gradsentry.run.devices import slots
from gradsentry.run.engines.base import Engine

ENGINES = {
    "inline": ("inline:Inline", "this process"),
    "processes": ("processes:Processes", "--workers processes on this machine"),
    "rank": ("rank:Rank", "this process scores its share: RANK and WORLD_SIZE, or its place in a Slurm array"),
    "slurm": ("datatrove:Slurm", "a Slurm array, submitted with datatrove"),
    "ray": ("datatrove:Ray", "Ray tasks, started with datatrove"),
}
"""Name -> (module and class, help text)."""


def engine_help() -> str:
    """What ``--engine`` can be, for its help text."""
    return "; ".join(f"{name}: {help}" for name, (_, help) in ENGINES.items())


def make_engine(name: str | None, config: ScanConfig, options: Sequence[str] = ()) -> Engine:
    """The engine with this name; None chooses between `inline` and `processes` by the options of workers.

    Args:
        options: ``KEY=VALUE`` for the engine itself.

    Raises:
        UsageError: no such engine, a package that it needs is missing, or it has no such option.
    """
    if name is None:
        name = "processes" if config.gpus_per_worker > 1 or len(slots(config)) > 1 else "inline"
    if name not in ENGINES:
        raise UsageError(f"--engine {name}: it can be {', '.join(ENGINES)}")
    module, _, kind = ENGINES[name][0].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), kind)(config, options)
