"""Several processes: what each has to itself, that they change no score, and that a death costs its shard's work only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import gradsentry
from deadly import DeadlyRows, LoudRows
from gradsentry import ScanConfig
from gradsentry.errors import ModelError, RunError, UsageError
from gradsentry.run.atomic import OURS
from gradsentry.run.devices import Slot
from gradsentry.run.engines.processes import WorkerPool
from gradsentry.run.job import plan
from gradsentry.types import Progress
from runs import facts

ROWS = [{"prompt": f"What is {n}? " * (1 + n % 3), "completion": " one two three" * (1 + n % 5)} for n in range(40)]
COMMAND = [sys.executable, "-c", "from gradsentry.cli.main import app; app()", "scan"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The number of threads moves the last bits of a score; here they are compared."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A machine of so many cores; the workers share those that are there."""
    real = sorted(os.sched_getaffinity(0))
    return lambda count: monkeypatch.setattr("gradsentry.run.devices.cores", lambda: (real * count)[:count])


def run(data: Any, model: Any, out: Path, **options: Any) -> gradsentry.ScanResult:
    return gradsentry.scan(data, model, out, **({"shard_rows": 8, "threshold": "0.5", "device": "cpu"} | options))


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "scores").glob("part-*"))}


# Refusals


def test_a_loaded_model_cannot_be_handed_to_workers(
    llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, model_dir: Path, tmp_path: Path, cores: Callable[[int], None]
) -> None:
    cores(2)
    with pytest.raises(UsageError, match="give its path or Hub id"):
        run(ROWS, llama, tmp_path / "run", tokenizer=tokenizer, workers="2")
    with pytest.raises(UsageError, match="cannot be handed to workers"):
        run([*ROWS, {"prompt": lambda: 1}], model_dir, tmp_path / "run", workers="2")
    assert not (tmp_path / "run").exists()


def test_a_worker_whose_model_differs_is_refused(tmp_path: Path) -> None:
    job = plan(ROWS, tmp_path / "run", ScanConfig())
    pool = WorkerPool(job, job.shards, [], Progress())
    pool.manifest = job.claim(facts())
    with pytest.raises(RunError, match="model: 's', now 'another'"):
        pool._on_ready(None, facts(stamp="another"))  # pyright: ignore[reportArgumentType]


def test_workers_that_never_get_ready_are_given_up(tmp_path: Path) -> None:
    job = plan(ROWS, tmp_path / "run", ScanConfig())
    with pytest.raises(RunError, match=r"before they are ready, 3 times in turn \(ended with exit code 1\); use fewer --workers"):
        WorkerPool(job, job.shards, [Slot({"PYTHONHOME": str(tmp_path)})], Progress()).run()


@pytest.mark.usefixtures("forked_workers")
def test_what_a_worker_refuses_is_told_as_if_there_were_none(tmp_path: Path, cores: Callable[[int], None]) -> None:
    cores(2)
    with pytest.raises(ModelError, match="no such model directory"):
        run(ROWS, tmp_path / "absent", tmp_path / "run", workers="2")


# Runs


@pytest.mark.usefixtures("forked_workers")
def test_a_death_costs_its_shard_only_and_a_deadly_shard_is_told_of_at_the_end(
    model_dir: Path, tmp_path: Path, cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(2)
    monkeypatch.setattr("gradsentry.run.engines.processes.ATTEMPTS", 2)
    whole, out = tmp_path / "whole", tmp_path / "run"
    run(ROWS, model_dir, whole)
    counts: list[int] = []
    progress = Progress()
    progress.advance = lambda rows, tokens: counts.append(rows)
    rows = DeadlyRows(ROWS, 28)
    with pytest.raises(RunError) as caught:
        run(rows, model_dir, out, workers="2", progress=progress)
    for words in ("rows 24 to 31 (killed by SIGKILL, as the system does", "all other rows are scored", "--token-budget (it was 2048)"):
        assert words in str(caught.value)
    assert parts(out) == {name: data for name, data in parts(whole).items() if name != "part-00003.parquet"}
    assert sum(counts) == 32
    assert not list(out.rglob(".part-*"))
    run(rows, model_dir, out)  # the maker may read them
    assert parts(out) == parts(whole)


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (TypeError("a bug"), True),
        (RuntimeError("shapes do not fit"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (MemoryError("full"), False),
    ],
)
def test_a_bug_is_shown_whole_by_the_worker_and_told_by_the_scan(
    model_dir: Path, tmp_path: Path, cores: Callable[[int], None], capfd: pytest.CaptureFixture[str], error: Exception, shown: bool
) -> None:
    cores(2)
    with pytest.raises(RunError, match=f"{type(error).__name__}: {error}"):
        run(DeadlyRows(ROWS, 28, error), model_dir, tmp_path / "run", workers="2")
    said = capfd.readouterr().err
    assert ("Traceback" in said) == shown, said


@pytest.mark.usefixtures("forked_workers")
def test_what_a_worker_warns_of_is_said_once_and_is_in_the_report(
    model_dir: Path, tmp_path: Path, cores: Callable[[int], None], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    cores(2)
    assert "row 28 is loud" in run(LoudRows(ROWS, 28), model_dir, tmp_path / "run", workers="2").notes
    assert caplog.messages.count("row 28 is loud") == 1
    assert "loud" not in capfd.readouterr().err, "the worker leaves it to its parent"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Enough rows to be caught in the middle."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS * 60))
    return path


def begun(data: Path, model_dir: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """The command line, in the middle of a scan: some parts are written, some are not."""
    fixed = ["--shard-rows", "40", "--threshold", "0.5", "--device", "cpu"]
    arguments = [str(data), "--model", str(model_dir), "--out", str(out), *fixed, *options]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # As on a terminal: a shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 240
    enough = len(parts(out)) + 3
    while len(list(out.glob("scores/part-*"))) < enough:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)
    return process


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pids: list[int]) -> bool:
    until = time.monotonic() + 120
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="looks into /proc; takes two cores")
def test_after_a_kill_and_after_ctrl_c_another_number_of_workers_ends_the_same(
    many: Path, model_dir: Path, tmp_path: Path, cores: Callable[[int], None]
) -> None:
    run(many, model_dir, tmp_path / "whole", shard_rows=40)
    out = tmp_path / "run"

    process = begun(many, model_dir, out, "--workers", "2")
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    assert gone(workers), "workers outlive their parent"
    (out / "scores" / f"{OURS}{process.pid}-part-00099.parquet").write_bytes(b"half")
    assert 3 <= len(parts(out)) < 60

    process = begun(many, model_dir, out, "--workers", "2")
    before, workers = len(parts(out)), children(process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "the same command resumes there" in said
    assert gone(workers)
    assert not list(out.rglob(".part-*"))
    assert before <= len(parts(out)) < 60

    cores(4)
    run(many, model_dir, out, workers="4", shard_rows=40)
    assert parts(out) == parts(tmp_path / "whole")
    assert (out / "verdicts.parquet").read_bytes() == (tmp_path / "whole" / "verdicts.parquet").read_bytes()
