"""Alpaca: instruction, input and output. Dolly's context and response are read as input and output."""

from __future__ import annotations

from collections.abc import Sequence

from gradsentry.data import fields
from gradsentry.data.formats.base import Format
from gradsentry.errors import RowProblem
from gradsentry.types import ChatSample, OneAnswer, Row, TextSample


def read(row: Row) -> OneAnswer:
    """A conversation whose user turn is the instruction and, on a new line, the input; `history` gives the turns before it.

    Its `plain` text, for a tokenizer without a chat template, is Alpaca's own template, without the history.
    """
    instruction = fields.text(*fields.required(row, "instruction"))
    extra = fields.text(*fields.optional(row, "input", "context"))
    output = fields.supervised_text(*fields.required(row, "output", "response"))
    system = fields.text(*fields.optional(row, *fields.SYSTEM))
    turns = [{"role": "system", "content": system}] if system else []
    value, column = fields.optional(row, "history")
    pairs = [fields.array_to_list(pair) for pair in fields.list_of("[question, answer] pairs", () if value is None else value, column)]
    if not all(isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 for pair in pairs):
        raise RowProblem("error", "column 'history' holds something else than [question, answer] pairs")
    for question, answer in ([fields.text(part, column) for part in pair] for pair in pairs):
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    turns.append({"role": "user", "content": "\n".join(part for part in (instruction, extra) if part)})
    parts = [system] if system else []
    parts += [f"### Instruction:\n{instruction}"] + ([f"### Input:\n{extra}"] if extra else [])
    plain = TextSample("\n\n".join([*parts, "### Response:\n"]), output)
    return ChatSample(tuple(turns), ({"role": "assistant", "content": output},), plain=plain)


FORMAT = Format(
    name="alpaca",
    columns=(("instruction",), ("output", "response")),
    optional=("input", "context", *fields.SYSTEM, "history"),
    read=read,
    supervised="output",
)
