"""What an engine is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gradsentry.errors import UsageError
from gradsentry.run.job import Job
from gradsentry.types import Progress, Shard


class Engine(Protocol):
    """Scores shards. Made as ``Engine(config, options)``, which raises UsageError for options that it does not have."""

    def run(self, job: Job, missing: Sequence[Shard], progress: Progress) -> dict[str, Any] | None:
        """Score the missing shards.

        Returns:
            The run's manifest; None where other processes have to finish the run.

        Raises:
            GradsentryError: the model cannot be loaded, shards could not be scored, or the directory holds another run.
        """
        ...


def refuse_options(engine: str, options: Sequence[str]) -> None:
    """Refuse any option, for an engine that has none."""
    if options:
        raise UsageError(f"--engine-option {options[0]}: the engine {engine} has no options")
