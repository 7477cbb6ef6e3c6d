"""Files, opened and hashed."""

from __future__ import annotations

import hashlib
from io import BufferedReader
from pathlib import Path

from gradsentry.errors import DataError


def open_binary(path: Path) -> BufferedReader:
    """The file, open for reading.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check the path and your rights to it") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with open_binary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
