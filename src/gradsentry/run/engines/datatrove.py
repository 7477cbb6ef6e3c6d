"""The same shards on a cluster: datatrove's executors, or any scheduler that starts processes of this module (`python -m`).

gradsentry owns the shards and an engine only runs them: what is done is what has a part in the run directory, whatever an
engine's own markers say. Tasks share nothing but that directory, and there are no collectives.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from gradsentry.api import ScanResult, finish
from gradsentry.cli.main import PARTS, handled, resumable, scan_options, stderr, tell
from gradsentry.config import ScanConfig, parse_workers
from gradsentry.data.sources import Source
from gradsentry.errors import GradsentryError, RunError, UsageError
from gradsentry.run.devices import Slot, devices, slots, take
from gradsentry.run.directory import RunDirectory
from gradsentry.run.job import Job, ModelFacts, absolute, plan, score_shards
from gradsentry.types import Progress, Shard

EXECUTORS = {"local": "LocalPipelineExecutor", "slurm": "SlurmPipelineExecutor", "ray": "RayPipelineExecutor"}
MOST_TASKS = 1000
"""Tasks where --workers is auto: as many as a Slurm array has by default."""


def scan_on(engine: str, data: Any, out: Path, config: ScanConfig, options: Sequence[str], progress: Progress) -> ScanResult | None:
    """Score on an engine what has no scores yet; then the same as `scan`.

    Args:
        engine: local, slurm or ray. options: ``key=value``, arguments of datatrove's executor; sbatch's too for slurm.

    Returns:
        What the scan found; None where the engine has only taken the work over (slurm).

    Raises:
        UsageError: the engine is not installed, or an option that it does not have. Else as `scan`.
    """
    make = _executor(engine)
    arguments = _arguments(engine, make, options)
    job = plan(absolute(data), out.resolve(), replace(config, model=absolute(config.model)))
    run = RunDirectory(job.out)
    run.check(job.known, config.overwrite)
    if config.overwrite:
        run.clear()
        job = replace(job, config=replace(job.config, overwrite=False))  # not once more in every task
        run.check(job.known)
    missing = job.start(progress)
    if missing:
        _launch(engine, make, arguments, job, missing)
        if engine == "slurm":
            return None
    manifest = _scored(run, job)
    run.sweep()
    return finish(job, manifest)


def _launch(engine: str, make: Any, arguments: dict[str, Any], job: Job, missing: Sequence[Shard]) -> None:
    """Run the missing shards on the engine and say why if some are missing still."""
    run = RunDirectory(job.out)
    folder = run.engine / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"  # of its own: old markers say nothing
    (folder / "errors").mkdir(parents=True)
    places = slots(job.config) if engine == "local" else []
    workers = len(places) or parse_workers(job.config.workers) or -1
    if engine != "local" and job.config.gpus_per_worker > 1:
        arguments.setdefault("gpus_per_task", job.config.gpus_per_worker)
    # Only local processes outlive a task, and keep their model for the next one.
    tasks = arguments.pop("tasks", None) or (workers if engine != "local" and workers > 0 else MOST_TASKS)
    share = Share(job, missing, folder, places if len(places) > 1 else [], exits=engine == "slurm")
    executor = make(
        pipeline=[share], tasks=min(tasks, len(missing)), workers=workers, logging_dir=str(folder), skip_completed=False, **arguments
    )
    try:
        if engine == "ray":
            _join_ray()
        executor.run()
    except Exception as error:  # whatever datatrove, Slurm or Ray raise, who have no exception in common
        # What failed before a task began, a bug among it, no log has.
        (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        raise RunError(f"--engine {engine}: {type(error).__name__}: {error}; its logs are in {folder}; the same command goes on") from error
    if engine == "slurm":
        tell(
            f"submitted to Slurm as job {executor.job_id}, {executor.tasks} tasks. When it has ended: gradsentry filter {job.out} "
            f"--threshold {job.config.threshold}; if parts are missing, the same scan again submits those"
        )
        return
    left = run.missing(missing)
    if left:
        told = [path.read_text(encoding="utf-8") for path in sorted((folder / "errors").iterdir())]
        why = told[0] if told else f"tasks failed, their logs are in {folder}"
        raise RunError(f"{len(left)} of {len(job.shards)} parts are missing: {why}; the same command goes on with them")


def _join_ray() -> None:
    """Connect to the cluster of RAY_ADDRESS, or start one here. Its tasks do not write to our stdout, which has the result alone."""
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False)


class Share:
    """A datatrove step: task r of n scores every n-th missing shard, from the r-th on."""

    def __init__(self, job: Job, shards: Sequence[Shard], folder: Path, places: Sequence[Slot], exits: bool) -> None:
        """`places`: what local processes share out among them. `exits`: end the process over an error, so that Slurm sees it."""
        self.job, self.shards, self.folder, self.places, self.exits = job, list(shards), folder, list(places), exits

    def __repr__(self) -> str:
        return f"gradsentry: {len(self.shards)} shards of {self.job.out}"

    def __call__(self, _: Any, rank: int, world_size: int) -> None:
        try:
            if self.places:
                take(self.places, self.folder)
            score_share(self.job, self.shards[rank::world_size], Progress())
        except GradsentryError as error:  # datatrove would print a traceback, or nothing
            (self.folder / "errors" / f"{rank:05d}.txt").write_text(str(error), encoding="utf-8")
            if self.exits:
                tell(f"error: {error}")
                raise SystemExit(error.exit_code) from None


def score_share(job: Job, shards: Sequence[Shard], progress: Progress) -> int:
    """Score those of the shards that have no scores; returns how many that were. The model is loaded once a process."""
    run = RunDirectory(job.out)
    missing = run.missing(shards)
    rows = sum(shard.stop - shard.start for shard in shards)
    progress.start(rows, rows - sum(shard.stop - shard.start for shard in missing))
    if missing:
        if job.out not in _loaded:
            _loaded[job.out] = _load(job)
        scorer, source = _loaded[job.out]
        score_shards(run, source, missing, scorer, progress)
    return len(missing)


_loaded: dict[Path, tuple[Any, Source]] = {}
"""The scorer and the opened data of this process, by run directory."""


def _load(job: Job) -> tuple[Any, Source]:
    scorer = job.load()
    scorer.token_budget = job.claim(ModelFacts.of(scorer))["token_budget"]
    return scorer, job.source


def _scored(run: RunDirectory, job: Job) -> dict[str, Any]:
    """The manifest of a complete run. No model is loaded, so what was asked for stands for what it is."""
    manifest = run.manifest()
    assert manifest is not None  # the first task wrote it
    for name in ("model", "dtype", "max_length"):
        held, now = absolute(manifest["config"][name]), getattr(job.config, name)
        if held != now:
            raise RunError(f"{job.out} already holds another run ({name}: {held!r}, now {now!r}); give another --out, or --overwrite")
    return manifest


def _executor(engine: str) -> Any:
    if engine not in EXECUTORS:
        raise UsageError(f"--engine {engine}: it can be {', '.join(EXECUTORS)}")
    needed = {"datatrove": "scale"} | ({"ray": "ray"} if engine == "ray" else {})
    for package, extra in needed.items():
        if find_spec(package) is None:
            raise UsageError(f"--engine {engine} needs {package}: pip install 'gradsentry[{extra}]'")
    import datatrove.executor

    return getattr(datatrove.executor, EXECUTORS[engine])


def _arguments(engine: str, make: Any, options: Sequence[str]) -> dict[str, Any]:
    """``key=value`` as arguments of the executor; what it does not know goes to sbatch."""
    known = set(inspect.signature(make).parameters) - {"self", "pipeline", "workers", "logging_dir", "skip_completed"}
    result: dict[str, Any] = {}
    sbatch: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise UsageError(f"--engine-option {option}: write key=value")
        if name in known:
            result[name] = int(value) if value.isdecimal() else value
        elif engine == "slurm":
            sbatch[name] = value
        else:
            raise UsageError(f"--engine-option {option}: {engine} has no {name!r}; it has {', '.join(sorted(known))}")
    if engine == "slurm":
        absent = [name for name in ("partition", "time") if name not in result]
        if absent:
            raise UsageError(f"--engine slurm needs {' and '.join(f'--engine-option {name}=...' for name in absent)}")
        result = {"job_name": "gradsentry", "sbatch_args": sbatch} | _environment() | result
    return result


def _environment() -> dict[str, str]:
    """The virtual environment that a Slurm task has to enter: this one."""
    activate = Path(sys.prefix, "bin", "activate")
    return {"venv_path": str(activate)} if sys.prefix != sys.base_prefix and activate.is_file() else {}


def place(environment: Mapping[str, str]) -> tuple[int, int]:
    """Which of how many processes this is, from torchrun's RANK and WORLD_SIZE and from Slurm's array; of both if both are there.

    Raises:
        UsageError: neither is there, or the array has gaps.
    """
    value = functools.partial(_number, environment)
    if "RANK" not in environment and "SLURM_ARRAY_TASK_ID" not in environment:
        raise UsageError("neither RANK and WORLD_SIZE nor SLURM_ARRAY_TASK_ID is set: start it with torchrun or as a Slurm array")
    rank, size = value("RANK", 0), value("WORLD_SIZE", 1)
    if rank >= size:
        raise UsageError(f"this is process {rank} of {size}: RANK must be below WORLD_SIZE")
    if "SLURM_ARRAY_TASK_ID" in environment:
        index, count = _task(value)
        return rank + size * index, size * count
    return rank, size


def _task(value: Callable[..., int]) -> tuple[int, int]:
    """Which of how many tasks of Slurm's array this is."""
    task, count = value("SLURM_ARRAY_TASK_ID"), value("SLURM_ARRAY_TASK_COUNT")
    least, step = value("SLURM_ARRAY_TASK_MIN", 0), max(1, value("SLURM_ARRAY_TASK_STEP", 1))
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


