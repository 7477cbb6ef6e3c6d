"""Row -> sample: one small pure function a format, and one line each in FORMATS.

The formats are named as TRL and the fine-tuning tools name them; `docs/formats.md` shows a row of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradsentry.data import fields
from gradsentry.errors import DataError, RowProblem, UsageError
from gradsentry.types import ChatSample, LossOn, Row, Sample, TextSample, TokenSample

SHAREGPT_ROLES = {
    "human": "user", "user": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "function_call": "assistant",
    "system": "system",
    "observation": "tool", "tool": "tool", "function_response": "tool",
}  # fmt: skip

PROMPTS = ("prompt", "question", "instruction", "input")
"""Columns in which preference pairs have their prompt."""


@dataclass(frozen=True)
class Format:
    """How one shape of row becomes a sample."""

    name: str
    """What `--format` calls it."""
    columns: tuple[tuple[str, ...], ...]
    """Columns that must be there, the answer's last; each is a tuple of names of which one suffices."""
    optional: tuple[str, ...]
    """Columns that are used when they are there."""
    read: Callable[[Row], Sample]
    """The row's sample; raises RowProblem when the row does not hold what the format promises."""
    supervised: str
    """What the loss is on, in words for the log."""
    loss_on: LossOn
    """Default of `--loss-on`."""

    @property
    def names(self) -> list[str]:
        """All columns that it reads."""
        return [name for names in self.columns for name in names] + list(self.optional)

    def matches(self, row: Row) -> bool:
        """Whether the row has the format's columns."""
        return all(any(name in row for name in names) for names in self.columns)

    def fills(self, row: Row) -> bool:
        """Whether the row has the format's columns and an answer in them; a prompt may be empty, a row without an answer has nothing
        to supervise."""
        return self.matches(row) and any(not fields.empty(row.get(name)) for name in self.columns[-1])

    def convert(self, row: Row) -> Sample:
        """The row's sample.

        Raises:
            RowProblem: the row does not hold what the format promises; where it holds what another one does, the reason says so.
        """
        if not isinstance(row, Mapping):
            raise RowProblem("error", f"it is a {type(row).__name__}, not a mapping from column names to values")
        try:
            return self.read(row)
        except RecursionError:
            raise RowProblem("error", "what it holds is nested too deeply") from None
        except RowProblem as problem:
            other = None if self.fills(row) else next((item for item in FORMATS.values() if item.fills(row)), None)
            if other is None:
                raise
            advice = f"scan such rows apart, in a file of their own or with --format {other.name} and another --out"
            raise RowProblem(problem.status, f"{problem.reason}; it looks like {other.name}: {advice}") from None

    def says(self, loss_on: LossOn | None) -> str:
        """What is supervised, in words, where the user asked for `loss_on`."""
        return self.supervised if loss_on in (None, self.loss_on) else f"--loss-on {loss_on}"


def prompt_completion(row: Row) -> Sample:
    """TRL's prompt/completion, plain text or lists of messages."""
    prompt, completion = (fields.first(row, name)[0] for name in ("prompt", "completion"))
    if not any(isinstance(fields.unboxed(side), (list, tuple)) for side in (prompt, completion)):
        return TextSample(fields.text(prompt, "prompt"), fields.completion(completion, "completion"))
    answer = () if fields.empty(completion) else fields.messages(completion, "completion")
    if not any(map(fields.says_something, answer)):
        raise RowProblem("unscorable", "'completion' is empty: no supervised token")
    return ChatSample(fields.messages(prompt, "prompt"), answer, fields.tools(row))


def messages(row: Row) -> Sample:
    """A conversation under `messages`, with `tools` if the row has them."""
    return fields.split_at_answer(fields.messages(*fields.first(row, "messages")), "messages", fields.tools(row))


def sharegpt(row: Row) -> Sample:
    """A conversation under `conversations` with from/value (ShareGPT) or role/content."""
    turns = []
    for item in fields.listed(*fields.first(row, "conversations"), "messages"):
        own = isinstance(item, dict) and item.get("from") is not None
        turn = fields.message(item, "conversations", *(("from", "value") if own else ("role", "content")))
        if turn["role"] not in SHAREGPT_ROLES:
            known = ", ".join(SHAREGPT_ROLES)
            raise RowProblem("error", f"column 'conversations' has the role {turn['role']!r}; known are {known}")
        turns.append({**turn, "role": SHAREGPT_ROLES[turn["role"]]})
    if system := fields.text(*fields.optional(row, "system")):
        turns.insert(0, {"role": "system", "content": system})
    return fields.split_at_answer(tuple(turns), "conversations", fields.tools(row))


