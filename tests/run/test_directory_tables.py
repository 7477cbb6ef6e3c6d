"""What a run's tables hold is read back as it was written; a missing or damaged one is told by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.errors import RunError
from gradsentry.run.directory import RunDirectory
from gradsentry.schema import PART, SCORES
from gradsentry.types import Score, Shard, Surprises, Vocabulary
from runs import begun


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
    values = {"tokens": [5, 6], "nll": [0, 1.5], "supervised": [False, True], "spelled_specials": [], "sides": []}
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
