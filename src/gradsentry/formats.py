"""Row -> sample: one small pure function a format, and one line each in FORMATS.

The formats are named as TRL and the fine-tuning tools name them; `docs/formats.md` shows a row of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gradsentry import cells
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
    read: Callable[[Row], Sample]
    """The row's sample; raises RowProblem when the row does not hold what the format promises."""
    supervised: str
    """What the loss is on, in words for the log."""
    loss_on: LossOn
    """Default of `--loss-on`."""

    def matches(self, row: Row) -> bool:
        """Whether the row has the format's columns."""
        return all(any(name in row for name in names) for names in self.columns)

    def fills(self, row: Row) -> bool:
        """Whether there is something in all of the format's columns."""
        return all(any(not cells.empty(row.get(name)) for name in names) for names in self.columns)

    def convert(self, row: Row) -> Sample:
        """The row's sample.

        Raises:
            RowProblem: the row does not hold what the format promises; where it holds what another one does, the reason says so.
        """
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
    prompt, completion = cells.first(row, "prompt"), cells.first(row, "completion")
    if isinstance(completion, list) or isinstance(prompt, list):
        answer = cells.messages(completion, "completion")
        if not any(message["content"] or len(message) > 2 for message in answer):
            raise RowProblem("unscorable", "'completion' is empty: no supervised token")
        return ChatSample(cells.messages(prompt, "prompt"), answer, cells.tools(row))
    return TextSample(cells.text(prompt, "prompt"), cells.completion(completion, "completion"))


def messages(row: Row) -> Sample:
    """A conversation under `messages`, with `tools` if the row has them."""
    return cells.split_at_answer(cells.messages(cells.first(row, "messages"), "messages"), "messages", cells.tools(row))


def sharegpt(row: Row) -> Sample:
    """A conversation under `conversations` with from/value (ShareGPT) or role/content."""
    turns = []
    for item in cells.listed(cells.first(row, "conversations"), "conversations", "messages"):
        own = isinstance(item, dict) and "from" in item
        turn = cells.message(item, "conversations", *(("from", "value") if own else ("role", "content")))
        if turn["role"] not in SHAREGPT_ROLES:
            known = ", ".join(SHAREGPT_ROLES)
            raise RowProblem("error", f"column 'conversations' has the role {turn['role']!r}; known are {known}")
        turns.append({**turn, "role": SHAREGPT_ROLES[turn["role"]]})
    if row.get("system"):
        turns.insert(0, {"role": "system", "content": cells.text(row["system"], "system")})
    return cells.split_at_answer(tuple(turns), "conversations", cells.tools(row))


def alpaca(row: Row) -> Sample:
    """Alpaca: the user turn is the instruction and, on a new line, the input; `history` holds earlier pairs."""
    instruction = cells.text(cells.first(row, "instruction"), "instruction")
    extra = cells.text(row.get("input", row.get("context")), "input")
    output = cells.completion(cells.first(row, "output", "response"), "output" if "output" in row else "response")
    system = cells.text(row.get("system"), "system")
    turns = [{"role": "system", "content": system}] if system else []
    for pair in cells.listed(row.get("history") or (), "history", "[question, answer] pairs"):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise RowProblem("error", "column 'history' holds something else than [question, answer] pairs")
        turns += [{"role": "user", "content": cells.text(pair[0], "history")}]
        turns += [{"role": "assistant", "content": cells.text(pair[1], "history")}]
    turns.append({"role": "user", "content": "\n".join(part for part in (instruction, extra) if part)})
    parts = [system] if system else []
    parts += [f"### Instruction:\n{instruction}"] + ([f"### Input:\n{extra}"] if extra else [])
    plain = TextSample("\n\n".join([*parts, "### Response:\n"]), output)
    return ChatSample(tuple(turns), ({"role": "assistant", "content": output},), plain=plain)


def question_answer(row: Row) -> Sample:
    """Question answering in the paper's template: several answers are joined with "; "."""
    name = "answers" if "answers" in row else "answer"
    value = cells.first(row, "answers", "answer")
    if isinstance(value, dict) and "text" in value:  # SQuAD keeps its answers one level down
        value = value["text"]
    answers = value if isinstance(value, (list, tuple)) else [value]
    completion = cells.completion("; ".join(cells.text(answer, name) for answer in answers), name)
    parts = [("Instruction", row.get("instruction")), ("Context", row.get("context")), ("Question", cells.first(row, "question"))]
    blocks = [f"### {title}:\n{cells.text(text, title.lower())}" for title, text in parts if text]
    return TextSample("\n\n\n\n".join([*blocks, "### Answer: "]), completion)


def text(row: Row) -> Sample:
    """One text; the prompt cannot be told from the completion, so the loss is on all of it."""
    return TextSample("", cells.completion(cells.first(row, "text"), "text"))


def tokens(row: Row) -> Sample:
    """Already tokenised: input_ids and labels of one length."""
    ids, labels = (cells.listed(cells.first(row, name), name, "token ids") for name in ("input_ids", "labels"))
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

    One for all of them: a trainer reads a data set in one format, and scores of rows that are rendered in different ways
    cannot be held against each other. Rows of another format become problems that say so (see `Format.convert`).

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
    if len(rows) == 1 and (wrapper := next((name for name, value in rows[0].items() if _holds_rows(value)), None)):
        raise DataError(
            f"the data is one row, whose column {wrapper!r} holds a list of objects; if these are the rows, write that list alone "
            "into the file (a JSON array, or one object a line)"
        )
    raise DataError(
        f"cannot tell the format from the columns {columns or '(no readable row)'}; say which columns hold prompt and answer, "
        "for example --map prompt=question,completion=reply (formats: " + ", ".join(FORMATS) + ")"
    )


def _holds_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


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
    if name is not None:
        return FORMATS[name]
    return detect(apply_mapping(row, mapping) for row in rows)
