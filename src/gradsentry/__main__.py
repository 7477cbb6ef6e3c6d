"""The command ``gradsentry``, and ``python -m gradsentry``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. What it imports takes half a second, in which Ctrl-C is no fault of ours to be shown."""
    try:
        from gradsentry.cli.main import app

        app()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
