"""Deprecated for one version: ``python -m gradsentry.scale DATA --out RUN`` is ``gradsentry scan DATA --out RUN --engine rank``."""

from __future__ import annotations

import sys

from gradsentry.__main__ import main

if __name__ == "__main__":
    print("python -m gradsentry.scale is deprecated: use gradsentry scan --engine rank", file=sys.stderr)
    sys.argv = [sys.argv[0], "scan", *sys.argv[1:], "--engine", "rank"]
    main()
