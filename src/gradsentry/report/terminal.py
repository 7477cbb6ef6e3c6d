"""Where results and messages are printed."""

from __future__ import annotations

import os
from typing import IO, Any

from rich.console import Console


class Terminal(Console):
    """Prints a text as it is, without markup and emoji, and in silence once nobody reads any further (``| head``)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """Where rich would end the process, with the exit code that says that rows are flagged."""
        self.quiet = True
        silence(self.file)


def silence(stream: IO[str]) -> None:
    """Let go nowhere what is still written to this stream, and what the interpreter flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
