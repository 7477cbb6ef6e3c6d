"""The shard loop and the job: what overlaps, what is kept, what is refused before a model is loaded."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import pytest

from gradsentry import ScanConfig, Scorer
from gradsentry.errors import DataError, NothingScorable, RunError, UsageError
from gradsentry.run.directory import RunDirectory
from gradsentry.run.job import Job, ModelFacts, plan
from gradsentry.run.shards import score_shards
from gradsentry.types import Progress, Shard
from runs import facts

ROWS = [{"prompt": f"What is {n}?", "completion": " one two three four"[: 2 + n % 17]} for n in range(40)]
PLENTY = 60.0
"""Seconds that a thread waits for another one; a test that needs them has failed."""


def planned(path: Path, data: Any = ROWS, **options: Any) -> Job:
    return plan(data, path / "run", ScanConfig(shard_rows=8, device="cpu", **options))


class Watched:
    """A scorer that only says when it is asked for what."""

    def __init__(self) -> None:
        self.prepared = {shard: threading.Event() for shard in range(5)}
        self.scored: list[int] = []

    def prepare(self, records: list[Any]) -> list[Any]:
        self.prepared[records[0].row // 8].set()
        return records

    def scoring(self) -> Any:
        return nullcontext()

    def score_prepared(self, items: list[Any], progress: Any, token_budget: int) -> list[Any]:
        shard = items[0].row // 8
        if shard < 4:
            assert self.prepared[shard + 1].wait(PLENTY), "the next shard is not read meanwhile"
            assert not any(self.prepared[later].is_set() for later in range(shard + 2, 5)), "more than one shard is ahead"
        self.scored.append(shard)
        return []


class Parts:
    """A run directory that keeps the order of writing, and can be slow or full."""

    has_vocabulary = True

    def __init__(self, full: bool = False) -> None:
        self.full = full
        self.written: list[int] = []

    def write_scores(self, shard: Shard, scores: list[Any]) -> None:
        if self.full:
            raise RunError("no space left")
        self.written.append(shard.index)


def work(job: Job, scorer: Any, run: Any, shards: Iterator[Shard]) -> None:
    score_shards(run, job.source, shards, scorer, 512, Progress())


def test_the_next_shard_is_read_while_one_is_scored_and_no_more_than_that(tmp_path: Path) -> None:
    job, scorer, run = planned(tmp_path), Watched(), Parts()
    work(job, scorer, run, iter(job.shards))
    assert scorer.scored == run.written == [0, 1, 2, 3, 4]


def test_a_shard_is_written_while_the_next_is_scored(tmp_path: Path) -> None:
    job, scorer, run = planned(tmp_path), Watched(), Parts()
    second = threading.Event()
    run.write_scores = lambda shard, scores: second.wait(PLENTY) and run.written.append(shard.index)
    scorer.score_prepared = lambda items, progress, token_budget: second.set() if items[0].row else None
    work(job, scorer, run, iter(job.shards))
    assert run.written == [0, 1, 2, 3, 4]


def test_what_a_thread_raises_comes_out_and_what_was_scored_is_kept(tmp_path: Path) -> None:
    job = planned(tmp_path)

    def shards() -> Iterator[Shard]:
        yield from job.shards[:2]
        raise DataError("the disk is gone")

    scorer, run = Watched(), Parts()
    scorer.score_prepared = lambda items, progress, token_budget: []
    with pytest.raises(DataError, match="gone"):
        work(job, scorer, run, shards())
    assert run.written == [0, 1]
    with pytest.raises(RunError, match="no space"):
        work(job, Watched(), Parts(full=True), iter(job.shards))


def test_a_part_that_cannot_be_written_is_told_while_the_next_shard_is_waited_for(tmp_path: Path) -> None:
    job, scorer, told = planned(tmp_path), Watched(), threading.Event()
    scorer.score_prepared = lambda items, progress, token_budget: []
    late: list[bool] = []

    def shards() -> Iterator[Shard]:
        yield job.shards[0]
        late.append(not told.wait(PLENTY))  # as a worker waits for its parent, which waits for the part

    with pytest.raises(RunError, match="no space"):
        work(job, scorer, Parts(full=True), shards())
    assert late == []
    told.set()


def test_the_overlap_changes_no_score(tmp_path: Path, model_dir: Path) -> None:
    job = plan(ROWS, tmp_path / "run", ScanConfig(shard_rows=8, device="cpu"), model_dir)
    scorer, run = job.load(), RunDirectory(job.out)
    token_budget = job.claim(ModelFacts.of(scorer))["token_budget"]
    score_shards(run, job.source, job.missing(), scorer, token_budget, Progress())
    plain = [score for shard in job.shards for score in scorer.score_records(list(job.source.read(shard)))]
    assert run.read_scores(job.shards)["entropy"].to_pylist() == [score.entropy for score in plain]


def test_what_is_wrong_without_a_model_is_told_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="cannot tell the format"):
        planned(tmp_path, [{"a": 1}])
    with pytest.raises(UsageError, match="no row has a column 'reply'"):
        planned(tmp_path, map="completion=reply")
    with pytest.raises(UsageError, match="--format yaml"):
        planned(tmp_path, format="yaml")
    with pytest.raises(NothingScorable, match="no rows"):
        planned(tmp_path, [])


@pytest.mark.parametrize("data", [ROWS, datasets.Dataset.from_list(ROWS)])
def test_a_job_travels(tmp_path: Path, data: Any) -> None:
    job = planned(tmp_path, data)
    again = pickle.loads(pickle.dumps(job))
    assert again.shards == job.shards
    assert [record.value for shard in again.shards for record in again.source.read(shard)] == ROWS


def test_the_run_keeps_its_token_budget_unless_another_is_asked_for(tmp_path: Path) -> None:
    assert planned(tmp_path).claim(facts(token_budget=512))["token_budget"] == 512
    assert planned(tmp_path).claim(facts(token_budget=16384))["token_budget"] == 512
    assert planned(tmp_path, token_budget=64).claim(facts(token_budget=64))["token_budget"] == 64
    assert planned(tmp_path).claim(facts(token_budget=512))["token_budget"] == 64


@pytest.mark.parametrize("change", [{"stamp": "other"}, {"dtype": "bfloat16"}, {"max_length": 128}])
def test_another_model_is_another_run(tmp_path: Path, change: dict[str, Any]) -> None:
    planned(tmp_path).claim(facts())
    with pytest.raises(RunError, match=r"already holds another run \(fingerprint"):
        planned(tmp_path).claim(facts(**change))


def test_the_format_is_that_of_the_first_rows_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("{broken\n" * 150 + '{"prompt": "a", "completion": "b"}\n')
    assert planned(tmp_path, path).config.format == "prompt-completion"
    path.write_text("{broken\n" * 3)
    job = planned(tmp_path, path)
    assert (job.config.format, job.shards[-1].stop) == ("text", 3), "no row is lost, each is told"


def test_a_mapped_column_may_begin_anywhere(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}] * 150 + [{"question": "q", "answer": "a", "passage": "p"}]
    assert planned(tmp_path, rows, map="context=passage").config.format == "qa"
    with pytest.raises(UsageError, match="no row has a column 'story'; there are question, answer"):
        planned(tmp_path, rows, map="context=story")


def test_what_is_supervised_in_rows_of_tokens_is_theirs_to_say(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--loss-on all: in rows of token ids the labels say which tokens are supervised"):
        planned(tmp_path, [{"input_ids": [1, 2], "labels": [-100, 2]}], loss_on="all")


def test_a_model_over_several_devices_scores_the_same(model_dir: Path, tmp_path: Path) -> None:
    job = plan(ROWS, tmp_path / "run", ScanConfig(device="cpu", dtype="float32", gpus_per_worker=2), model_dir)
    spread = job.load()
    assert spread.loaded.name == str(model_dir)
    assert spread.score(ROWS) == Scorer(model_dir, device="cpu", dtype="float32").score(ROWS)