def pin(config: ScanConfig, environment: Mapping[str, str]) -> None:
    """Leave this process its own CUDA devices where LOCAL_RANK says that several share a machine's."""
    own, each = devices(config.device), config.gpus_per_worker
    if "LOCAL_RANK" in environment and len(own) > each:
        first = _number(environment, "LOCAL_RANK") * each
        if first + each > len(own):
            raise UsageError(f"LOCAL_RANK {environment['LOCAL_RANK']} needs {each} of {len(own)} devices; start fewer processes a machine")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own[first : first + each])


@scan_options
@handled
def main(
    data: Annotated[str, typer.Argument(metavar="DATA", help="As for gradsentry scan.")],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Run directory, the same for all processes.")],
    **options: Any,
) -> int:
    """Score this process's share of DATA's shards and stop. Which share: RANK and WORLD_SIZE, or the place in a Slurm array."""
    from gradsentry.report.progress import show_progress

    config = ScanConfig(**options)
    if config.overwrite or config.workers != "1":
        raise UsageError("each process is one worker, and none may throw the others' work away: leave --workers and --overwrite out")
    rank, size = place(os.environ)
    pin(config, os.environ)
    job = plan(data, out, config)
    RunDirectory(out).check(job.known)
    with resumable(out, PARTS), show_progress(stderr()) as progress:
        count = score_share(job, job.shards[rank::size], progress)
    tell(f"process {rank} of {size}: {count} shards scored. When all have ended: gradsentry filter {out} --threshold {config.threshold}")
    return 0


if __name__ == "__main__":
    typer.run(main)
