"""Nothing half-written under a final name, and nothing deleted that somebody writes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradsentry.errors import RunError
from gradsentry.run.atomic import OURS, atomic_write, create_once, sweep
from trees import tree

# whole


def test_a_file_gets_its_name_only_when_the_body_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with atomic_write(path) as part:
        part.write_text("new")
        assert part.parent == path.parent, "another file system would not rename"
        assert not path.exists()
    assert tree(tmp_path) == {"out.txt": b"new"}


def test_a_file_that_is_there_is_whole_at_every_moment_and_then_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with atomic_write(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert tree(tmp_path) == {"out.txt": b"new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_body_that_raises_leaves_what_was_there(tmp_path: Path, error: type[BaseException], before: str | None) -> None:
    path = tmp_path / "out.txt"
    if before is not None:
        path.write_text(before)

    def fail() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert tree(tmp_path) == ({} if before is None else {"out.txt": b"old"})


@pytest.mark.parametrize("before", [False, True])
def test_a_directory_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, before: bool) -> None:
    path = tmp_path / "kept.dataset"
    if before:
        path.mkdir()
        (path / "old.arrow").write_text("old")
    earlier = tree(tmp_path)

    def fail() -> None:
        with atomic_write(path) as part:
            part.mkdir()
            (part / "data.arrow").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert tree(tmp_path) == earlier
    assert [entry.name for entry in tmp_path.iterdir()] == (["kept.dataset"] if before else [])
    with atomic_write(path) as part:
        part.mkdir()
        (part / "data.arrow").write_text("new")
    assert tree(tmp_path) == {"kept.dataset/data.arrow": b"new"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.dataset"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("writing", [atomic_write, create_once])
def test_a_disk_that_is_full_is_told_with_the_file_and_leaves_what_was_there(tmp_path: Path, writing: Any, code: int) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def fill() -> None:
        with writing(path) as part:
            part.write_text("half")
            raise OSError(code, os.strerror(code))

    with pytest.raises(RunError, match=r"out.txt: .*\(.* MiB free\); make room and run the same command again"):
        fill()
    assert tree(tmp_path) == {"out.txt": b"old"}


def test_other_errors_of_the_system_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_write(tmp_path / "out.txt"):
        raise PermissionError(errno.EACCES, "not yours")
    assert tree(tmp_path) == {}


# first


def refuse(code: int, made: Path | None = None) -> Any:
    """An `os.link` that does not work; `made` is a file that another process writes in that moment."""

    def link(*_: Any) -> None:
        if made is not None:
            made.write_text("theirs")
        raise OSError(code, "no links here")

    return link


@pytest.mark.parametrize("links", [True, False])
def test_the_first_gives_the_content_and_the_others_leave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr("os.link", refuse(errno.EPERM))
    path = tmp_path / "out.txt"
    for content in ("one", "two"):
        with create_once(path) as part:
            part.write_text(content)
    assert tree(tmp_path) == {"out.txt": b"one"}


def test_without_hard_links_what_another_process_has_just_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.txt"
    monkeypatch.setattr("os.link", refuse(errno.EPERM, made=path))
    with create_once(path) as part:
        part.write_text("ours")
    assert tree(tmp_path) == {"out.txt": b"theirs"}


def test_a_disk_without_room_for_the_name_is_full_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.link", refuse(errno.ENOSPC))
    with pytest.raises(RunError, match="no space left on the disk"), create_once(tmp_path / "out.txt") as part:
        part.write_text("one")
    assert tree(tmp_path) == {}


# sweep


def test_what_killed_processes_left_is_swept_and_what_live_ones_write_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    old, elsewhere = tmp_path / ".part-9-x", tmp_path / ".part-another.host-9-part-00002.parquet"
    ours = [tmp_path / f"{OURS}{pid}-part-00000.parquet" for pid in (dead.pid, os.getpid())]
    kept = tmp_path / "notes.part-1"
    for path in (old, elsewhere, *ours, kept):
        path.write_bytes(b"half")
    folder = tmp_path / f"{OURS}{dead.pid}-kept.dataset"
    folder.mkdir()
    (folder / "data.arrow").write_bytes(b"half")
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert set(tree(tmp_path)) == {elsewhere.name, ours[1].name, kept.name}
    assert not folder.exists()


def as_process_of(host: str, namespace: str, code: str) -> None:
    """Run code in a process of its own that takes this machine for the one of that name, and its process ids for those of the namespace;
    "" is a system that tells of none."""
    before = f"""
import os, platform
from pathlib import Path
real = os.readlink
def readlink(path, **options):
    if path != "/proc/self/ns/pid":
        return real(path, **options)
    if not {namespace!r}:
        raise FileNotFoundError(path)
    return {namespace!r}
os.readlink, platform.node = readlink, lambda: {host!r}
from gradsentry.run.atomic import sweep, atomic_write
"""
    subprocess.run([sys.executable, "-c", before + code], check=True)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (("node-{dead}", "pid:[1]"), ("node", "pid:[1]")),
        (("node-{dead}", ""), ("node", "")),
        (("node", "pid:[1]"), ("node", "pid:[2]")),
        (("node", "pid:[1]"), ("node", "")),
        (("node", ""), ("node", "pid:[1]")),
    ],
)
def test_the_files_of_another_machine_or_namespace_are_left_alone(tmp_path: Path, theirs: tuple[str, str], ours: tuple[str, str]) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    theirs = (theirs[0].format(dead=dead.pid), theirs[1])
    as_process_of(*theirs, f"with atomic_write(Path({str(tmp_path / 'a')!r})) as part:\n    part.write_text('half')\n    os._exit(0)")
    (half,) = tree(tmp_path)
    as_process_of(*ours, f"sweep(Path({str(tmp_path)!r}))")
    assert set(tree(tmp_path)) == {half}
    as_process_of(*theirs, f"sweep(Path({str(tmp_path)!r}))")
    assert tree(tmp_path) == {}, "its own knows that the process is gone"
