"""The command line as a user types it: a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-c", "from gradsentry.cli.main import app; app()"]


def gradsentry(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"NO_COLOR": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"} | environment
    return subprocess.run([*COMMAND, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False)


def clean(result: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in result.stderr
    assert "Traceback" not in result.stdout
    return result.stderr


def rows_as_lines() -> str:
    rows = [{"prompt": f"What is {n}?", "completion": " one two three four"[: 2 + n % 17]} for n in range(40)]
    return "".join(json.dumps(row) + "\n" for row in rows)
