"""Several processes on one machine, each with its own model and its own devices. They share only the run directory."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from gradsentry.config import ScanConfig
from gradsentry.errors import GradsentryError, RunError, UsageError
from gradsentry.guard import guarded_output
from gradsentry.run.devices import Slot, confine, cores, slots
from gradsentry.run.engines.base import refuse_options
from gradsentry.run.job import Job, ModelFacts
from gradsentry.run.notes import kept_warnings
from gradsentry.run.shards import score_shards
from gradsentry.types import Progress, Shard

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times that a shard is tried whose worker dies, and that a worker is started that dies before it is ready."""


class Processes:
    """Scores in worker processes."""

    def __init__(self, config: ScanConfig, options: Sequence[str] = ()) -> None:
        refuse_options("processes", options)
        self.slots = slots(config)
        if len([slot for slot in self.slots if slot.cores]) > (here := len(cores())):
            log.warning(
                "--workers %d: the workers share the %d cores here; more workers than cores make nothing faster", len(self.slots), here
            )

    def run(self, job: Job, missing: Sequence[Shard], progress: Progress) -> dict[str, Any]:
        """See `Engine.run`."""
        if os.name != "posix":
            raise UsageError("several workers need Linux or macOS; use --workers 1")
        progress.status("loading the model in each worker")
        return WorkerPool(job, missing, self.slots, progress).run()


@dataclass
class Worker:
    """A process as its parent sees it."""

    slot: Slot
    process: subprocess.Popen[bytes]
    link: Connection
    ready: bool = False
    """Whether it has loaded the model."""
    in_flight: list[Shard] = field(default_factory=list)
    """Its shards: the one that it scores, and the one that it prepares."""
    unwritten: int = 0
    """Rows that it has reported as scored and not yet written."""
    failure: str = ""
    """The exception that ended it."""

    def cause_of_exit(self) -> str:
        """Why it ended, in words."""
        code = self.process.wait()
        if self.failure:
            return self.failure
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")


