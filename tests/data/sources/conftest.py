"""Helpers for the source tests. Nothing here reaches the network or the user's Hugging Face cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

# `datasets` reads these when it is first imported, so they are set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp(prefix="gradsentry-test-hf-"))

from gradsentry.data.sources import Source, open_source
from gradsentry.types import Record


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Write a file and return its path."""

    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def open_bytes(write: Callable[[str, bytes], Path]) -> Callable[[str, bytes], Source]:
    """A source over a file with the given bytes."""
    return lambda name, data: open_source(write(name, data))


@pytest.fixture
def read_all() -> Callable[..., list[Record]]:
    """All records, by shards of the given size, read last shard first to prove that each can be read alone."""

    def read_all(source: Source, shard_rows: int = 2) -> list[Record]:
        shards = [list(source.read(shard)) for shard in reversed(source.plan(shard_rows))]
        return [record for shard in reversed(shards) for record in shard]

    return read_all


@pytest.fixture
def split_bytes(tmp_path: Path) -> Callable[[Source, list[bool]], tuple[bytes, bytes]]:
    """The bytes of the two files that a split writes; the counts are checked on the way."""

    def split_bytes(source: Source, flags: list[bool]) -> tuple[bytes, bytes]:
        kept, flagged = tmp_path / f"kept.{source.suffix}", tmp_path / f"flagged.{source.suffix}"
        assert source.split(flags, [kept, flagged]) == (flags.count(False), flags.count(True))
        return kept.read_bytes(), flagged.read_bytes()

    return split_bytes
