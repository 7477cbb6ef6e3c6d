"""Workers as forks of the server that `typed` starts: it has imported torch and transformers, which takes each new interpreter seconds."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import pytest

from typed import PRELOAD


def use_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the workers of `--workers` as forks."""
    fake = SimpleNamespace(Popen=ForkedWorker, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr("gradsentry.run.engines.processes.subprocess", fake)


class ForkedWorker:
    """Takes the place of `subprocess.Popen` in `run.engines.processes`: the same code in a process that starts at once."""

    def __init__(self, command: list[str], env: dict[str, str], pass_fds: list[int], **_: Any) -> None:
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(PRELOAD)
        link = Connection(os.dup(pass_fds[0]))
        self.process = server.Process(target=_work, args=(command[-1], f"main({pass_fds[0]},", link, env, f"/proc/{os.getpid()}/fd/2"))
        self.process.start()
        link.close()

    def wait(self) -> int:
        """The exit code; of a signal the negative."""
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def terminate(self) -> None:
        self.process.terminate()


def _work(code: str, call: str, link: Connection, env: dict[str, str], stderr: str) -> None:
    """Run the code with the pipe that this process got, and the test's stderr."""
    import torch

    assert call in code
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_APPEND), 2)
    os.environ.update(env)
    torch.set_num_threads(int(env["OMP_NUM_THREADS"]))  # an interpreter reads it at its start
    exec(code.replace(call, f"main({link.fileno()},"), {"__name__": "worker"})
