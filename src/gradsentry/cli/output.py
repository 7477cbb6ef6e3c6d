"""How every command ends: the result on stdout, one message on stderr, an exit code."""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from gradsentry.errors import GradsentryError
from gradsentry.escape import indented, json_text, one_line
from gradsentry.guard import guarded_output
from gradsentry.report.terminal import Terminal, silence

REPORT = "(please report it, with what the same command prints with GRADSENTRY_TRACEBACK=1 in the environment)"

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class GuardedGroup(TyperGroup):
    """The commands, of which none prints what steers a terminal or a CI runner; neither do messages about wrong arguments."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command; see `gradsentry.guard`."""
        with guarded_output():
            return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _visible_message():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _visible_message():
            return super().invoke(ctx)


@contextmanager
def _visible_message() -> Iterator[None]:
    """Typer prints its errors, which quote the arguments, on a console of its own."""
    try:
        yield
    except Exception as error:  # typer brings its own copy of click, whose error classes it does not export; every error goes on
        if isinstance(message := getattr(error, "message", None), str):
            error.message = one_line(message)  # pyright: ignore[reportAttributeAccessIssue]
        raise


def stderr() -> Terminal:
    """The console of messages and progress."""
    return Terminal(stderr=True, soft_wrap=True)


def print_message(message: str) -> None:
    """Print a line on stderr; text that it quotes cannot control the terminal, nor begin a line."""
    stderr().print(indented(message))


def print_json(document: Any) -> None:
    """Print the result as JSON, all that stdout gets. The reader may close the pipe early."""
    try:
        print(json_text(document), flush=True)
    except BrokenPipeError:
        silence(sys.stdout)


def with_exit_code(command: Callable[..., int]) -> Callable[..., None]:
    """The command with its exit code, and every error as one message without a traceback."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        logging.basicConfig(stream=sys.stderr, format="%(message)s")
        logging.getLogger("gradsentry").setLevel(logging.INFO)
        try:
            code = command(*args, **kwargs)
        except GradsentryError as error:
            print_message(f"error: {error}")
            code = error.exit_code
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            print_message(f"error: {where}{error.strerror or error}")
            code = 2
        except KeyboardInterrupt as stop:
            print_message("; ".join(["stopped", *map(str, stop.args)]))
            code = INTERRUPTED
        except Exception as error:  # unforeseen, ours or a library's; Python's own exit code 1 would mean that rows are flagged
            if os.environ.get("GRADSENTRY_TRACEBACK"):
                print_message(traceback.format_exc())
            print_message(f"error: unexpected {type(error).__name__}: {str(error).partition(chr(10))[0]} {REPORT}")
            code = 2
        raise typer.Exit(code)

    return wrapper


@contextmanager
def resumable(folder: Path, pattern: str) -> Iterator[None]:
    """On Ctrl-C, say that the same command resumes, if files of this pattern exist in the folder."""
    try:
        yield
    except KeyboardInterrupt:
        if any(folder.glob(pattern)):
            raise KeyboardInterrupt("scored rows are kept; the same command resumes there") from None
        raise