class WorkerPool:
    """The workers of a run. The parent hands out shards, replaces workers that die, and loads no model itself."""

    def __init__(self, job: Job, missing: Sequence[Shard], slots: Sequence[Slot], progress: Progress) -> None:
        if job.tokenizer is not None or not isinstance(job.model, (str, os.PathLike, type(None))):
            raise UsageError("workers load the model themselves: give its path or Hub id, not the loaded model or a tokenizer")
        try:
            self.packed = pickle.dumps(job)
        except Exception as error:  # the user's row classes may raise anything
            why = f"{type(error).__name__}: {error}"
            raise UsageError(f"the data cannot be handed to workers ({why}); give a file, or --workers 1") from error
        self.job, self.slots, self.progress = job, slots, progress
        self.run_directory = job.directory
        self.manifest: dict[str, Any] = {}
        self.missing, self.pending = missing, deque(missing)
        self.workers: list[Worker] = []
        self.failed_starts = 0
        self.attempts: Counter[int] = Counter()
        self.suspects: set[int] = set()
        """Shards that a dead worker had. Each goes to a worker that has no other shard, to find the one that kills."""
        self.failed: list[tuple[Shard, str]] = []

    def run(self) -> dict[str, Any]:
        """Score what is missing; returns the run's manifest.

        Raises:
            RunError: some shards killed every worker that tried them; all others are scored. Also what a worker raised.
        """
        try:
            for slot in self.slots[: max(1, len(self.pending))]:
                self._start(slot)
            while not self.manifest or self.pending or any(worker.in_flight for worker in self.workers):
                readable = wait([worker.link for worker in self.workers])
                for worker in [worker for worker in self.workers if worker.link in readable]:
                    self._receive(worker)
        finally:
            self._stop()
        if self.failed:
            raise RunError(self._failure())
        return self.manifest

    def _start(self, slot: Slot) -> None:
        """Start a fresh interpreter. multiprocessing would import the caller's script again, which may have no guard."""
        ours, theirs = Pipe()
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main({theirs.fileno()}, {slot.cores})"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | slot.environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the parent, which ends the workers
        )
        theirs.close()
        self.workers.append(Worker(slot, process, ours))
        with suppress(OSError):  # a worker that is dead already is handled when its pipe is read
            ours.send_bytes(self.packed)

    def _receive(self, worker: Worker) -> None:
        """Act on one message of a worker."""
        try:
            what, *rest = worker.link.recv()
        except (EOFError, OSError):
            self._on_exit(worker)
            return
        if what == "ready":
            self._on_ready(worker, *rest)
        elif what == "advance":
            worker.unwritten += rest[0]
            self.progress.advance(*rest)
        elif what == "written":
            shard = worker.in_flight.pop(0)
            worker.unwritten -= shard.stop - shard.start
            self._hand_out(worker)
        elif what == "warning":
            log.warning("%s", rest[0])  # here, so that it is in the report too
        elif what == "failure":
            worker.failure = rest[0]
        else:
            raise rest[0]

    def _on_ready(self, worker: Worker, facts: ModelFacts) -> None:
        """Claim the directory with the first worker's model; refuse a worker that has another one."""
        if self.manifest:
            self.run_directory.check(self.job.identity(facts))
        else:
            self.manifest = self.job.claim(facts)
            self.job.begin(self.missing, self.progress)
        worker.ready, self.failed_starts = True, 0
        with suppress(OSError):
            worker.link.send(self.manifest["token_budget"])
        self._hand_out(worker)

    def _hand_out(self, worker: Worker) -> None:
        """Give the worker a shard, and a second one to prepare meanwhile if no other worker is idle for it."""
        while self.pending and len(worker.in_flight) < 2:
            shard = self.pending[0]
            if worker.in_flight:
                idle = sum(not other.in_flight for other in self.workers)
                if len(self.pending) <= idle or self.suspects & {shard.index, worker.in_flight[0].index}:
                    return
            worker.in_flight.append(self.pending.popleft())
            with suppress(OSError):
                worker.link.send(shard)

    def _on_exit(self, worker: Worker) -> None:
        """Take back a dead worker's shards, and start another worker in its place."""
        why = worker.cause_of_exit()
        self.workers.remove(worker)
        worker.link.close()
        if worker.unwritten:
            self.progress.advance(-worker.unwritten, 0)
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts == ATTEMPTS:
                raise RunError(f"workers end before they are ready, {ATTEMPTS} times in turn ({why}); use fewer --workers")
        self.suspects |= {shard.index for shard in worker.in_flight}
        for shard in worker.in_flight[:1]:
            self.attempts[shard.index] += 1
            if self.attempts[shard.index] == ATTEMPTS:
                self.failed.append((worker.in_flight.pop(0), why))
            else:
                log.warning("a worker died (%s); its rows %d to %d are scored again", why, shard.start, shard.stop - 1)
        self.pending.extendleft(reversed(worker.in_flight))
        if self.pending or not self.manifest:
            self._start(worker.slot)

    def _stop(self) -> None:
        """End the workers; what they have written stays."""
        for worker in self.workers:
            worker.link.close()
            worker.process.terminate()
        for worker in self.workers:
            worker.process.wait()

    def _failure(self) -> str:
        rows = ", ".join(f"{shard.start} to {shard.stop - 1} ({why})" for shard, why in self.failed)
        return (
            f"{self.job.described['name']}: the worker died each of {ATTEMPTS} times over rows {rows}; all other rows are scored. "
            f"Run the same command again with a lower --token-budget (it was {self.manifest['token_budget']}) or fewer --workers: it "
            "resumes the run. If one long row is too large for the memory, scan to another --out with --max-length"
        )


class _Piped(Progress):
    """Sends a worker's progress to its parent."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send

    def advance(self, rows: int, tokens: int) -> None:
        self._send("advance", rows, tokens)


def main(descriptor: int, own_cores: tuple[int, ...]) -> None:
    """A worker: receives the job and then shards through its pipe, and reports what it does. It ends when the pipe does."""
    with guarded_output():
        _work(descriptor, own_cores)


def _work(descriptor: int, own_cores: tuple[int, ...]) -> None:
    os.set_inheritable(descriptor, False)
    confine(own_cores)
    link = Connection(descriptor)
    lock = threading.Lock()

    def send(*message: Any) -> None:
        with lock:
            link.send(message)

    def receive() -> Any:
        try:
            return link.recv()
        except (EOFError, ConnectionError):  # the parent has ended, or has ended the scan
            os._exit(0)

    with suppress(OSError), kept_warnings(partial(send, "warning")):  # an OSError: the parent has ended, nobody receives
        try:
            job: Job = receive()
            scorer = job.load()
            send("ready", ModelFacts.of(scorer))
            token_budget = receive()
            score_shards(job.directory, job.source, iter(receive, None), scorer, token_budget, _Piped(send), lambda _: send("written"))
        except GradsentryError as error:
            send("error", error)
        except OSError as error:  # not all of its subclasses can be pickled
            where = f"{error.filename}: " if error.filename else ""
            send("error", RunError(f"{where}{error.strerror or error}"))
        except Exception as error:  # whatever torch and the model raise; the parent reports it and tries the shard again
            from gradsentry.model.memory import out_of_memory

            if not out_of_memory(error):  # a bug, which only this process can show whole: most of torch's are RuntimeErrors too
                traceback.print_exc()
            send("failure", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    os._exit(0)  # a thread of score_shards may wait for a shard that never comes
