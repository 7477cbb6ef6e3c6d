"""The options that write the result for machines: ``--sarif FILE``, ``--annotate github``. Names and help come from the registries."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from gradsentry.errors import UsageError
from gradsentry.report.formats import ANNOTATORS, FILE_FORMATS
from gradsentry.run.atomic import atomic_write

ANNOTATE_HELP = "Report the rows to a CI service: " + "; ".join(f"{name}: {annotator.help}" for name, annotator in ANNOTATORS.items()) + "."


@dataclass(frozen=True)
class Reports:
    """The reports for machines that a command is to make."""

    files: Mapping[str, Path] = field(default_factory=dict)
    """Format -> file."""
    annotator: str | None = None

    def __bool__(self) -> bool:
        return bool(self.files) or self.annotator is not None

    def check(self) -> None:
        """Refuse what cannot be written, before anything is scored.

        Raises:
            UsageError: a file cannot be written, or there is no such service.
        """
        if self.annotator not in (None, *ANNOTATORS):
            raise UsageError(f"--annotate {self.annotator}: it can be {', '.join(ANNOTATORS)}")
        for name, path in self.files.items():
            if path.is_dir():
                raise UsageError(f"--{name} {path}: it is a directory; give a file")
            if not path.parent.is_dir():
                raise UsageError(f"--{name} {path}: there is no directory {path.parent}; make it, or give another file")
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise UsageError(f"--{name} {path}: {path.parent} is not writable; make it writable, or give another file")

    def make(self, document: dict[str, Any]) -> None:
        """Write the files and the annotations.

        Args:
            document: the content of ``report.json``.
        """
        for name, path in self.files.items():
            with atomic_write(path) as part:
                part.write_text(FILE_FORMATS[name].render(document), encoding="utf-8")
        if self.annotator is not None:
            ANNOTATORS[self.annotator].annotate(document)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command an option for each format and ``--annotate`` in place of its parameter `reports`."""

    @functools.wraps(command)
    def wrapper(*args: Any, annotate: str | None = None, **options: Any) -> Any:
        files = {name: path for name in FILE_FORMATS if (path := options.pop(name, None)) is not None}
        reports = Reports(files, annotate)
        reports.check()
        return command(*args, reports=reports, **options)

    def option(name: str, kind: Any, **settings: Any) -> inspect.Parameter:
        annotation = Annotated[kind, typer.Option(f"--{name}", show_default=False, **settings)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    extra = [option(name, Path | None, metavar="FILE", help=made.help) for name, made in FILE_FORMATS.items()]
    extra.append(option("annotate", str | None, metavar="|".join(ANNOTATORS), help=ANNOTATE_HELP))
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "reports" and p.kind is not p.VAR_KEYWORD]
    rest = [p for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    wrapper.__signature__ = inspect.Signature([*own, *extra, *rest])  # pyright: ignore[reportAttributeAccessIssue]
    wrapper.__annotations__ = {p.name: p.annotation for p in [*own, *extra, *rest]}
    return wrapper
