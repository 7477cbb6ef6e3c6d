"""The words of a run, read from its parts, and some rows once more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gradsentry.errors import RunError
from gradsentry.run.words import RunWords, words_of
from gradsentry.schema import SURPRISES
from gradsentry.types import Score, Shard, Surprises, Vocabulary
from gradsentry.verdict.words import MemoryWords
from runs import begun

VOCABULARY = Vocabulary([b"one", b" two", b" three", b" END"], np.array([False, False, False, True]))


def test_rows_are_read_from_a_part() -> None:
    rows = [([0, 1, 2], [0, 1.5, 2.5], [False, False, True], [], []), (None,) * 5, ([1, 3, 1], [0, 1.0, 1.0], [False, True, True], [1], [])]
    columns = zip(SURPRISES, zip(*rows, strict=True), strict=True)
    table = pa.table({field.name: pa.array(list(values), field.type) for field, values in columns})
    first, none, third = words_of(table, VOCABULARY)
    assert list(words_of(table.slice(1, 1), VOCABULARY)) == [none] == [None]
    assert first is not None
    assert first.prompt.words == ["", "one", "two", ""]
    assert first.completion.surprise.tolist() == [0, 2.5, 0]
    assert third is not None
    assert third.completion.words == ["", "end", "two", ""]


def scores(first: int, n: int) -> list[Score]:
    """Every third row is not scored."""
    made = []
    for row in range(first, first + n):
        tokens = np.array([0, row % 3, 1 + row % 2], np.int32)
        surprises = Surprises(tokens, np.array([0, row % 5, 1], np.float16), np.array([False, True, True]))
        made.append(Score(row, "error", reason="broken") if row % 3 == 2 else Score(row, "scored", 0.1, 2, 1.0, surprises=surprises))
    return made


def test_the_words_of_a_run_are_those_of_its_scores_in_memory(tmp_path: Path) -> None:
    run, shards = begun(tmp_path / "run"), [Shard(0, 0, 7), Shard(1, 7, 12)]
    for shard in shards:
        run.write_scores(shard, scores(shard.start, shard.stop - shard.start))
    run.write_vocabulary(VOCABULARY)
    words, expected = RunWords(run, shards), MemoryWords.of_scores(scores(0, 12), VOCABULARY)

    def comparable(row: object) -> str:
        return repr(row)

    assert list(map(comparable, words)) == list(map(comparable, expected))


def test_a_run_without_its_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"tokens.parquet is missing"):
        RunWords(begun(tmp_path / "run"), [])
