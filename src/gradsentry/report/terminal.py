"""The console for results and messages."""

from __future__ import annotations

import os
from typing import IO, Any

from rich.console import Console


class Terminal(Console):
    """Prints text without interpreting markup or emoji, and stops printing when the reader closes the pipe (``| head``)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """rich would end the process with exit code 1, which means that rows are flagged."""
        self.quiet = True
        silence(self.file)


def silence(stream: IO[str]) -> None:
    """Discard what is still written to this stream, and what the interpreter flushes when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
