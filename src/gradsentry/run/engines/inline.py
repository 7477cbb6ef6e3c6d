"""The engine without other processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradsentry.config import ScanConfig
from gradsentry.run.engines.base import refuse_options
from gradsentry.run.job import Job, ModelFacts
from gradsentry.run.shards import score_shards
from gradsentry.types import Progress, Shard


class Inline:
    """Scores in this process."""

    def __init__(self, config: ScanConfig, options: Sequence[str] = ()) -> None:
        refuse_options("inline", options)

    def run(self, job: Job, missing: Sequence[Shard], progress: Progress) -> dict[str, Any]:
        """See `Engine.run`."""
        progress.status("loading the model")
        scorer = job.load()
        manifest = job.claim(ModelFacts.of(scorer))
        job.begin(missing, progress)
        score_shards(job.directory, job.source, missing, scorer, manifest["token_budget"], progress)
        return manifest
