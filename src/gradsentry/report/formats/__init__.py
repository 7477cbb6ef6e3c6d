"""The formats of the report for machines. Each is one module, and one line here."""

from __future__ import annotations

from gradsentry.report.formats import github, sarif
from gradsentry.report.formats.base import Annotator, FileFormat

FILE_FORMATS: dict[str, FileFormat] = {module.FORMAT.name: module.FORMAT for module in (sarif,)}
"""What ``--NAME FILE`` writes."""

ANNOTATORS: dict[str, Annotator] = {module.ANNOTATOR.name: module.ANNOTATOR for module in (github,)}
"""What ``--annotate NAME`` speaks to."""
