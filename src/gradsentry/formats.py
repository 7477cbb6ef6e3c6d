"""Row -> sample: one small pure function a format, and one line each in FORMATS.

The formats are named as TRL and the fine-tuning tools name them; `docs/formats.md` shows a row of each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gradsentry.errors import DataError, RowProblem, UsageError
from gradsentry.types import ChatSample, LossOn, Row, Sample, TextSample, TokenSample

SHAREGPT_ROLES = {
    "human": "user", "user": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "function_call": "assistant",
    "system": "system",
    "observation": "tool", "tool": "tool", "function_response": "tool",
}  # fmt: skip


@dataclass(frozen=True)
class Format:
    """How one shape of row becomes a sample."""

    name: str
    """What `--format` calls it."""
    columns: tuple[tuple[str, ...], ...]
    """Columns that must be there; each is a tuple of names of which one suffices."""
    optional: tuple[str, ...]
    """Columns that are used when they are there."""
    convert: Callable[[Row], Sample]
    """The row's sample; raises RowProblem when the row does not hold what the format promises."""
    supervised: str
    """What the loss is on, in words for the log."""
    loss_on: LossOn
    """Default of `--loss-on`."""

    def matches(self, row: Row) -> bool:
        """Whether the row has the format's columns."""
        return all(any(name in row for name in names) for names in self.columns)

    def says(self, loss_on: LossOn | None) -> str:
        """What is supervised, in words, where the user asked for `loss_on`."""
        return self.supervised if loss_on in (None, self.loss_on) else f"--loss-on {loss_on}"


def _first(row: Row, *names: str) -> Any:
    """The value of the first of these columns that the row has."""
    for name in names:
        if name in row:
            return row[name]
    raise RowProblem("error", f"column {' or '.join(map(repr, names))} is missing; the row has {_names(row)}")


def _names(row: Row) -> str:
    return ", ".join(repr(name) for name in row) or "no columns"


def _text(value: Any, column: str) -> str:
    """A text cell; numbers are written out, None is empty, anything else is an error."""
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise RowProblem("error", f"column {column!r} is {type(value).__name__}, not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowProblem("error", f"column {column!r} is not valid Unicode: {error.reason} at {error.start}") from None
    return value


def _completion(value: Any, column: str) -> str:
    text = _text(value, column)
    if not text:
        raise RowProblem("unscorable", f"{column!r} is empty: no supervised token")
    return text


def _list(value: Any, column: str, of: str) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise RowProblem("error", f"column {column!r} is {type(value).__name__}, not a list of {of}")
    return value


def _tools(row: Row) -> tuple[Any, ...] | None:
    """The row's tool schemas: a list, or the JSON text of one."""
    value = row.get("tools")
    if isinstance(value, str):
        try:
            value = json.loads(value or "[]")
        except ValueError as error:
            raise RowProblem("error", f"column 'tools' is text that is not JSON: {error}") from None
    return tuple(_list(value, "tools", "tools")) if value else None


def _message(value: Any, column: str, role_key: str = "role", content_key: str = "content") -> dict[str, Any]:
    """One message as {role, content, ...}; a content of text parts is joined."""
    if not isinstance(value, dict) or not isinstance(value.get(role_key), str):
        raise RowProblem("error", f"column {column!r} holds {str(value)[:60]!r}, not a message with {role_key!r}")
    content = value.get(content_key)
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise RowProblem("error", f"column {column!r} holds a message with parts that are not text")
        content = "".join(part["text"] for part in content)
    rest = {key: item for key, item in value.items() if key not in (role_key, content_key) and item is not None}
    return {"role": value[role_key], "content": _text(content, column), **rest}


def _messages(value: Any, column: str) -> tuple[dict[str, Any], ...]:
    return tuple(_message(item, column) for item in _list(value, column, "messages"))


def _split_at_answer(messages: tuple[dict[str, Any], ...], column: str, tools: tuple[Any, ...] | None) -> ChatSample:
    """The last assistant turn is the completion, what stands before it the prompt."""
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise RowProblem("unscorable", f"{column!r} has no assistant turn: no supervised token")
    last = answers[-1]
    if not any(messages[i]["content"] or len(messages[i]) > 2 for i in answers):
        raise RowProblem("unscorable", f"every assistant turn of {column!r} is empty: no supervised token")
    return ChatSample(messages[:last], messages[last : last + 1], tools)


def prompt_completion(row: Row) -> Sample:
    """TRL's prompt/completion, plain text or lists of messages."""
    prompt, completion = _first(row, "prompt"), _first(row, "completion")
    if isinstance(completion, list) or isinstance(prompt, list):
        answer = _messages(completion, "completion")
        if not any(message["content"] or len(message) > 2 for message in answer):
            raise RowProblem("unscorable", "'completion' is empty: no supervised token")
        return ChatSample(_messages(prompt, "prompt"), answer, _tools(row))
    return TextSample(_text(prompt, "prompt"), _completion(completion, "completion"))


def messages(row: Row) -> Sample:
    """A conversation under `messages`, with `tools` if the row has them."""
    return _split_at_answer(_messages(_first(row, "messages"), "messages"), "messages", _tools(row))


def sharegpt(row: Row) -> Sample:
    """A conversation under `conversations` with from/value (ShareGPT) or role/content."""
    turns = []
    for item in _list(_first(row, "conversations"), "conversations", "messages"):
        own = isinstance(item, dict) and "from" in item
        turn = _message(item, "conversations", *(("from", "value") if own else ("role", "content")))
        if turn["role"] not in SHAREGPT_ROLES:
            known = ", ".join(SHAREGPT_ROLES)
            raise RowProblem("error", f"column 'conversations' has the role {turn['role']!r}; known are {known}")
        turns.append({**turn, "role": SHAREGPT_ROLES[turn["role"]]})
    if row.get("system"):
        turns.insert(0, {"role": "system", "content": _text(row["system"], "system")})
    return _split_at_answer(tuple(turns), "conversations", _tools(row))


def alpaca(row: Row) -> Sample:
    """Alpaca: the user turn is the instruction and, on a new line, the input; `history` holds earlier pairs."""
    instruction = _text(_first(row, "instruction"), "instruction")
    extra = _text(row.get("input", row.get("context")), "input")
    output = _completion(_first(row, "output", "response"), "output" if "output" in row else "response")
    system = _text(row.get("system"), "system")
    turns = [{"role": "system", "content": system}] if system else []
    for pair in _list(row.get("history") or (), "history", "[question, answer] pairs"):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise RowProblem("error", "column 'history' holds something else than [question, answer] pairs")
        turns += [{"role": "user", "content": _text(pair[0], "history")}]
        turns += [{"role": "assistant", "content": _text(pair[1], "history")}]
    turns.append({"role": "user", "content": "\n".join(part for part in (instruction, extra) if part)})
    parts = [system] if system else []
    parts += [f"### Instruction:\n{instruction}"] + ([f"### Input:\n{extra}"] if extra else [])
    plain = TextSample("\n\n".join([*parts, "### Response:\n"]), output)
    return ChatSample(tuple(turns), ({"role": "assistant", "content": output},), plain=plain)


def question_answer(row: Row) -> Sample:
    """Question answering in the paper's template: several answers are joined with "; "."""
    name = "answers" if "answers" in row else "answer"
    value = _first(row, "answers", "answer")
    if isinstance(value, dict) and "text" in value:  # SQuAD keeps its answers one level down
        value = value["text"]
    answers = value if isinstance(value, (list, tuple)) else [value]
    completion = _completion("; ".join(_text(answer, name) for answer in answers), name)
    parts = [("Instruction", row.get("instruction")), ("Context", row.get("context")), ("Question", _first(row, "question"))]
    blocks = [f"### {title}:\n{_text(text, title.lower())}" for title, text in parts if text]
    return TextSample("\n\n\n\n".join([*blocks, "### Answer: "]), completion)


def text(row: Row) -> Sample:
    """One text; the prompt cannot be told from the completion, so the loss is on all of it."""
    return TextSample("", _completion(_first(row, "text"), "text"))


def tokens(row: Row) -> Sample:
    """Already tokenised: input_ids and labels of one length."""
    ids, labels = (_list(_first(row, name), name, "token ids") for name in ("input_ids", "labels"))
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in (*ids, *labels)):
        raise RowProblem("error", "'input_ids' or 'labels' holds something else than whole numbers")
    if len(ids) != len(labels):
        raise RowProblem("error", f"{len(ids)} input_ids but {len(labels)} labels")
    return TokenSample(tuple(ids), tuple(labels))


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
"""Every format by its name; detection takes the first whose columns a row has."""


