from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def path_with_gradsentry(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which `gradsentry` is a command that scans with the tiny model."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "gradsentry"
    start = f"import sys; c = sys.argv[1]; sys.argv[2:2] = ['--model', {str(model_dir)!r}] if c in ('scan', 'check') else []; "
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}from gradsentry.__main__ import main; main()" "$@"\n')
    command.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


Environment = Callable[[Path], dict[str, str]]


@pytest.fixture(scope="session")
def job(path_with_gradsentry: str) -> Environment:
    """The environment of a CI job in a folder."""

    def made(workspace: Path) -> dict[str, str]:
        files = {"GITHUB_OUTPUT": workspace / "output.txt", "GITHUB_STEP_SUMMARY": workspace / "summary.md"}
        places = {"GITHUB_WORKSPACE": workspace, "RUNNER_TEMP": workspace.parent, **files}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GRADSENTRY_"))}
        return kept | {name: str(path) for name, path in places.items()} | {"PATH": path_with_gradsentry, "CI": "true"}

    return made
