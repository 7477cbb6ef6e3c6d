"""The errors that a user can get. Each message says what is wrong, where, and what to do."""

from __future__ import annotations

from typing import Literal


class GradsentryError(Exception):
    """Base of all errors that the command line turns into one message and exit code 2."""

    exit_code = 2


class UsageError(GradsentryError):
    """The options contradict each other or the data; another command works."""


class DataError(GradsentryError):
    """The data set as a whole cannot be read. (One bad row never raises; it gets a status.)"""


class ModelError(GradsentryError):
    """The model cannot be found, read or used for scoring."""


class RunError(GradsentryError):
    """The run directory cannot be used: it holds another run, an incomplete run, or other files."""


class NothingScorable(GradsentryError):
    """No row of the data set has a supervised token: exit code 3."""

    exit_code = 3


class RowProblem(Exception):
    """One row cannot be scored: it gets a status and a reason, and the scan continues."""

    def __init__(self, status: Literal["unscorable", "error"], reason: str) -> None:
        super().__init__(reason)
        self.status: Literal["unscorable", "error"] = status
        self.reason = reason
