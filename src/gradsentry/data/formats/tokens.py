"""Rows that are token ids already: `input_ids` and `labels` of one length."""

from __future__ import annotations

from gradsentry.data import fields
from gradsentry.data.formats.base import Format
from gradsentry.errors import RowProblem
from gradsentry.types import Row, Sample, TokenSample


def read(row: Row) -> Sample:
    """The ids and labels as they are."""
    ids, labels = (fields.token_ids(*fields.required(row, name)) for name in ("input_ids", "labels"))
    if len(ids) != len(labels):
        raise RowProblem("error", f"{len(ids)} input_ids but {len(labels)} labels")
    return TokenSample(ids, labels)


FORMAT = Format(name="tokens", columns=(("input_ids",), ("labels",)), read=read, supervised="labels other than -100")
