"""Slurm and Ray, by datatrove's executors. datatrove's own markers are ignored: only the parts in the run directory count."""

from __future__ import annotations

import inspect
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from gradsentry.config import ScanConfig, parse_workers
from gradsentry.errors import GradsentryError, RunError, UsageError
from gradsentry.guard import guarded_output
from gradsentry.run.job import Job, ModelFacts
from gradsentry.run.shards import score_shards
from gradsentry.types import Progress, Shard

log = logging.getLogger(__name__)

MOST_TASKS = 1000
"""Tasks where --workers is auto: the default limit of a Slurm array."""

OURS = {"self", "pipeline", "workers", "logging_dir", "skip_completed"}
"""Arguments of an executor that the engine sets."""


class _Datatrove:
    """What both engines share."""

    name: str
    executor: str
    """Name of the executor in ``datatrove.executor``."""
    packages: dict[str, str]
    """Package -> extra of gradsentry that installs it."""

    def __init__(self, config: ScanConfig, options: Sequence[str] = ()) -> None:
        for package, extra in self.packages.items():
            if find_spec(package) is None:
                raise UsageError(f"--engine {self.name} needs {package}: pip install 'gradsentry[{extra}]'")
        import datatrove.executor

        self.make = getattr(datatrove.executor, self.executor)
        self.arguments = self.parse(options, set(inspect.signature(self.make).parameters) - OURS)
        if config.gpus_per_worker > 1:
            self.arguments.setdefault("gpus_per_task", config.gpus_per_worker)
        # A task ends with its process, and the next one loads the model again: as many tasks as workers.
        self.tasks = self.arguments.pop("tasks", None) or parse_workers(config.workers) or MOST_TASKS
        self.workers = parse_workers(config.workers) or -1

    def parse(self, options: Sequence[str], known: set[str]) -> dict[str, Any]:
        """``KEY=VALUE`` as arguments of the executor."""
        found: dict[str, Any] = {}
        for option in options:
            name, equals, value = option.partition("=")
            if not equals or not name:
                raise UsageError(f"--engine-option {option}: write KEY=VALUE")
            if name in known:
                found[name] = int(value) if value.isdecimal() else value
            else:
                self.other_option(name, value, known, found)
        return found

    def other_option(self, name: str, value: str, known: set[str], found: dict[str, Any]) -> None:
        """An option that the executor does not have."""
        raise UsageError(f"--engine-option {name}={value}: {self.name} has no {name!r}; it has {', '.join(sorted(known))}")

    def execute(self, job: Job, missing: Sequence[Shard], exits: bool) -> tuple[Any, Path]:
        """Run or submit the tasks; returns the executor and the folder of its logs."""
        folder = job.directory.engine / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:8]}"  # a new one: old markers must not count
        (folder / "errors").mkdir(parents=True)
        executor = self.make(
            pipeline=[Share(job, missing, folder, exits)],
            tasks=min(self.tasks, len(missing)),
            workers=self.workers,
            logging_dir=str(folder),
            skip_completed=False,
            **self.arguments,
        )
        try:
            executor.run()
        except Exception as error:  # datatrove, Slurm and Ray have no exception class in common
            # An error before a task begins is in no log of the engine.
            (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            raise RunError(
                f"--engine {self.name}: {type(error).__name__}: {error}; its logs are in {folder}; the same command resumes the run"
            ) from error
        return executor, folder

    @staticmethod
    def prepare(job: Job) -> Job:
        """Delete the run that is to be replaced, once and not in every task; returns the job for the tasks."""
        run = job.directory
        if job.config.overwrite:
            run.clear()
        run.check(job.known)
        return replace(job, config=replace(job.config, overwrite=False))

    @staticmethod
    def finish(job: Job) -> dict[str, Any]:
        """The manifest of a run whose shards are all scored."""
        manifest = job.directory.manifest()
        assert manifest is not None  # the first task wrote it
        if other := job.other_model(manifest):
            raise RunError(f"{job.out} already holds another run ({other}); give another --out, or --overwrite to replace it")
        return manifest


class Ray(_Datatrove):
    """Runs tasks on the cluster of RAY_ADDRESS, or on a Ray that it starts on this machine, and waits for them."""

    name, executor, packages = "ray", "RayPipelineExecutor", {"datatrove": "scale", "ray": "ray"}

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Use the Ray of this process, or start one and stop it at the end. A thread of Ray prints warnings to stdout: here to stderr."""
        import ray

        if ray.is_initialized():
            yield
            return
        with redirect_stdout(sys.stderr):
            ray.init(log_to_driver=False)
            try:
                yield
            finally:
                ray.shutdown()

    def run(self, job: Job, missing: Sequence[Shard], progress: Progress) -> dict[str, Any]:
        """See `Engine.run`."""
        job = self.prepare(job)
        if missing:
            with self.connected():
                job.begin(missing, progress)
                _, folder = self.execute(job, missing, exits=False)
            check_scored(job, missing, folder)
        return self.finish(job)


class Slurm(_Datatrove):
    """Submits an array of tasks and leaves the verdict to ``gradsentry filter``."""

    name, executor, packages = "slurm", "SlurmPipelineExecutor", {"datatrove": "scale"}

    def parse(self, options: Sequence[str], known: set[str]) -> dict[str, Any]:
        found = super().parse(options, known)
        absent = [name for name in ("partition", "time") if name not in found]
        if absent:
            raise UsageError(f"--engine slurm needs {' and '.join(f'--engine-option {name}=...' for name in absent)}")
        activate = Path(sys.prefix, "bin", "activate")
        environment = {"venv_path": str(activate)} if sys.prefix != sys.base_prefix and activate.is_file() else {}
        return {"job_name": "gradsentry", "sbatch_args": {}} | environment | found

    def other_option(self, name: str, value: str, known: set[str], found: dict[str, Any]) -> None:
        found.setdefault("sbatch_args", {})[name] = value

    def run(self, job: Job, missing: Sequence[Shard], progress: Progress) -> dict[str, Any] | None:
        """See `Engine.run`."""
        job = self.prepare(job)
        if not missing:
            return self.finish(job)
        executor, _ = self.execute(job, missing, exits=True)
        log.info(
            "submitted to Slurm as job %s, %d tasks. When it has ended, run: gradsentry filter %s --threshold %s; if parts are missing, "
            "the same scan again submits those",
            *(executor.job_id, executor.tasks, job.out, job.config.threshold),
        )
        return None


def check_scored(job: Job, shards: Sequence[Shard], folder: Path) -> None:
    """Raise RunError with the tasks' first error if some of the shards have no scores."""
    left = job.missing(shards)
    if left:
        reasons = [path.read_text(encoding="utf-8") for path in sorted((folder / "errors").iterdir())]
        why = reasons[0] if reasons else f"tasks failed, their logs are in {folder}"
        raise RunError(f"{len(left)} of {len(job.shards)} parts are missing: {why}; the same command resumes the run")


class Share:
    """A datatrove step: task r of n scores every n-th missing shard, beginning with shard r."""

    def __init__(self, job: Job, shards: Sequence[Shard], folder: Path, exits: bool) -> None:
        """`exits`: an error ends the process with its exit code, so that Slurm sees it."""
        self.job, self.shards, self.folder, self.exits = job, list(shards), folder, exits

    def __repr__(self) -> str:
        return f"gradsentry: {len(self.shards)} shards of {self.job.out}"

    def __call__(self, _: Any, rank: int, world_size: int) -> None:
        with guarded_output():
            self._score(rank, world_size)

    def _score(self, rank: int, world_size: int) -> None:
        try:
            missing = self.job.missing(self.shards[rank::world_size])
            if missing:
                scorer = self.job.load()
                token_budget = self.job.claim(ModelFacts.of(scorer))["token_budget"]
                score_shards(self.job.directory, self.job.source, missing, scorer, token_budget, Progress())
        except GradsentryError as error:  # datatrove would print a traceback, or nothing
            (self.folder / "errors" / f"{rank:05d}.txt").write_text(str(error), encoding="utf-8")
            if self.exits:
                log.error("error: %s", error)
                raise SystemExit(error.exit_code) from None
