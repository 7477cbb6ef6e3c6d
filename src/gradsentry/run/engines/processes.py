"""Several processes on one machine, each with its own model and its own devices. They share nothing but the run directory."""

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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from gradsentry.errors import GradsentryError, RunError, UsageError
from gradsentry.run.devices import Slot, confine
from gradsentry.run.directory import RunDirectory
from gradsentry.run.job import Job, ModelFacts, score_shards
from gradsentry.types import Progress, Shard

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a shard is tried whose worker dies, and a worker that dies before it is ready."""


@dataclass
class Worker:
    """A process as its parent sees it."""

    slot: Slot
    process: subprocess.Popen[bytes]
    link: Connection
    ready: bool = False
    hands: list[Shard] = field(default_factory=list)
    """The shards that it has: the one that it scores, and the one that it prepares."""
    counted: int = 0
    """Rows that it has told of and not written yet."""
    trouble: str = ""
    """The exception that ended it."""

    def why(self) -> str:
        """Why it ended, in words."""
        code = self.process.wait()
        if self.trouble:
            return self.trouble
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")


class Crew:
    """The workers of a run. The parent hands out shards, replaces workers that die, and loads no model itself."""

    def __init__(self, job: Job, places: list[Slot], progress: Progress) -> None:
        if os.name != "posix":
            raise UsageError("several workers need Linux or macOS; use --workers 1")
        if job.tokenizer is not None or not isinstance(job.model, (str, os.PathLike, type(None))):
            raise UsageError("workers load the model themselves: give its path or Hub id, not the loaded model or a tokenizer")
        try:
            self.packed = pickle.dumps(job)
        except Exception as error:  # whatever the classes of somebody's rows raise
            why = f"{type(error).__name__}: {error}"
            raise UsageError(f"the data cannot be handed to workers ({why}); give a file, or --workers 1") from error
        self.job, self.places, self.progress = job, places, progress
        self.run_directory = RunDirectory(job.out)
        self.manifest: dict[str, Any] = {}
        self.pending = deque(job.shards if job.config.overwrite else self.run_directory.missing(job.shards))
        self.workers: list[Worker] = []
        self.stillborn = 0
        self.attempts: Counter[int] = Counter()
        self.suspects: set[int] = set()
        """Shards that a worker had when it died: each goes to a worker that has no other, so that the guilty one shows."""
        self.failed: list[tuple[Shard, str]] = []

    def run(self) -> dict[str, Any]:
        """Score what is missing; returns the run's manifest.

        Raises:
            RunError: some shards killed every worker that tried them; all others are scored. Also what a worker raised.
        """
        try:
            for slot in self.places[: max(1, len(self.pending))]:
                self._start(slot)
            while not self.manifest or self.pending or any(worker.hands for worker in self.workers):
                told = wait([worker.link for worker in self.workers])
                for worker in [worker for worker in self.workers if worker.link in told]:
                    self._hear(worker)
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
        with suppress(OSError):  # one that is dead already is buried when it is heard
            ours.send_bytes(self.packed)

    def _hear(self, worker: Worker) -> None:
        try:
            what, *rest = worker.link.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if what == "ready":
            self._admit(worker, *rest)
        elif what == "advance":
            worker.counted += rest[0]
            self.progress.advance(*rest)
        elif what == "written":
            shard = worker.hands.pop(0)
            worker.counted -= shard.stop - shard.start
            self._hand_out(worker)
        elif what == "trouble":
            worker.trouble = rest[0]
        else:
            raise rest[0]

    def _admit(self, worker: Worker, facts: ModelFacts) -> None:
        """Claim the directory with the first worker's model; a worker that has another model is refused."""
        if self.manifest:
            self.run_directory.check(self.job.identity(facts))
        else:
            self.manifest = self.job.claim(facts)
            self.pending = deque(self.job.start(self.progress))
        worker.ready, self.stillborn = True, 0
        with suppress(OSError):
            worker.link.send(self.manifest["token_budget"])
        self._hand_out(worker)

    def _hand_out(self, worker: Worker) -> None:
        """Give the worker a shard, and a second one to prepare meanwhile if nobody else goes without for it."""
        while self.pending and len(worker.hands) < 2:
            shard = self.pending[0]
            if worker.hands:
                idle = sum(not other.hands for other in self.workers)
                if len(self.pending) <= idle or self.suspects & {shard.index, worker.hands[0].index}:
                    return
            worker.hands.append(self.pending.popleft())
            with suppress(OSError):
                worker.link.send(shard)

    def _bury(self, worker: Worker) -> None:
        """Take back what a dead worker had, and start another in its place."""
        why = worker.why()
        self.workers.remove(worker)
        worker.link.close()
        if worker.counted:
            self.progress.advance(-worker.counted, 0)
        if not worker.ready:
            self.stillborn += 1
            if self.stillborn == ATTEMPTS:
                raise RunError(f"workers end before they are ready, {ATTEMPTS} times in turn ({why}); use fewer --workers")
        self.suspects |= {shard.index for shard in worker.hands}
        for shard in worker.hands[:1]:
            self.attempts[shard.index] += 1
            if self.attempts[shard.index] == ATTEMPTS:
                self.failed.append((worker.hands.pop(0), why))
            else:
                log.warning("a worker died (%s); its rows %d to %d are scored again", why, shard.start, shard.stop - 1)
        self.pending.extendleft(reversed(worker.hands))
        if self.pending or not self.manifest:
            self._start(worker.slot)

    def _stop(self) -> None:
        """End the workers. What they have written stays."""
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
            "goes on from there. If one long row is too much for the memory, scan to another --out with --max-length"
        )


class _Piped(Progress):
    """Sends a worker's progress to its parent."""

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say

    def advance(self, rows: int, tokens: int) -> None:
        self._say("advance", rows, tokens)


def main(descriptor: int, own: tuple[int, ...]) -> None:
    """A worker: gets the job and then shards over its pipe, and tells what it does. Ends when the pipe does."""
    os.set_inheritable(descriptor, False)
    confine(own)
    link = Connection(descriptor)
    lock = threading.Lock()

    def say(*message: Any) -> None:
        with lock:
            link.send(message)

    def hear() -> Any:
        try:
            return link.recv()
        except (EOFError, ConnectionError):  # the parent is gone, or has ended the scan
            os._exit(0)

    with suppress(OSError):  # the parent is gone: there is nobody to tell
        try:
            job: Job = hear()
            scorer = job.load()
            say("ready", ModelFacts.of(scorer))
            scorer.token_budget = hear()
            run, shards = RunDirectory(job.out), iter(hear, None)
            score_shards(run, job.source, shards, scorer, _Piped(say), lambda _: say("written"))
        except GradsentryError as error:
            say("error", error)
        except OSError as error:  # its subclasses do not all travel
            where = f"{error.filename}: " if error.filename else ""
            say("error", RunError(f"{where}{error.strerror or error}"))
        except Exception as error:  # whatever torch and the model raise; the scan tells it, and tries the shard again
            from gradsentry.model.memory import out_of_memory

            if not out_of_memory(error):  # a bug, which nobody else shows whole: most of torch's are RuntimeErrors too
                traceback.print_exc()
            say("trouble", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    os._exit(0)  # a thread of score_shards may wait for a shard that never comes
