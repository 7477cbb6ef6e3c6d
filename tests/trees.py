"""Files as tests compare them."""

from __future__ import annotations

from pathlib import Path


def tree(path: Path) -> dict[str, bytes]:
    """Every file below a directory, by its relative path."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
