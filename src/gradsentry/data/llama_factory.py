"""LLaMA-Factory's `dataset_info.json`: the data sets of a folder by name, with their files, formats and columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from gradsentry.errors import DataError, UsageError

FILE = "dataset_info.json"
SOURCES = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
"""Keys of an entry for the place of its rows; we read the first two."""
COLUMNS = {
    "alpaca": {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system"},
    "sharegpt": {"messages": "conversations", "system": "system", "tools": "tools"},
}
"""By formatting: LLaMA-Factory's name of a column -> the name in our format."""
TAGS = {
    "role_tag": ("from", "role"),
    "content_tag": ("value", "content"),
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant"),
    "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call",),
    "system_tag": ("system",),
}
"""Spellings of turns that are read."""


class Entry(NamedTuple):
    """A data set of the folder, as options of a scan."""

    data: str
    """Path of a file or folder, or a Hub id."""
    name: str | None
    """The configuration of a Hub id."""
    split: str | None
    format: str
    map: str | None


def is_folder(data: Any) -> bool:
    """Whether this is a folder of LLaMA-Factory. `save_to_disk` writes a file of the same name with other keys."""
    try:
        return bool(_entries(Path(data)))
    except (OSError, ValueError, TypeError):
        return False


def entry_named(folder: Path, name: str | None) -> Entry:
    """The entry with this name.

    Raises:
        UsageError: there is no such entry, or no name was given and there are several.
        DataError: the entry has no file or Hub id, or spells its turns in a way that is not read.
    """
    entries = _entries(folder)
    if name not in entries:
        near = get_close_matches(str(name), entries, n=1)
        choice = f"did you mean {near[0]!r}?" if near else f"choose one of them with --name: {', '.join(entries)}"
        raise UsageError(f"{folder / FILE}: " + (f"it has no data set {name!r}; " if name else "it has several data sets; ") + choice)
    entry = entries[name]
    where = f"{folder / FILE}: {name!r}"
    for tag, value in (entry.get("tags") or {}).items():
        if value not in TAGS.get(tag, (value,)):
            raise DataError(f"{where}: {tag} is {value!r}, and turns with {' or '.join(TAGS[tag])} are read; convert the file")
    if "file_name" in entry:
        data = str(folder / str(entry["file_name"]))
    elif "hf_hub_url" in entry:
        data = str(entry["hf_hub_url"])
    else:
        raise DataError(f"{where} has neither file_name nor hf_hub_url; download it, and give the file")
    return Entry(data, entry.get("subset"), entry.get("split"), *_format(entry))


def _entries(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The entries of the folder's file; none where the file is none of LLaMA-Factory's."""
    held = json.loads((folder / FILE).read_text(encoding="utf-8"))
    entries = held if isinstance(held, dict) else {}
    return {name: entry for name, entry in entries.items() if isinstance(entry, dict) and any(key in entry for key in SOURCES)}


def _format(entry: Mapping[str, Any]) -> tuple[str, str | None]:
    """Our format of the entry's rows, and the mapping of its columns."""
    formatting = "sharegpt" if entry.get("formatting") in ("sharegpt", "openai") else "alpaca"
    columns = dict(entry.get("columns") or {})
    known = COLUMNS[formatting]
    if entry.get("ranking"):
        format, known = (
            "preference",
            {key: ours for key, ours in known.items() if key != "response"} | {"chosen": "chosen", "rejected": "rejected"},
        )
    elif "kto_tag" in columns:
        format, known = "kto", known | {"kto_tag": "label"}
    else:
        format = formatting
    pairs = [f"{known[theirs]}={column}" for theirs, column in columns.items() if theirs in known and known[theirs] != column]
    return format, ",".join(pairs) or None
