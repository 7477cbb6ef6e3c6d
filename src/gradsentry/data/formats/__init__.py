"""The formats of rows, named as TRL and the fine-tuning tools name them; `docs/formats.md` shows a row of each.

To add one, write a module here with a `FORMAT` and add its name to `MODULES`.
"""

from __future__ import annotations

from importlib import import_module

from gradsentry.data.formats.base import Format

MODULES = ("tokens", "preference", "kto", "messages", "sharegpt", "prompt_completion", "alpaca", "qa", "text")
"""One module a format, in the order of detection: a row has the first format whose columns it fills."""

FORMATS: dict[str, Format] = {item.name: item for item in (import_module(f"{__name__}.{module}").FORMAT for module in MODULES)}
"""Every format by its name, in the order of detection."""
