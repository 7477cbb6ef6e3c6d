"""Rows that kill the process which reads one of them, or make it warn, unless it is the one that made them."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from typing import Any


class DeadlyRows(Sequence[dict[str, Any]]):
    """Rows in memory, one of which is deadly, or raises an error."""

    def __init__(self, rows: list[dict[str, Any]], deadly: int, error: Exception | None = None) -> None:
        self.rows, self.deadly, self.error, self.maker = rows, deadly, error, os.getpid()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: Any) -> Any:
        if row == self.deadly and os.getpid() != self.maker:
            if self.error is not None:
                raise self.error
            os.kill(os.getpid(), signal.SIGKILL)
        return self.rows[row]


class LoudRows(DeadlyRows):
    """Rows of which one is warned of."""

    def __getitem__(self, row: Any) -> Any:
        if row == self.deadly and os.getpid() != self.maker:
            logging.getLogger("gradsentry.rows").warning("row %d is loud", row)
        return self.rows[row]
