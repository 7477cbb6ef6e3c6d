"""Writing to disk so that nothing half-written ever stands under a final name, and sweeping up after what was killed."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gradsentry.errors import RunError

TEMPORARY = ".part-"
"""How all temporary names begin."""
STALE = 24 * 3600
"""Seconds after which a temporary file counts as left over, wherever its process ran."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _namespace() -> str:
    """Where a process id means what it means here: this machine since its start, and this container of it; "" where nothing tells."""
    try:
        told = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return f"n{hashlib.sha256(told.encode()).hexdigest()[:8]}-"  # begins with no digit, as a process id does


OURS = f"{TEMPORARY}{platform.node()}@{_namespace()}"
"""How those begin under which processes write whose ids we can look up; the id follows. Containers may share a machine's name. No
machine has an @ in its name, which sets it apart from one whose name goes on where ours ends."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there, a file or a directory, gets the final name when, and only when, all
    went well.

    Raises:
        RunError: the disk is full.
    """
    with _beside(path) as part:
        yield part
        if part.is_dir():
            if path.exists():
                shutil.rmtree(path)
        else:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)


@contextmanager
def first(path: Path) -> Iterator[Path]:
    """As `whole`, for a file that many processes may try to write: the first to end gives it its content, for good.

    Raises:
        RunError: the disk is full.
    """
    with _beside(path) as part:
        yield part
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno in FULL:
                raise
            if not path.exists():  # a file system without hard links leaves this moment open
                part.replace(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that is gone afterwards, however it ends."""
    part = path.with_name(f"{OURS}{os.getpid()}-{path.name}")
    try:
        yield part
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise RunError(_full(path, error.errno)) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)


def _full(path: Path, code: int) -> str:
    cause = "no space left on the disk" if code == errno.ENOSPC else os.strerror(code).lower()
    free = shutil.disk_usage(path.parent).free / 2**20
    return f"{path}: {cause} ({free:,.0f} MiB free); make room and run the same command again: it goes on with what is whole"


def sweep(folder: Path) -> None:
    """Delete what killed processes left half-written in a folder; the files of one that lives are left alone."""
    for part in folder.glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):  # another process may sweep at the same time
            if _is_left_over(part):
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def _is_left_over(part: Path) -> bool:
    """Whether the process that wrote under this temporary name is gone."""
    owner = part.name.removeprefix(OURS).partition("-")[0]
    if os.name == "posix" and part.name.startswith(OURS) and owner.isdecimal():
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
    return part.stat().st_mtime < time.time() - STALE
