"""Poisoning data on purpose and measuring who finds it."""

from __future__ import annotations

from importlib.util import find_spec

from gradsentry.errors import UsageError


def needs_bench(what: str, *packages: str) -> None:
    """Refuse to begin without the packages of the extra ``bench``.

    Raises:
        UsageError: one of them is not installed.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise UsageError(f"{what} needs {', '.join(missing)}: pip install 'gradsentry[bench]'")
