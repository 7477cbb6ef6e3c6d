"""The fields of `ScanConfig` as options of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from gradsentry.config import ScanConfig
from gradsentry.data.formats import FORMATS
from gradsentry.verdict.policies import POLICIES

NAMES = {"formats": ", ".join(FORMATS), "policies": "; ".join(f"{name}: {policy.help}" for name, policy in POLICIES.items())}
"""What the help texts of `ScanConfig` take from registries."""


def scan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command every field of ScanConfig as an option in place of its ``**options``."""
    hints = get_type_hints(ScanConfig)
    extra = [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=item.default,
            annotation=Annotated[
                hints[item.name],
                typer.Option(
                    "--" + item.name.replace("_", "-"),
                    help=item.metadata["help"].format(**NAMES),
                    show_default=item.default not in (None, False),
                ),
            ],
        )
        for item in fields(ScanConfig)
    ]
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
    command.__signature__ = inspect.Signature([*own, *extra])  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *extra]}
    return command
