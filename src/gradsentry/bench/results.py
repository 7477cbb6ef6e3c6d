"""The results of a bench on disk: one line a data set and filter, added as soon as it is measured."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradsentry.errors import RunError
from gradsentry.run.atomic import atomic_write, sweep
from gradsentry.run.directory import RunDirectory, differences

Result = dict[str, Any]


@dataclass
class Results:
    """``bench.json`` has what the results depend on, ``results.jsonl`` one result a line."""

    folder: Path
    found: dict[str, Result] = field(default_factory=dict)
    """By key, in the order of their measurement."""

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


def opened(
    folder: Path, configuration: dict[str, Any] | None, data: Mapping[str, str] | None = None, attacks: Mapping[str, str] | None = None
) -> Results:
    """The results of a folder, to add to; a new folder has none.

    Args:
        configuration: what changes a result and is not part of a data set's description (model, dtype, training); None: only read,
            while a bench may be adding to it.
        data: task, or its test part -> fingerprint of the rows. Later calls may add tasks.
        attacks: name of a user's own attack -> what it does. Later calls may add attacks.

    Raises:
        RunError: the folder holds results of another configuration, other rows or another attack of the same name, or foreign files;
            or it is a file, or cannot be written.
    """
    results = Results(folder)
    if configuration is not None:
        _claim(folder, configuration, {"data": data or {}, "attacks": attacks or {}})
    if results.path.exists():
        raw = results.path.read_bytes()
        if configuration is not None and raw and not raw.endswith(b"\n"):  # the last line of a killed bench
            os.truncate(results.path, raw.rfind(b"\n") + 1)
        for number, line in enumerate(results.path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
            result = _read(f"{results.path}:{number}", line)
            if "key" not in result:
                raise RunError(f"{results.path}:{number} is not a result of a bench; choose another --out")
            if "defence" in result:  # the name of "filter" in results of the first version
                result["filter"] = result.pop("defence")
            results.found[result["key"]] = result
    return results


def _claim(folder: Path, configuration: dict[str, Any], inputs: dict[str, Mapping[str, str]]) -> None:
    """Bind the folder to this configuration and these inputs ("data", "attacks"), or refuse."""
    RunDirectory(folder).check_writable()
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    manifest = folder / "bench.json"
    if manifest.exists():
        known = _read(manifest, manifest.read_text(encoding="utf-8"))
        for what, given in inputs.items():
            stored = known.pop(what, {})
            if changed := [name for name in given if stored.get(name, given[name]) != given[name]]:
                other = "other rows of" if what == "data" else "another attack named"
                raise RunError(f"{folder} holds results of {other} {', '.join(changed)}; choose another --out, or the earlier {what}")
            inputs[what] = {**stored, **given}
        if known != configuration:
            changed = "; ".join(differences(known, configuration))
            raise RunError(f"{folder} holds results of another configuration ({changed}); choose another --out, or the same options")
    elif (folder / "results.jsonl").exists():
        raise RunError(f"{folder / 'results.jsonl'} exists without the bench.json that describes it; choose another --out")
    with atomic_write(manifest) as part:
        part.write_text(json.dumps(configuration | inputs, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(place: object, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RunError(f"{place} is not JSON: {error}; repair or delete it, or choose another --out") from None
    if not isinstance(value, dict):
        raise RunError(f"{place} is not a JSON object; repair or delete it, or choose another --out")
    return value
