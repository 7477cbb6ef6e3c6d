"""One of many processes that any scheduler starts: each scores every n-th shard. They share only the run directory."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence

from gradsentry.config import ScanConfig
from gradsentry.errors import UsageError
from gradsentry.run.devices import devices
from gradsentry.run.engines.base import refuse_options
from gradsentry.run.job import Job, ModelFacts
from gradsentry.run.shards import score_shards
from gradsentry.types import Progress, Shard

log = logging.getLogger(__name__)


class Rank:
    """Scores this process's share and leaves the verdict to ``gradsentry filter``."""

    def __init__(self, config: ScanConfig, options: Sequence[str] = ()) -> None:
        refuse_options("rank", options)
        if config.overwrite or config.workers != "1":
            raise UsageError(
                "--engine rank: each process is one worker, and none may delete what the others scored; leave out --workers and --overwrite"
            )
        self.rank, self.size = rank_of(os.environ)
        pin_devices(config, os.environ)

    def run(self, job: Job, missing: Sequence[Shard], progress: Progress) -> None:
        """See `Engine.run`; always None, since this process does not know when the others end."""
        share = job.shards[self.rank :: self.size]
        missing = job.missing(share)
        if missing:
            progress.status("loading the model")
            scorer = job.load()
            token_budget = job.claim(ModelFacts.of(scorer))["token_budget"]
            job.begin(missing, progress, share)
            score_shards(job.directory, job.source, missing, scorer, token_budget, progress)
        log.info(
            "process %d of %d: %d shards scored. When all processes have ended, run: gradsentry filter %s --threshold %s",
            *(self.rank, self.size, len(missing), job.out, job.config.threshold),
        )


def rank_of(environment: Mapping[str, str]) -> tuple[int, int]:
    """(index, number) of this process among all, from torchrun's RANK and WORLD_SIZE, from Slurm's array, or from both.

    Raises:
        UsageError: neither is set, or the array has gaps.
    """
    number = functools.partial(_number, environment)
    if "RANK" not in environment and "SLURM_ARRAY_TASK_ID" not in environment:
        raise UsageError("neither RANK and WORLD_SIZE nor SLURM_ARRAY_TASK_ID is set: start it with torchrun or as a Slurm array")
    rank, size = number("RANK", 0), number("WORLD_SIZE", 1)
    if rank >= size:
        raise UsageError(f"this is process {rank} of {size}: RANK must be below WORLD_SIZE")
    if "SLURM_ARRAY_TASK_ID" in environment:
        index, count = _array_place(number)
        return rank + size * index, size * count
    return rank, size


def _array_place(number: Callable[..., int]) -> tuple[int, int]:
    """(index, number) of this task in its Slurm array."""
    task, count = number("SLURM_ARRAY_TASK_ID"), number("SLURM_ARRAY_TASK_COUNT")
    least, step = number("SLURM_ARRAY_TASK_MIN", 0), max(1, number("SLURM_ARRAY_TASK_STEP", 1))
    index, rest = divmod(task - least, step)
    if rest or not 0 <= index < count:
        raise UsageError(
            f"SLURM_ARRAY_TASK_ID {task} is none of {count} tasks from {least} on in steps of {step}; start the array without gaps: "
            f"--array=0-{count - 1} (what has scores is not scored again)"
        )
    return index, count


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise UsageError(f"{name} is {text!r} in the environment, not a number")
    return int(text)


def pin_devices(config: ScanConfig, environment: Mapping[str, str]) -> None:
    """Give this process its own CUDA devices where LOCAL_RANK says that several processes share the machine's."""
    here, each = devices(config.device), config.gpus_per_worker
    if "LOCAL_RANK" in environment and len(here) > each:
        first = _number(environment, "LOCAL_RANK") * each
        if first + each > len(here):
            raise UsageError(f"LOCAL_RANK {environment['LOCAL_RANK']} needs {each} of {len(here)} devices; start fewer processes a machine")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(here[first : first + each])