def alpaca(row: Row) -> Sample:
    """Alpaca: the user turn is the instruction and, on a new line, the input; `history` holds earlier pairs."""
    instruction = fields.text(*fields.first(row, "instruction"))
    extra = fields.text(*fields.optional(row, "input", "context"))
    output = fields.completion(*fields.first(row, "output", "response"))
    system = fields.text(*fields.optional(row, "system"))
    turns = [{"role": "system", "content": system}] if system else []
    for question, answer in _history(row):
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    turns.append({"role": "user", "content": "\n".join(part for part in (instruction, extra) if part)})
    parts = [system] if system else []
    parts += [f"### Instruction:\n{instruction}"] + ([f"### Input:\n{extra}"] if extra else [])
    plain = TextSample("\n\n".join([*parts, "### Response:\n"]), output)
    return ChatSample(tuple(turns), ({"role": "assistant", "content": output},), plain=plain)


def _history(row: Row) -> list[list[str]]:
    """Alpaca's earlier [question, answer] pairs."""
    value, column = fields.optional(row, "history")
    pairs = [fields.unboxed(pair) for pair in fields.listed(() if value is None else value, column, "[question, answer] pairs")]
    if not all(isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 for pair in pairs):
        raise RowProblem("error", "column 'history' holds something else than [question, answer] pairs")
    return [[fields.text(part, column) for part in pair] for pair in pairs]


def question_answer(row: Row) -> Sample:
    """Question answering in the paper's template: several answers are joined with "; "."""
    value, name = fields.first(row, "answers", "answer")
    if isinstance(value, dict) and "text" in value:  # SQuAD keeps its answers one level down
        value = value["text"]
    value = fields.unboxed(value)
    answers = value if isinstance(value, (list, tuple)) else [value]
    completion = fields.completion("; ".join(fields.text(answer, name) for answer in answers), name)
    parts = [fields.optional(row, "instruction"), fields.optional(row, "context"), fields.first(row, "question")]
    blocks = [f"### {name.title()}:\n{text}" for name, text in ((name, fields.text(value, name)) for value, name in parts) if text]
    return TextSample("\n\n\n\n".join([*blocks, "### Answer: "]), completion)


def text(row: Row) -> Sample:
    """One text; the prompt cannot be told from the completion, so the loss is on all of it."""
    return TextSample("", fields.completion(*fields.first(row, "text")))


def tokens(row: Row) -> Sample:
    """Already tokenised: input_ids and labels of one length."""
    ids, labels = (fields.token_ids(*fields.first(row, name)) for name in ("input_ids", "labels"))
    if len(ids) != len(labels):
        raise RowProblem("error", f"{len(ids)} input_ids but {len(labels)} labels")
    return TokenSample(ids, labels)


FORMATS = {
    item.name: item
    for item in (
        Format("tokens", (("input_ids",), ("labels",)), (), tokens, "labels other than -100", "completion"),
        Format("messages", (("messages",),), ("tools",), messages, "assistant turns", "assistant"),
        Format("sharegpt", (("conversations",),), ("system", "tools"), sharegpt, "gpt turns", "assistant"),
        Format("prompt-completion", (("prompt",), ("completion",)), ("tools",), prompt_completion, "completion", "completion"),
        Format("alpaca", (("instruction",), ("output", "response")), ("input", "context", "system", "history"),
               alpaca, "output", "completion"),
        Format("qa", (("question",), ("answers", "answer")), ("instruction", "context"), question_answer, "answers", "completion"),
        Format("text", (("text",),), (), text, "the whole text (a prompt cannot be told from it)", "all"),
    )
}  # fmt: skip
"""Every format by its name; detection takes the first that a row fills."""


def parse_mapping(spec: str | None) -> dict[str, str]:
    """``"prompt=question,completion=answer"`` -> ``{"prompt": "question", "completion": "answer"}``.

    Raises:
        UsageError: no ``column=own column`` pairs, or a column that no format has.
    """
    known = {name for item in FORMATS.values() for name in item.names}
    mapping: dict[str, str] = {}
    for pair in filter(None, (spec or "").split(",")):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not theirs or ours not in known:
            raise UsageError(f"--map {spec!r}: {pair.strip()!r} is not COLUMN=YOUR_COLUMN; COLUMN is one of {', '.join(sorted(known))}")
        mapping[ours] = theirs
    return mapping


