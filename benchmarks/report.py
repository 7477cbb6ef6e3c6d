"""Shared by the benchmark scripts: the machine, results as JSON, and sections of documents."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from gradsentry.bench.tables import table

__all__ = ["RESULTS", "ROOT", "machine", "page", "replace_section", "save", "table"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def page(name: str) -> Path:
    """A page of docs/benchmark/: evidence, families, identification, sweeps, after-finetuning, cost, ablations or beyond."""
    return ROOT / "docs" / "benchmark" / f"{name}.md"


def machine() -> dict[str, Any]:
    """The machine and the command of a measurement."""
    return {
        "cpu": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": " ".join(["python", Path(sys.argv[0]).name, *map(_without_folder, sys.argv[1:])]),
    }


def _without_folder(argument: str) -> str:
    """An argument without the folders of this machine, because results are committed."""
    return f"PATH/{Path(argument).name}" if Path(argument).is_absolute() else argument


def save(name: str, value: dict[str, Any]) -> None:
    """Write ``benchmarks/results/<name>.json``, one line for each entry of a list."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text("{\n" + ",\n".join(_member(key, item) for key, item in value.items()) + "\n}\n", encoding="utf-8")


def _member(key: str, item: Any) -> str:
    if not isinstance(item, list):
        return f" {json.dumps(key)}: {json.dumps(item)}"
    return f" {json.dumps(key)}: [\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in item) + "\n ]"


def replace_section(document: Path, name: str, text: str) -> None:
    """Put `text` between ``<!-- name -->`` and ``<!-- /name -->`` of a Markdown file, or append it with these marks."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = document.read_text(encoding="utf-8") if document.exists() else ""
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in old:
        new = old[: old.index(begin)] + section + old[old.index(end) + len(end) :]
    else:
        new = (old.rstrip() + "\n\n" + section + "\n").lstrip()
    document.write_text(new, encoding="utf-8")
