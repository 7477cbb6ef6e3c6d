"""The console for results and messages."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from gradsentry.escape import visible


class Terminal(Console):
    """Prints text without interpreting markup or emoji, and stops printing when the reader closes the pipe (``| head``).

    All that it shows is `visible`. A table is laid out for the text that it gets, so what is long should be visible before.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed, with visible texts; rich's own control codes stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """rich would end the process with exit code 1, which means that rows are flagged."""
        self.quiet = True
        silence(self.file)


def silence(stream: IO[str]) -> None:
    """Discard what is still written to this stream, and what the interpreter flushes when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
