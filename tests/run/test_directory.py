"""Nothing of somebody else's deleted, no two runs mixed."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gradsentry.errors import RunError
from gradsentry.run.directory import RunDirectory, differences
from gradsentry.types import Score, Shard
from runs import IDENTITY, begun
from trees import tree

# claim


def test_a_new_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "a" / "b").claim({"identity": IDENTITY})
    assert (tmp_path / "a" / "b" / "scores").is_dir()


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    RunDirectory(tmp_path).claim({"identity": IDENTITY})
    assert (tmp_path / "scores").is_dir()


def test_the_same_run_goes_on_with_its_parts(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.write_scores(Shard(0, 0, 1), [Score(0, "scored", 0.5, 3, 1.0)])
    before = tree(run.path)
    run.claim({"identity": dict(reversed(IDENTITY.items()))})
    assert tree(run.path) == before


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    before = tree(run.path)
    with pytest.raises(
        RunError, match=r"another run \(fingerprint \w{12}, now \w{12}: model: 'm1', now 'm2'\); give another --out, or --overwrite"
    ):
        run.claim({"identity": IDENTITY | {"model": "m2"}})
    assert tree(run.path) == before


def test_differences_name_changed_added_and_removed_keys_and_no_others() -> None:
    assert differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == ["b: 2, now 5", "c: 3, now None", "d: None, now 4"]
    assert differences(IDENTITY, json.loads(json.dumps(IDENTITY))) == []


@pytest.mark.parametrize("identity", [IDENTITY, IDENTITY | {"model": "m2"}])
def test_overwrite_throws_a_run_away_and_leaves_what_it_did_not_write(tmp_path: Path, identity: dict[str, Any]) -> None:
    run = begun(tmp_path / "run")
    run.write_scores(Shard(0, 0, 1), [Score(0, "scored", 0.5, 3, 1.0)])
    for name in ("report.html", "report.json", "kept.jsonl", "flagged.jsonl", "verdicts.parquet"):
        (run.path / name).write_text("x")
    run.output("kept", "dataset").mkdir()
    (run.output("kept", "dataset") / "data.arrow").write_text("x")
    (run.path / "notes.txt").write_text("mine")
    run.claim({"identity": identity}, overwrite=True)
    assert set(tree(run.path)) == {"manifest.json", "notes.txt"}
    assert sorted(path.name for path in run.path.iterdir()) == ["manifest.json", "notes.txt", "scores"]
    assert run.manifest() == {"identity": identity}


def foreign(path: Path, name: str, content: str) -> dict[str, bytes]:
    path.mkdir()
    (path / name).write_text(content)
    (path / "report.html").write_text("somebody's report")
    (path / "scores").mkdir()
    (path / "scores" / "game.txt").write_text("3:1")
    return tree(path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_with_other_files_is_refused_and_not_touched(tmp_path: Path, overwrite: bool) -> None:
    before = foreign(tmp_path / "out", "thesis.tex", "x")
    with pytest.raises(RunError, match="is not empty and holds no run; give another directory"):
        RunDirectory(tmp_path / "out").claim({"identity": IDENTITY}, overwrite)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("manifest", ['{"name": "a web app"}', '{"identity": "x"}', "[]", '"x"', "null", "3", "{", "", "\x00"])
def test_a_manifest_that_is_no_runs_is_refused_and_nothing_touched(tmp_path: Path, manifest: str, overwrite: bool) -> None:
    before = foreign(tmp_path / "out", "manifest.json", manifest)
    with pytest.raises(RunError, match=r"manifest\.json (is not the manifest of a run|cannot be read)"):
        RunDirectory(tmp_path / "out").claim({"identity": IDENTITY}, overwrite)
    assert tree(tmp_path / "out") == before


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(RunError, match="is a file; give a directory"):
        RunDirectory(tmp_path / "out").claim({"identity": IDENTITY}, overwrite=True)
    assert (tmp_path / "out").read_text() == "x"


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which this user, whoever runs the tests, can write nothing."""
    folder = tmp_path / "closed"
    folder.mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder)
    return folder


@pytest.mark.parametrize("inside", ["", "run", "runs/first"])
def test_a_directory_that_cannot_be_written_is_refused_before_anything_is_written(closed: Path, inside: str) -> None:
    with pytest.raises(RunError, match=r"closed: it is not writable; make it writable, or use another directory"):
        RunDirectory(closed / inside).check({"data": "abc"})
    assert list(closed.iterdir()) == []


