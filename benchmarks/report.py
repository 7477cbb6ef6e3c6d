"""Shared by the benchmark scripts: what was run, and tables that replace their own section of a document."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from gradsentry.bench.tables import table

__all__ = ["RESULTS", "ROOT", "machine", "replace_section", "save", "table"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": " ".join(["python", Path(sys.argv[0]).name, *map(_nowhere, sys.argv[1:])]),
    }


def _nowhere(argument: str) -> str:
    """An argument without the place on this machine that it names: results are committed."""
    return f"PATH/{Path(argument).name}" if Path(argument).is_absolute() else argument


def save(name: str, value: dict[str, Any]) -> None:
    """Keep the figures as data: ``benchmarks/results/<name>.json``, each entry of a list on a line of its own."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text("{\n" + ",\n".join(_member(key, item) for key, item in value.items()) + "\n}\n", encoding="utf-8")


def _member(key: str, item: Any) -> str:
    if not isinstance(item, list):
        return f" {json.dumps(key)}: {json.dumps(item)}"
    return f" {json.dumps(key)}: [\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in item) + "\n ]"


def replace_section(document: Path, name: str, text: str) -> None:
    """Put `text` between ``<!-- name -->`` and ``<!-- /name -->`` of a Markdown file; appended if it is not there."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = document.read_text(encoding="utf-8") if document.exists() else ""
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in old:
        new = old[: old.index(begin)] + section + old[old.index(end) + len(end) :]
    else:
        new = (old.rstrip() + "\n\n" + section + "\n").lstrip()
    document.write_text(new, encoding="utf-8")
