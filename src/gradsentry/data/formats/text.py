"""One text without a border between prompt and completion: the loss is on all of it."""

from __future__ import annotations

from gradsentry.data import fields
from gradsentry.data.formats.base import Format
from gradsentry.types import Row, Sample, TextSample


def read(row: Row) -> Sample:
    """The text as a completion without a prompt."""
    return TextSample("", fields.supervised_text(*fields.required(row, "text")))


FORMAT = Format(name="text", columns=(("text",),), read=read, supervised="the whole text (it has no marked prompt)", loss_on="all")
