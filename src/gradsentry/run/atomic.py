"""Atomic writes, and the removal of what killed processes left half-written."""

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
"""Prefix of all temporary names."""
STALE = 24 * 3600
"""Seconds after which a temporary file counts as left over, whatever machine wrote it."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _namespace() -> str:
    """Names the scope of a process id: this boot of this machine, and this container; empty where the system does not say."""
    try:
        scope = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return f"n{hashlib.sha256(scope.encode()).hexdigest()[:8]}-"  # starts with a letter, unlike a process id


OURS = f"{TEMPORARY}{platform.node()}@{_namespace()}"
"""Prefix of the temporary names of processes whose ids this process can look up; the id follows. Containers may share a machine's
name. The @, which no machine name contains, keeps a longer machine name from matching."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder; the file or directory written there is renamed to `path` if the block succeeds.

    Raises:
        RunError: the disk is full.
    """
    with _temporary_sibling(path) as part:
        yield part
        if part.is_dir():
            if path.exists():
                shutil.rmtree(path)
        else:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)


@contextmanager
def create_once(path: Path) -> Iterator[Path]:
    """As `atomic_write`, for a file that many processes may try to write: the first to finish determines its content.

    Raises:
        RunError: the disk is full.
    """
    with _temporary_sibling(path) as part:
        yield part
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno in FULL:
                raise
            if not path.exists():  # a file system without hard links: another process may write between this test and the next line
                part.replace(path)


@contextmanager
def _temporary_sibling(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`, deleted afterwards in every case."""
    part = path.with_name(f"{OURS}{os.getpid()}-{path.name}")
    try:
        yield part
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise RunError(_full(path, error.errno)) from error
    finally:
        remove(part)


def _full(path: Path, code: int) -> str:
    cause = "no space left on the disk" if code == errno.ENOSPC else os.strerror(code).lower()
    free = shutil.disk_usage(path.parent).free / 2**20
    return f"{path}: {cause} ({free:,.0f} MiB free); make room and run the same command again: it resumes from the finished parts"


def remove(path: Path) -> None:
    """Delete a file or a directory, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete the half-written files that killed processes left in a folder, and none of a live process."""
    for part in folder.glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):  # another process may delete it at the same time
            if _is_left_over(part):
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def _is_left_over(part: Path) -> bool:
    """Whether the process that wrote this temporary file has ended."""
    owner = part.name.removeprefix(OURS).partition("-")[0]
    if os.name == "posix" and part.name.startswith(OURS) and owner.isdecimal():
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
    return part.stat().st_mtime < time.time() - STALE
