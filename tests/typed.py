"""The command line as a user types it: each command is a process with its own exit code, stdout and stderr.

Importing torch and transformers takes seconds, so a server process imports them once and every command is a fork of it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-c", "from gradsentry.cli.main import app; app()"]
PRELOAD = ["gradsentry.api", "gradsentry.cli.main", "datasets", "transformers.models.llama.modeling_llama", "transformers.models.auto"]
TIMEOUT = 500
"""Seconds."""


def gradsentry(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in `cwd`."""
    return python(COMMAND[-1], *arguments, cwd=cwd, **{"NO_COLOR": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"} | environment)


def python(code: str, *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -c code`` in `cwd`."""
    words, env = list(map(str, arguments)), dict(os.environ) | environment
    if sys.platform != "linux":
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    streams = [os.memfd_create(name) for name in ("stdout", "stderr")]
    paths = [f"/proc/{os.getpid()}/fd/{stream}" for stream in streams]
    process = server.Process(target=_forked, args=(code, words, cwd, env, paths))
    try:
        process.start()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, TIMEOUT)
        out, err = (Path(path).read_bytes().decode("utf-8") for path in paths)
    finally:
        for stream in streams:
            os.close(stream)
    return subprocess.CompletedProcess(words, process.exitcode, out, err)


def _forked(code: str, arguments: list[str], cwd: Path, environment: dict[str, str], streams: list[str]) -> None:
    """Run the code in this fork, with these files as stdout and stderr."""
    for descriptor, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if encoding := environment.get("PYTHONIOENCODING"):  # which Python reads at its start
        sys.stdout.reconfigure(encoding=encoding, errors="strict")  # pyright: ignore[reportAttributeAccessIssue]
        sys.stderr.reconfigure(encoding=encoding, errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})


def clean(result: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in result.stderr
    assert "Traceback" not in result.stdout
    return result.stderr


def rows_as_lines() -> str:
    rows = [{"prompt": f"What is {n}?", "completion": " one two three four"[: 2 + n % 17]} for n in range(40)]
    return "".join(json.dumps(row) + "\n" for row in rows)
