"""How far a scan is: for the command line a bar on a terminal and a line every half minute in a log, for Python code a bar of tqdm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console
from rich.status import Status
from tqdm.auto import tqdm

from gradsentry.types import Progress

LOG_SECONDS = 30.0
"""Seconds between two lines where stderr is no terminal."""


@contextmanager
def show_progress(console: Console) -> Iterator[Progress]:
    """A `Progress` that shows what is done on this console: a spinner, then rows scored, tokens per second and time left."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    shown = _Bar(console)
    try:
        yield shown
    finally:
        shown.stop()


@contextmanager
def show_bar() -> Iterator[Progress]:
    """A `Progress` that shows a bar of tqdm, as trainers do, in a notebook and where stderr is a terminal; elsewhere nothing."""
    shown = _NotebookBar()
    try:
        yield shown
    finally:
        shown.stop()


class _NotebookBar(Progress):
    """A bar from the moment when scoring starts."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._tokens = 0

    def start(self, total: int, done: int) -> None:
        disable = False if Console().is_jupyter else None  # None: disabled where stderr is no terminal, as it is not in a notebook
        self._bar = tqdm(total=total, initial=done, desc="scoring", unit=" rows", disable=disable)

    def advance(self, rows: int, tokens: int) -> None:
        self._tokens += tokens
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._tokens:,} tokens", refresh=False)
            self._bar.update(rows)

    def stop(self) -> None:
        """End the bar, which stays in the output."""
        if self._bar is not None:
            self._bar.close()


class _Bar(Progress):
    """A spinner with the status, and a bar from the moment when scoring starts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._display: Status | progress.Progress | None = None
        self._started, self._tokens = time.monotonic(), 0

    def status(self, text: str) -> None:
        self.stop()
        self._display = self._console.status(text)
        self._display.start()

    def start(self, total: int, done: int) -> None:
        self.stop()
        counts, left = progress.MofNCompleteColumn(), progress.TimeRemainingColumn()
        columns = ("scoring", progress.BarColumn(), counts, "rows", "{task.fields[rate]}", left)
        bar = progress.Progress(*columns, console=self._console, transient=True)
        self._task = bar.add_task("scoring", total=total, completed=done, rate="")
        self._started, self._display = time.monotonic(), bar
        bar.start()

    def advance(self, rows: int, tokens: int) -> None:
        self._tokens += tokens
        if isinstance(self._display, progress.Progress):
            rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
            self._display.update(self._task, advance=rows, rate=f"{rate:,.0f} tokens/s")

    def stop(self) -> None:
        """Remove what is shown."""
        if self._display is not None:
            self._display.stop()
        self._display = None


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
