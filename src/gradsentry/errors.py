"""The errors a user can meet. Each message says what is wrong, where, and what to do about it."""

from __future__ import annotations

from typing import Literal


class GradsentryError(Exception):
    """Base of all errors that the command line turns into one message and exit code 2."""

    exit_code = 2


class UsageError(GradsentryError):
    """The options contradict each other or the data: the user can mend the command."""


class DataError(GradsentryError):
    """The data set as a whole cannot be read. (A single bad row is never an error, it is a status.)"""


class ModelError(GradsentryError):
    """The model cannot be found, read or scored with."""


class RunError(GradsentryError):
    """The run directory cannot be used: it belongs to another run, is incomplete or is no run at all."""


class NothingScorable(GradsentryError):
    """No row of the data set has a supervised token: there is nothing to score (exit code 3)."""

    exit_code = 3


class RowProblem(Exception):
    """One row cannot be scored: it gets a status and a reason, and the scan goes on."""

    def __init__(self, status: Literal["unscorable", "error"], reason: str) -> None:
        super().__init__(reason)
        self.status: Literal["unscorable", "error"] = status
        self.reason = reason
