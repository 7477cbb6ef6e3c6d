"""The results of a bench on disk: one line a cell and defence, added as soon as it is measured."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradsentry.errors import RunError
from gradsentry.run.atomic import sweep, whole
from gradsentry.run.directory import RunDirectory, differences

Result = dict[str, Any]


@dataclass
class Results:
    """``bench.json``, what the results depend on, and ``results.jsonl``, one result a line."""

    folder: Path
    found: dict[str, Result] = field(default_factory=dict)
    """By key, in the order in which they were measured."""

    @property
    def path(self) -> Path:
        return self.folder / "results.jsonl"

    def add(self, key: str, result: Result) -> None:
        """Keep a result; it is on disk when this returns."""
        self.found[key] = {"key": key} | result
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.found[key], ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def opened(folder: Path, configuration: dict[str, Any] | None, data: Mapping[str, str] | None = None) -> Results:
    """The results of a folder, to be gone on with; a new folder begins with none.

    Args:
        configuration: everything that changes a result and is not part of a cell (model, dtype, training); None: only to be read,
            while a bench may be adding to it.
        data: task, or its test part -> fingerprint of the rows; those of more may follow.

    Raises:
        RunError: the folder holds results of another configuration or of other rows, or a file that is none of ours, or it is none, or
            cannot be written.
    """
    results = Results(folder)
    if configuration is not None:
        _claim(folder, configuration, data or {})
    if results.path.exists():
        if configuration is not None:
            _mend(results.path)
        for number, line in enumerate(results.path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
            result = _read(f"{results.path}:{number}", line)
            if "key" not in result:
                raise RunError(f"{results.path}:{number} is no result of a bench; give another --out")
            results.found[result["key"]] = result
    return results


def _claim(folder: Path, configuration: dict[str, Any], data: Mapping[str, str]) -> None:
    """Make the folder that of this configuration and these rows, or refuse."""
    RunDirectory(folder).check_writable()
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    manifest = folder / "bench.json"
    if manifest.exists():
        known = _read(manifest, manifest.read_text(encoding="utf-8"))
        rows = known.pop("data", {})
        if other := [task for task in data if rows.get(task, data[task]) != data[task]]:
            raise RunError(f"{folder} holds results of other rows of {', '.join(other)}; give another --out, or the same --data")
        data = {**rows, **data}
        if known != configuration:
            changed = "; ".join(differences(known, configuration))
            raise RunError(f"{folder} holds results of another configuration ({changed}); give another --out, or the same options")
    elif (folder / "results.jsonl").exists():
        raise RunError(f"{folder / 'results.jsonl'} is there, but no bench.json that says how it was made; give another --out")
    with whole(manifest) as part:
        part.write_text(json.dumps(configuration | {"data": data}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _mend(path: Path) -> None:
    """Cut off the end of a line that a killed bench had begun."""
    raw = path.read_bytes()
    if raw and not raw.endswith(b"\n"):
        os.truncate(path, raw.rfind(b"\n") + 1)


def _read(place: object, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RunError(f"{place} is not JSON: {error}; mend or delete it, or give another --out") from None
    if not isinstance(value, dict):
        raise RunError(f"{place} is no JSON object; mend or delete it, or give another --out")
    return value