def parse_mapping(spec: str | None) -> dict[str, str]:
    """``"prompt=question,completion=answer"`` -> ``{"prompt": "question", "completion": "answer"}``.

    Raises:
        UsageError: no ``column=own column`` pairs, or a column that no format has.
    """
    known = {name for item in FORMATS.values() for names in item.columns for name in names}
    known |= {name for item in FORMATS.values() for name in item.optional}
    mapping: dict[str, str] = {}
    for pair in filter(None, (spec or "").split(",")):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not theirs or ours not in known:
            raise UsageError(f"--map {spec!r}: {pair.strip()!r} is not COLUMN=YOUR_COLUMN; COLUMN is one of {', '.join(sorted(known))}")
        mapping[ours] = theirs
    return mapping


def apply_mapping(row: Row, mapping: dict[str, str]) -> Row:
    """The row with the mapped columns under the names that the formats know."""
    if not mapping:
        return row
    moved = set(mapping.values())
    kept = {name: value for name, value in row.items() if name not in moved and name not in mapping}
    return kept | {ours: row[theirs] for ours, theirs in mapping.items() if theirs in row}


def detect(rows: Iterable[Row]) -> Format:
    """The format that most of these rows have.

    Raises:
        DataError: none fits; the message names the columns and the way out.
    """
    rows = list(rows)
    votes: Counter[str] = Counter()
    for row in rows:
        votes.update([name for name, item in FORMATS.items() if item.matches(row)][:1])
    if votes:
        return FORMATS[votes.most_common(1)[0][0]]
    columns = ", ".join(repr(name) for name in dict.fromkeys(name for row in rows for name in row))
    if any("chosen" in row and "rejected" in row for row in rows):
        raise DataError(f"preference pairs ({columns}) are not scored yet; give the column to score: --map prompt=prompt,completion=chosen")
    raise DataError(
        f"cannot tell the format from the columns {columns or '(no readable row)'}; say which columns hold prompt and answer, "
        "for example --map prompt=question,completion=reply (formats: " + ", ".join(FORMATS) + ")"
    )


def settle(name: str | None, mapping: dict[str, str], rows: Sequence[Row]) -> Format:
    """The format of this name, or the one that some rows have.

    Raises:
        UsageError: no such format, or a column named by `mapping` is in none of the rows. DataError: no format fits.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"--format {name}: it can be {', '.join(FORMATS)}")
    for ours, theirs in mapping.items():
        if rows and not any(theirs in row for row in rows):
            columns = ", ".join(dict.fromkeys(column for row in rows for column in row))
            raise UsageError(f"--map {ours}={theirs}: no row has a column {theirs!r}; there are {columns}")
    return FORMATS[name] if name is not None else detect(apply_mapping(row, mapping) for row in rows)
