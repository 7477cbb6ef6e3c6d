"""How far a scan is, on stderr: a bar where a person watches, a line now and then where a log does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradsentry.run.job import Ticks

LOG_EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""


@contextmanager
def shown(console: Console) -> Iterator[Ticks]:
    """Ticks that show rows done, tokens per second and time left on this console."""
    with _bar(console) if console.is_terminal else _lines(console) as ticks:
        yield ticks


@contextmanager
def _bar(console: Console) -> Iterator[Ticks]:
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("scoring", rate="", visible=False)
        started = time.monotonic()
        tokens = 0

        def start(total: int, done: int) -> None:
            nonlocal started
            started = time.monotonic()
            progress.update(task, total=total, completed=done, visible=True)

        def advance(rows: int, new_tokens: int) -> None:
            nonlocal tokens
            tokens += new_tokens
            rate = f"{tokens / max(time.monotonic() - started, 1e-9):,.0f} tokens/s"
            progress.update(task, advance=rows, rate=rate)

        yield Ticks(start, advance)


@contextmanager
def _lines(console: Console) -> Iterator[Ticks]:
    started = said = time.monotonic()
    total = done = before = tokens = 0

    def start(all_rows: int, done_rows: int) -> None:
        nonlocal started, said, total, done, before
        started = said = time.monotonic()
        total, done, before = all_rows, done_rows, done_rows

    def advance(rows: int, new_tokens: int) -> None:
        nonlocal done, tokens, said
        done, tokens = done + rows, tokens + new_tokens
        now = time.monotonic()
        if now - said >= LOG_EVERY and done > before:
            said = now
            left = (now - started) / (done - before) * (total - done)
            console.print(f"{done:,}/{total:,} rows, {tokens / (now - started):,.0f} tokens/s, {left:,.0f} s left", highlight=False)

    yield Ticks(start, advance)