def apply_mapping(row: Row, mapping: dict[str, str]) -> Row:
    """The row with the mapped columns under the names that the formats know; what is no row stays as it is."""
    if not mapping or not isinstance(row, Mapping):
        return row
    moved = set(mapping.values())
    kept = {name: value for name, value in row.items() if name not in moved and name not in mapping}
    return kept | {ours: row[theirs] for ours, theirs in mapping.items() if theirs in row}


def detect(rows: Iterable[Row], among: Iterable[Format] = tuple(FORMATS.values())) -> Format:
    """The format that most of these rows have.

    A row is of the first format whose columns it has with an answer in them; empty cells are those of other formats that a table
    holds too. The columns alone decide where no row has an answer.

    One for all of them: a trainer reads a data set in one format, and scores of rows that are rendered in different ways
    cannot be held against each other. Rows of another format become problems that say so (see `Format.convert`).

    Raises:
        DataError: none fits; the message names the columns and the way out.
    """
    given, among = list(rows), list(among)
    rows = [row for row in given if isinstance(row, Mapping)]
    if given and not rows:
        raise DataError(f"row 0 is a {type(given[0]).__name__}, not a mapping from column names to values; give rows as dicts")
    for fits in (Format.fills, Format.matches):
        votes = Counter(name for row in rows if (name := next((item.name for item in among if fits(item, row)), None)))
        if votes:
            return FORMATS[votes.most_common(1)[0][0]]
    raise DataError(_no_format(rows, among))


def _no_format(rows: Sequence[Row], among: Sequence[Format]) -> str:
    """That none of these formats fits, and the way out."""
    columns = ", ".join(repr(name) for name in dict.fromkeys(name for row in rows for name in row))
    if pair := next((row for row in rows if "chosen" in row and "rejected" in row), None):
        return f"preference pairs ({columns}) are not scored yet; give the column to score: --map {_chosen_mapping(pair)}"
    if len(rows) == 1 and (wrapper := next((name for name, value in rows[0].items() if _holds_rows(value)), None)):
        return (
            f"the data is one row, whose column {wrapper!r} holds a list of objects; if these are the rows, write that list alone "
            "into the file (a JSON array, or one object a line)"
        )
    return (
        f"cannot tell the format from the columns {columns or '(no readable row)'}; say which columns hold prompt and answer, "
        "for example --map prompt=question,completion=reply (formats: " + ", ".join(item.name for item in among) + ")"
    )


def _chosen_mapping(pair: Row) -> str:
    """The mapping that scores the chosen side of a preference pair: an answer to a prompt of its kind, or all of a conversation."""
    chat = _holds_rows(pair["chosen"])
    prompt = next((name for name in PROMPTS if not fields.empty(pair.get(name))), None)
    if prompt is not None and chat == _holds_rows(pair[prompt]):
        return f"prompt={prompt},completion=chosen"
    return "messages=chosen" if chat else "text=chosen"


def _holds_rows(value: Any) -> bool:
    value = fields.unboxed(value)
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def settle(name: str | None, mapping: dict[str, str], rows: Sequence[Row]) -> Format:
    """The format of this name, or the one that some rows have, among those that know all mapped columns.

    Raises:
        UsageError: no such format, none that knows the mapped columns, or a column named by `mapping` is in none of the rows.
        DataError: no format fits.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"--format {name}: it can be {', '.join(FORMATS)}")
    among = _meant(name, mapping)
    readable = [row for row in rows if isinstance(row, Mapping)]
    for ours, theirs in mapping.items():
        if readable and not any(theirs in row for row in readable):
            columns = ", ".join(dict.fromkeys(column for row in readable for column in row))
            raise UsageError(f"--map {ours}={theirs}: no row has a column {theirs!r}; there are {columns}")
    return among[0] if name is not None else detect((apply_mapping(row, mapping) for row in rows), among)


def _meant(name: str | None, mapping: dict[str, str]) -> list[Format]:
    """The formats that know all mapped columns, of this name if there is one."""
    among = [FORMATS[name]] if name is not None else list(FORMATS.values())
    meant = [item for item in among if mapping.keys() <= set(item.names)]
    if meant:
        return meant
    told = "--map " + ",".join(f"{ours}={theirs}" for ours, theirs in mapping.items())
    if name is not None:
        strange = next(ours for ours in mapping if ours not in among[0].names)
        raise UsageError(f"{told}: {name} has no column {strange}; it has {', '.join(among[0].names)}")
    homes = {ours: " and ".join(item.name for item in among if ours in item.names) for ours in mapping}
    raise UsageError(f"{told}: no format has all of these columns; " + ", ".join(f"{ours} is of {home}" for ours, home in homes.items()))
