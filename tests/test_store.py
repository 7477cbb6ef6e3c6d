"""Nothing of somebody else's deleted, no two runs mixed, and what was written read back."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.columns import PART, SCORES
from gradsentry.errors import RunError
from gradsentry.store import RunDirectory, differences
from gradsentry.types import Score, Shard, Surprises, Vocabulary
from trees import tree

IDENTITY = {"data": "abc", "model": "m1", "rows": 4, "max_length": None}


def begun(path: Path, identity: dict[str, Any] = IDENTITY) -> RunDirectory:
    """A run that has been claimed and has its manifest, as `scan` makes it."""
    run = RunDirectory(path)
    run.claim({"identity": identity})
    return run


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
        run.write_text(name, "x")
    run.output("kept", "dataset").mkdir()
    (run.output("kept", "dataset") / "data.arrow").write_text("x")
    run.write_text("notes.txt", "mine")
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
    with pytest.raises(RunError, match=r"closed: nothing can be written there; make it writable, or use another directory"):
        RunDirectory(closed / inside).check({"data": "abc"})
    assert list(closed.iterdir()) == []


def test_a_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(RunError, match=r"out is a file; give a directory"):
        RunDirectory(tmp_path / "out" / "runs" / "first").check({"data": "abc"})


# Reading and writing


def test_no_manifest_is_no_run(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).manifest() is None
    assert RunDirectory(tmp_path / "absent").manifest() is None


scores_lists = st.lists(
    st.builds(
        Score,
        st.just(0),
        st.sampled_from(["scored", "unscorable", "error"]),
        st.none() | st.floats(0, 1),
        st.integers(0, 2**40),
        st.none() | st.floats(0, 100),
        st.text(max_size=10),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(scores=scores_lists, size=st.integers(1, 5))
def test_scores_are_read_as_they_were_written_whatever_the_order_of_writing(
    tmp_path_factory: pytest.TempPathFactory, scores: list[Score], size: int
) -> None:
    run = begun(tmp_path_factory.mktemp("runs") / "run")
    shards = [Shard(i, start, min(start + size, len(scores))) for i, start in enumerate(range(0, len(scores), size))]
    for shard in reversed(shards):
        run.write_scores(shard, scores[shard.start : shard.stop])
    table = run.read_scores(shards)
    assert table.schema.equals(SCORES)
    assert [Score(**line) for line in table.to_pylist()] == scores


def test_a_part_stands_under_its_number_with_all_its_columns(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    shard = Shard(7, 0, 1)
    run.write_scores(shard, [Score(0, "error", reason="broken")])
    assert run.part(shard) == run.path / "scores" / "part-00007.parquet"
    assert pq.read_schema(run.part(shard)).equals(PART)


def test_surprises_come_back_part_by_part(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    told = Surprises(np.array([5, 6], np.int32), np.array([0, 1.5], np.float16), np.array([False, True]))
    shards = [Shard(0, 0, 2), Shard(1, 2, 3)]
    run.write_scores(shards[0], [Score(0, "scored", 0.5, 1, 1.5, surprises=told), Score(1, "error", reason="broken")])
    run.write_scores(shards[1], [Score(2, "scored", 0.5, 1, 1.5, surprises=told)])
    first, second = (table.to_pylist() for table in run.surprises(shards))
    values = {"tokens": [5, 6], "surprise": [0, 1.5], "supervised": [False, True]}
    assert first == [{"row": 0} | values, {"row": 1} | dict.fromkeys(values)]
    assert second == [{"row": 2} | values]


def test_the_vocabulary_is_kept_and_missed_aloud(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    with pytest.raises(RunError, match=r"tokens.parquet is missing: run the same scan again"):
        run.vocabulary()
    run.write_vocabulary(Vocabulary([b"a", b" b", b"\xe4"], np.array([False, False, True])))
    assert run.vocabulary().pieces == [b"a", b" b", b"\xe4"]
    assert run.vocabulary().special.tolist() == [False, False, True]
    run.clear()
    assert not run.vocabulary_path.exists()


def test_a_lone_surrogate_in_a_reason_does_not_stop_a_run(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.write_scores(Shard(0, 0, 1), [Score(0, "error", reason="unknown role 'é\ud83d'")])
    assert run.read_scores([Shard(0, 0, 1)])["reason"].to_pylist() == ["unknown role 'é?'"]


def test_a_missing_part_is_told_with_how_many_and_what_to_do(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    shards = [Shard(i, i, i + 1) for i in range(3)]
    run.write_scores(shards[1], [Score(1, "scored", 0.5, 3, 1.0)])
    with pytest.raises(RunError, match="2 of 3 parts are missing; run the same scan again"):
        run.read_scores(shards)


def test_a_part_with_other_rows_than_its_shard_is_refused(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.write_scores(Shard(0, 0, 1), [Score(0, "scored", 0.5, 3, 1.0)])
    with pytest.raises(RunError, match=r"part-00000.parquet has 1 rows, not 2"):
        run.read_scores([Shard(0, 0, 2)])


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "no footer": lambda content: content[:-8] + bytes(8),
    "no table": lambda content: b"PAR1 of another program PAR1",
    "no data": lambda content: content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :],
}


def written(path: Path, rows: int) -> tuple[RunDirectory, list[Shard]]:
    """A run whose shards, of one row each, are all scored."""
    run = begun(path)
    run.write_vocabulary(Vocabulary([b"a"], np.array([False])))
    shards = [Shard(i, i, i + 1) for i in range(rows)]
    told = Surprises(np.arange(500, dtype=np.int32), np.linspace(0, 9, 500, dtype=np.float16), np.ones(500, dtype=bool))
    for shard in shards:
        run.write_scores(shard, [Score(shard.start, "scored", 0.5, 3, 1.0, surprises=told)])
    return run, shards


def damaged(path: Path, how: str) -> None:
    path.write_bytes(DAMAGES[how](path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_table_is_told_with_its_file_and_what_to_do(tmp_path: Path, how: str) -> None:
    run, shards = written(tmp_path / "run", 3)
    damaged(run.part(shards[1]), how)
    words = r"part-00001.parquet is damaged \(.+\); delete it and run the same scan again"
    if how != "no data":  # the columns that are read may be whole
        with pytest.raises(RunError, match=words):
            run.read_scores(shards)
    with pytest.raises(RunError, match=words):
        list(run.surprises(shards))
    damaged(run.vocabulary_path, how)
    with pytest.raises(RunError, match=r"tokens.parquet is damaged"):
        run.vocabulary()


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "no data"])
def test_a_part_that_cannot_be_opened_is_missing(tmp_path: Path, how: str) -> None:
    run, shards = written(tmp_path / "run", 3)
    assert run.missing(shards) == []
    damaged(run.part(shards[1]), how)
    run.part(shards[2]).unlink()
    assert run.missing(shards) == shards[1:]


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_without_a_vocabulary_the_first_shard_is_missing_for_with_it_comes_a_new_one(tmp_path: Path, how: str) -> None:
    run, shards = written(tmp_path / "run", 3)
    run.vocabulary_path.unlink() if how == "gone" else damaged(run.vocabulary_path, how)
    assert not run.has_vocabulary
    assert run.missing(shards) == shards[:1]
    run.write_vocabulary(Vocabulary([b"a"], np.array([False])))
    assert run.has_vocabulary
    assert run.missing(shards) == []


def test_json_is_utf8_and_refuses_what_is_no_json(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.write_json("report.json", {"é": [1.5, None, "\ud83d"]})
    assert json.loads((run.path / "report.json").read_text(encoding="utf-8")) == {"é": [1.5, None, "?"]}
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
        told = [results.get(timeout=60) for _ in processes]
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
