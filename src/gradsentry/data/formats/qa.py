"""Question answering in the template of the GradSentry paper."""

from __future__ import annotations

from gradsentry.data import fields
from gradsentry.data.formats.base import Format
from gradsentry.types import Row, Sample, TextSample


def read(row: Row) -> Sample:
    """Instruction, context and question (those that the row has) as the prompt; the answers, joined with "; ", as the completion."""
    value, name = fields.required(row, "answers", "answer")
    if isinstance(value, dict) and "text" in value:  # SQuAD keeps its answers one level down
        value = value["text"]
    value = fields.array_to_list(value)
    answers = value if isinstance(value, (list, tuple)) else [value]
    completion = fields.supervised_text("; ".join(fields.text(answer, name) for answer in answers), name)
    parts = [fields.optional(row, "instruction"), fields.optional(row, "context"), fields.required(row, "question")]
    blocks = [f"### {name.title()}:\n{text}" for name, text in ((name, fields.text(value, name)) for value, name in parts) if text]
    return TextSample("\n\n\n\n".join([*blocks, "### Answer: "]), completion)


FORMAT = Format(
    name="qa", columns=(("question",), ("answers", "answer")), optional=("instruction", "context"), read=read, supervised="answers"
)
