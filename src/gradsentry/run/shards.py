"""Scoring the shards of a run in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from gradsentry.data.sources import Source
from gradsentry.run.directory import RunDirectory
from gradsentry.types import Progress, Score, Shard

if TYPE_CHECKING:
    from gradsentry.scorer import Scorer


def score_shards(
    run: RunDirectory,
    source: Source,
    shards: Iterable[Shard],
    scorer: Scorer,
    token_budget: int,
    progress: Progress,
    on_written: Callable[[Shard], None] = lambda _: None,
) -> None:
    """Score shards one after the other; meanwhile two threads read and tokenise the next one and write the last one.

    Args:
        shards: taken one ahead in a thread, so the iterator may block, even until the last part is written.
        token_budget: tokens in a batch, as the run's manifest has it.
        progress: advanced after each batch.
        on_written: called after each part is written, in another thread.

    Raises:
        DataError, RunError: the data cannot be read, or a part cannot be written.
    """
    if not run.has_vocabulary:
        run.write_vocabulary(scorer.vocabulary)
    upcoming = iter(shards)

    def prepare() -> tuple[Shard, list[Any]] | None:
        shard = next(upcoming, None)
        return None if shard is None else (shard, scorer.prepare(list(source.read(shard))))

    def write(shard: Shard, scores: list[Score]) -> None:
        run.write_scores(shard, scores)
        on_written(shard)

    pool = ThreadPoolExecutor(2, "shard")
    writing: Future[None] = Future()
    writing.set_result(None)
    try:
        with scorer.scoring():
            preparing = pool.submit(prepare)
            while (prepared := _first_of(preparing, writing)) is not None:
                preparing = pool.submit(prepare)
                shard, items = prepared
                scores = scorer.score_prepared(items, progress, token_budget)
                writing.result()
                writing = pool.submit(write, shard, scores)
            writing.result()
    finally:
        wait([writing])  # keep what was scored
        pool.shutdown(wait=False, cancel_futures=True)  # the iterator may block for ever


def _first_of(preparing: Future[tuple[Shard, list[Any]] | None], writing: Future[None]) -> tuple[Shard, list[Any]] | None:
    """The prepared shard. If writing fails first, its error is raised: the iterator of shards may wait for that part for ever."""
    both: list[Future[Any]] = [preparing, writing]
    wait(both, return_when=FIRST_COMPLETED)
    if writing.done():
        writing.result()
    return preparing.result()