def test_a_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(RunError, match=r"out is a file; give a directory"):
        RunDirectory(tmp_path / "out" / "runs" / "first").check({"data": "abc"})


def test_json_is_ascii_and_refuses_what_is_no_json(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.write_json("report.json", {"é": [1.5, None, "\ud83d"]})
    assert json.loads((run.path / "report.json").read_text(encoding="ascii")) == {"é": [1.5, None, "\ud83d"]}
    before = tree(run.path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("report.json", {"a": float("nan")})
    assert tree(run.path) == before


def test_a_part_that_was_being_written_when_the_process_died_does_not_count(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    shard = Shard(0, 0, 1)
    (run.path / "scores" / f".part-{os.getpid() + 1}-part-00000.parquet").write_bytes(b"half")
    with pytest.raises(RunError, match="1 of 1 parts"):
        run.read_scores([shard])
    run.claim({"identity": IDENTITY})
    run.write_scores(shard, [Score(0, "scored", 0.5, 3, 1.0)])
    assert run.read_scores([shard]).num_rows == 1
    assert pa.types.is_float64(run.read_scores([shard]).schema.field("entropy").type)


def test_a_run_that_was_killed_before_its_first_manifest_can_start_again(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    (run.path / "scores").mkdir(parents=True)
    (run.path / ".part-1-manifest.json").write_text("{")
    run.claim({"identity": {"data": "a"}})
    run.manifest_path.unlink()
    (run.path / "scores" / "part-00000.parquet").write_text("of another program")
    with pytest.raises(RunError, match="holds no run"):
        run.claim({"identity": {"data": "a"}})


def test_as_much_of_the_identity_as_is_known_is_checked_and_nothing_changed(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "new").check({"data": "abc"})
    assert not (tmp_path / "new").exists()
    run = begun(tmp_path / "run")
    before = tree(run.path)
    run.check({"data": "abc"})
    with pytest.raises(RunError, match="data: 'abc', now 'other'"):
        run.check({"data": "other"})
    run.check({"data": "other"}, overwrite=True)
    assert tree(run.path) == before


def test_an_engines_files_are_no_run_yet_and_go_when_it_is_replaced(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.engine.mkdir()
    (run.engine / "completions").write_text("0")
    run.claim({"identity": IDENTITY})
    run.claim({"identity": IDENTITY}, overwrite=True)
    assert set(tree(tmp_path)) == {"manifest.json"}


def claim_one_of_two(path: Path, barrier: Any, which: int, results: Any) -> None:
    run = RunDirectory(path)
    barrier.wait()
    try:
        results.put(run.claim({"identity": {"model": which % 2}, "token_budget": which})["token_budget"])
    except RunError as error:
        results.put(str(error))


def test_of_processes_that_claim_at_once_one_wins_and_those_of_another_run_are_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for round in range(5):
        barrier, results = context.Barrier(8), context.Queue()
        path = tmp_path / str(round)
        processes = [context.Process(target=claim_one_of_two, args=(path, barrier, which, results)) for which in range(8)]
        for process in processes:
            process.start()
        told = [results.get(timeout=240) for _ in processes]
        for process in processes:
            process.join()
        winner = json.loads((path / "manifest.json").read_text())["token_budget"]
        assert told.count(winner) == 4
        assert sum("already holds another run" in str(one) for one in told) == 4
        assert set(tree(path)) == {"manifest.json"}


def test_a_disk_that_is_full_is_told_with_the_part_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(tmp_path / "run")
    before = tree(run.path)

    def half(table: pa.Table, path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("pyarrow.parquet.write_table", half)
    with pytest.raises(RunError, match=r"part-00000.parquet: no space left on the disk"):
        run.write_scores(Shard(0, 0, 1), [Score(0, "scored", 0.5, 3, 1.0)])
    assert tree(run.path) == before


def test_both_folders_are_swept(tmp_path: Path) -> None:
    run = begun(tmp_path)
    kept = run.path / "notes.part-1"
    for path in (run.path / ".part-9-kept.jsonl", run.path / "scores" / ".part-9-part-00002.parquet", kept):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    run.sweep()
    assert set(tree(run.path)) == {"manifest.json", kept.name}
