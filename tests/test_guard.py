"""The guarded streams: whoever writes to them, no control character and no command of a CI runner comes out."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.guard import GuardedStream, guarded_output
from gradsentry.report.terminal import Terminal

REGISTERED = ("warning", "error", "stop-commands", "add-mask", "group", "token")


class Window(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def written(*texts: str, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    guarded = GuardedStream(stream)
    for text in texts:
        assert guarded.write(text) == len(text)
    return stream.getvalue()


def commands(output: str) -> list[str]:
    """The lines that GitHub's runner would obey, as its ActionCommand class finds them."""
    lines = output.replace("\r", "\n").split("\n")
    return [line for line in lines if line.lstrip().startswith("::") or "##[" in line]


PARTS = st.lists(
    st.one_of(st.text(max_size=6), st.sampled_from([":", "::", "::warning::x", "##[error]y", "\n", " ", "\r", "\t", "\x1b[2J"]))
)


@given(texts=PARTS)
def test_no_command_and_no_control_whatever_is_written_and_however_it_is_cut(texts: list[str]) -> None:
    output = written(*texts)
    assert not commands(output)
    assert all(char == "\n" or char.isprintable() for char in output)


@given(texts=PARTS)
def test_on_a_terminal_commands_are_broken_too(texts: list[str]) -> None:
    assert not any(line.lstrip().startswith("::") for line in written(*texts, stream=Window()).split("\n"))


@pytest.mark.parametrize("command", REGISTERED)
def test_commands_are_shown_broken(command: str) -> None:
    assert written(f"a ::{command}:: b\n  ::{command}::c\n") == f"a ::{command}:: b\n  \\u003a:{command}::c\n"
    assert written(":", f":{command}::") == f"\\u003a:{command}::"
    assert written(f"x ##[{command}]") == f"x #\\u0023[{command}]"


def test_colours_stay_on_a_terminal_and_where_they_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written("\x1b[1mbold\x1b[0m", stream=Window()) == "\x1b[1mbold\x1b[0m"
    assert written("\x1b[1mbold") == "\\u001b[1mbold"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert written("\x1b[1mbold") == "\x1b[1mbold"


def test_the_log_and_warnings_of_any_library_are_visible_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Window(), Window()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    log, factory = logging.getLogger("a library"), logging.getLogRecordFactory()
    log.propagate = False
    with guarded_output():
        handler = logging.StreamHandler()
        log.addHandler(handler)
        logging.getLogger("py.warnings").addHandler(handler)
        try:
            log.warning("column %s", "\x1b[2J\n::error::x")
            try:
                raise ValueError("\x1b]0;title\x07")
            except ValueError:
                log.exception("failed")
            warnings.showwarning("about \x9b2J", UserWarning, "file.py", 1)
        finally:
            log.removeHandler(handler)
            logging.getLogger("py.warnings").removeHandler(handler)
    said = streams[1].getvalue()
    assert "column \\u001b[2J\n    \\u003a:error::x\n" in said
    assert "\\u001b]0;title\\u0007" in said
    assert "about \\u009b2J" in said
    assert all(char == "\n" or char.isprintable() for char in said)
    assert sys.stderr is streams[1]
    assert logging.getLogRecordFactory() is factory


def test_all_that_our_console_prints_is_visible_on_a_terminal_whose_colours_stay() -> None:
    window = Window()
    console = Terminal(file=cast(Any, window), force_terminal=True, color_system="standard")
    console.print("file \x1b[2J\u202ename", style="bold")
    assert window.getvalue() == "\x1b[1mfile \\u001b[2J\\u202ename\x1b[0m\n"
