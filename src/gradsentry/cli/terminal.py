"""Lines on stderr."""

from __future__ import annotations

from gradsentry.report.terminal import Terminal


def stderr() -> Terminal:
    return Terminal(stderr=True, soft_wrap=True)


def tell(message: str) -> None:
    """A line on stderr; control characters in it are made visible and cannot steer the terminal."""
    from gradsentry.report.escape import visible

    stderr().print(visible(message))
