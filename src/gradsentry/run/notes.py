"""The warnings of a scan, kept for its report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Keeper(logging.Handler):
    """Hands each warning to a function, as text."""

    def __init__(self, keep: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._keep = keep

    def emit(self, record: logging.LogRecord) -> None:
        self._keep(record.getMessage())


@contextmanager
def kept_warnings(keep: Callable[[str], object]) -> Iterator[None]:
    """Hand what gradsentry logs as a warning to `keep` too: whatever a module warns of is then in the report.

    A caller that has set the logger ``gradsentry`` to a level above WARNING gets no such warnings, here neither.
    """
    logger, handler = logging.getLogger("gradsentry"), _Keeper(keep)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
