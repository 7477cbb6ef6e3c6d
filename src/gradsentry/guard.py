"""Guards stdout, stderr and the log of a process, whoever writes to them: nothing there steers a terminal or a CI runner."""

from __future__ import annotations

import io
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.console import Console

from gradsentry.escape import indented, visible, without_commands

COMMAND_AT_START = re.compile(r"(?m)^([^\S\n]*):(?=:|\Z)")
"""GitHub's runner obeys a line that begins with ``::``, after blanks. At the end of what is written, a second colon may follow."""


class GuardedStream:
    """A text stream that writes no runner command and, if it is no terminal, no control but line feeds and nothing unseen."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = Console(file=stream).is_terminal  # rich knows FORCE_COLOR and the like, and colours are controls
        self._has_begun = False
        """Whether the current line has a character that is not blank."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text made harmless. Returns the number of characters of `text`, as streams do."""
        safe = text
        if not self._is_terminal:  # there a carriage return begins a new line of a log
            safe = visible(text.replace("\r\n", "\n").replace("\r", "\n"))
        first, feed, rest = without_commands(safe).partition("\n")
        if not self._has_begun:
            first = COMMAND_AT_START.sub(r"\1\\u003a", first)
        self._stream.write(first + feed + COMMAND_AT_START.sub(r"\1\\u003a", rest))
        last = rest.rpartition("\n")[2] if feed else first
        self._has_begun = bool(last.strip()) or (self._has_begun and not feed)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the lines one after the other."""
        for line in lines:
            self.write(line)


def print_commands(commands: Iterable[str]) -> None:
    """Print workflow commands of our own on stderr, which GitHub's runner reads as it reads stdout: the one way past the guard."""
    stream = sys.stderr._stream if isinstance(sys.stderr, GuardedStream) else sys.stderr
    for command in commands:
        stream.write(command + "\n")
    stream.flush()


class GuardedRecord(logging.LogRecord):
    """A log record whose texts are visible, whichever handler and library writes it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[0]:
            self.exc_text = visible("".join(traceback.format_exception(*self.exc_info))).rstrip()

    def getMessage(self) -> str:
        return indented(super().getMessage())


@contextmanager
def guarded_output() -> Iterator[None]:
    """Guard what this process prints and logs, Python's warnings included."""
    if isinstance(sys.stdout, GuardedStream):  # a step of an engine that runs in a process of ours
        yield
        return
    streams, factory = (sys.stdout, sys.stderr), logging.getLogRecordFactory()
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr escapes what its encoding lacks, stdout does not
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (cast(TextIO, GuardedStream(stream)) for stream in streams)
    logging.setLogRecordFactory(GuardedRecord)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.setLogRecordFactory(factory)
        sys.stdout, sys.stderr = streams
