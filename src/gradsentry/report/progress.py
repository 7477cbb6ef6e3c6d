"""How far a scan is, on stderr: a bar on a terminal, a line every half minute in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console

from gradsentry.types import Progress

LOG_SECONDS = 30.0
"""Seconds between two lines where stderr is no terminal."""


@contextmanager
def show_progress(console: Console) -> Iterator[Progress]:
    """A `Progress` that shows rows scored, tokens per second and time left on this console."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        progress.TextColumn("scoring"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("rows"),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar)


class _Bar(Progress):
    """A bar that appears when scoring starts."""

    def __init__(self, bar: progress.Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("scoring", rate="", visible=False)
        self._started, self._tokens = time.monotonic(), 0

    def start(self, total: int, done: int) -> None:
        self._started = time.monotonic()
        self._bar.update(self._task, total=total, completed=done, visible=True)

    def advance(self, rows: int, tokens: int) -> None:
        self._tokens += tokens
        rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
        self._bar.update(self._task, advance=rows, rate=f"{rate:,.0f} tokens/s")


class _Lines(Progress):
    """A line every `LOG_SECONDS`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = self._printed = time.monotonic()
        self._total = self._done = self._before = self._tokens = 0

    def start(self, total: int, done: int) -> None:
        self._started = self._printed = time.monotonic()
        self._total, self._done, self._before = total, done, done

    def advance(self, rows: int, tokens: int) -> None:
        self._done, self._tokens = self._done + rows, self._tokens + tokens
        now = time.monotonic()
        if now - self._printed < LOG_SECONDS or self._done <= self._before:
            return
        self._printed = now
        left = (now - self._started) / (self._done - self._before) * (self._total - self._done)
        rate = self._tokens / (now - self._started)
        self._console.print(f"{self._done:,}/{self._total:,} rows, {rate:,.0f} tokens/s, {left:,.0f} s left", highlight=False)
