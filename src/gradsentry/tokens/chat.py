"""Conversations -> token ids and labels, through the tokenizer's chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from gradsentry.data.fields import WEIGHTS, is_trained
from gradsentry.errors import RowProblem
from gradsentry.tokens.labels import IGNORED, Ids
from gradsentry.types import ChatSample, LossOn, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

METADATA = ("id", "type", "index", "tool_call_id")
"""Keys of a turn or a tool call that hold neither text for the model, nor a tool's name, nor an argument."""
_IDENTIFIER = re.compile(r"[\w.:-]{1,64}")
_REFUSALS = (TemplateError, TypeError, ValueError, RecursionError)
"""What templates raise for turns that they do not support."""
CALLS = ("tool_calls", "function_call")
LEFT_OUT = "the chat template leaves out"
"""In the reason of each row whose turns have texts that were moved into their content."""


def with_left_out_texts(sample: ChatSample, tokenizer: PreTrainedTokenizerBase) -> tuple[ChatSample, str]:
    """The sample with every text that the chat template leaves out moved into its turn's content, and a note that names the fields.

    A trainer's template may have these texts: reasoning, tool calls, tool schemas, names. A text is put before the content, as
    templates put reasoning; calls and the like follow it as JSON.

    Raises:
        RowProblem: what a field holds is nested too deeply.
    """
    if not sample.tools and not any(_extras(turn) for turn in sample.turns):
        return sample, ""
    try:
        shown = _rendered_extras(sample, tokenizer)
        left = [{key: value for key, value in _extras(turn).items() if not _is_shown(key, value, shown)} for turn in sample.turns]
        moved = [_moved(turn, fields) for turn, fields in zip(sample.turns, left, strict=True)]
        names = list(dict.fromkeys(key for fields in left for key in fields))
        tools = sample.tools
        if tools and not _is_in_text(tools, shown):
            moved[0] = _moved(moved[0], {"tools": json.dumps(tools, ensure_ascii=False)})
            names, tools = [*names, "tools"], None
    except (RecursionError, ValueError):
        raise RowProblem("error", "a turn holds something that is nested too deeply") from None
    if not names:
        return sample, ""
    first, end = len(sample.prompt), len(sample.prompt) + len(sample.completion)
    sample = replace(sample, prompt=tuple(moved[:first]), completion=tuple(moved[first:end]), after=tuple(moved[end:]), tools=tools)
    return sample, f"{LEFT_OUT} {', '.join(names)}, which is scored as text of the turn"


def _extras(turn: Row) -> dict[str, Any]:
    """The fields of the turn besides role and content that hold text."""
    return {
        key: value
        for key, value in turn.items()
        if key not in ("role", "content") and _holds_text(value) and not (key in METADATA and _IDENTIFIER.fullmatch(str(value)))
    }


def _holds_text(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_text, value.values())) or any(value)
    return any(map(_holds_text, value)) if isinstance(value, (list, tuple)) else isinstance(value, str) and bool(value.strip())


def _rendered_extras(sample: ChatSample, tokenizer: PreTrainedTokenizerBase) -> str:
    """The conversation as the template renders it, without the turns' contents; empty if the template refuses it."""
    turns: Any = [{**turn, "content": turn["content"] and "."} for turn in sample.turns]
    try:
        return str(tokenizer.apply_chat_template(turns, tools=list(sample.tools) if sample.tools else None, tokenize=False))
    except _REFUSALS:
        return ""


def _is_shown(key: str, value: Any, shown: str) -> bool:
    """Whether the rendered text has this field of a turn."""
    if key in CALLS:
        return not _missing_from_text({key: value}, shown)
    return _is_in_text(value.strip() if isinstance(value, str) else value, shown)


def _moved(turn: Row, fields: dict[str, Any]) -> Row:
    """The turn with these fields as text of its content."""
    texts = [value for value in fields.values() if isinstance(value, str)]
    others = [json.dumps(value, ensure_ascii=False) for value in fields.values() if not isinstance(value, str)]
    content = "\n".join(filter(None, [*texts, turn["content"], *others]))
    return {key: value for key, value in turn.items() if key not in fields} | {"content": content}


def encode_chat(sample: ChatSample, tokenizer: PreTrainedTokenizerBase, loss_on: LossOn) -> Ids:
    """Token ids and labels of a conversation.

    A supervised span is what the template adds to the turns before it, its opening of the assistant's turn included in those.

    Raises:
        RowProblem: the template refuses the conversation, does not render the turns before a span as the beginning of the whole, or
            leaves out a supervised tool call.
    """
    turns = sample.turns
    ids = _render(turns, sample, tokenizer, open_turn=False)
    if loss_on == "all":
        _refuse_missing_calls(turns, 0, ids, tokenizer)
        return ids, list(ids)
    if loss_on == "completion":
        spans = [(len(sample.prompt), len(turns) - len(sample.after))]
    else:
        spans = [(i, i + 1) for i, turn in enumerate(turns) if turn["role"] == "assistant" and is_trained(turn)]
        if not spans:
            raise RowProblem("unscorable", f"no assistant turn is trained on: each has {' or '.join(WEIGHTS)} 0 or false")
    labels = [IGNORED] * len(ids)
    for first, end in spans:
        before = _render(turns[:first], sample, tokenizer, open_turn=True) if first else _before_first_text(turns, ids, sample, tokenizer)
        after = ids if end == len(turns) else _render(turns[:end], sample, tokenizer, open_turn=False)
        start, stop = _prefix_length(before, ids, tokenizer), _prefix_length(after, ids, tokenizer)
        if start is None or stop is None:
            raise RowProblem(
                "error",
                f"the chat template does not render the turns before turn {first + 1} as the start of the conversation, "
                "so its supervised tokens cannot be found; give the row as plain prompt/completion texts",
            )
        _refuse_missing_calls(turns[first:end], first, ids[start:stop], tokenizer)
        labels[start:stop] = ids[start:stop]
    return ids, labels


def _render(turns: Sequence[Row], sample: ChatSample, tokenizer: PreTrainedTokenizerBase, open_turn: bool) -> list[int]:
    """Token ids of the turns and, if `open_turn`, of the opening of an assistant's turn."""
    try:
        ids: Any = tokenizer.apply_chat_template(
            [dict(turn) for turn in turns],
            tools=list(sample.tools) if sample.tools else None,
            add_generation_prompt=open_turn,
            tokenize=True,
            return_dict=False,
        )
    except _REFUSALS as error:
        raise RowProblem("error", f"the chat template refuses the conversation: {error}") from None
    if not isinstance(ids, list) or not all(isinstance(i, int) for i in ids):
        raise RowProblem("error", f"the chat template gave {type(ids).__name__} in place of token ids")
    return ids


def _before_first_text(turns: Sequence[Row], ids: list[int], sample: ChatSample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens before the text of a supervised first turn, the template's own system prompt among them.

    They are the tokens that stay when the turn has another text. To render no turns and an opening is no way: templates may refuse it.
    """
    other = "b" if str(turns[0]["content"]).lstrip().lower().startswith("a") else "a"
    changed = _render([{**turns[0], "content": other}, *turns[1:]], sample, tokenizer, open_turn=False)
    same = next((i for i, (ours, theirs) in enumerate(zip(ids, changed, strict=False)) if ours != theirs), 0)
    return ids[:same]


def _prefix_length(part: list[int], ids: list[int], tokenizer: PreTrainedTokenizerBase) -> int | None:
    """How many tokens of `ids` encode its beginning `part`; None if the text of `ids` does not begin with that of `part`.

    The last tokens of a text can change when text is appended: a line feed that ends the prompt and one that begins the answer may
    become one token. Such a token belongs to the answer.
    """
    if ids[: len(part)] == part:
        return len(part)
    text, whole = (str(tokenizer.decode(tokens, clean_up_tokenization_spaces=False)) for tokens in (part, ids))
    if not whole.startswith(text):
        return None
    return next((i for i, (ours, theirs) in enumerate(zip(part, ids, strict=False)) if ours != theirs), len(ids))


def _refuse_missing_calls(turns: Sequence[Row], first: int, supervised: list[int], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a row whose tool calls are not in its supervised tokens: nothing would examine them. `first` numbers the first turn."""
    calling = [(number, turn) for number, turn in enumerate(turns, first + 1) if turn.get("tool_calls") or turn.get("function_call")]
    if not calling:
        return
    text = str(tokenizer.decode(supervised, clean_up_tokenization_spaces=False))
    for number, turn in calling:
        if _missing_from_text(turn, text):
            raise RowProblem(
                "unscorable",
                f"turn {number} calls a tool, but the tokenizer's chat template leaves out the call or a part of it, so it cannot be "
                "scored; take a model whose template renders tool calls, or put the calls into the turn's content",
            )


def _missing_from_text(turn: Row, text: str) -> bool:
    """Whether the turn calls a tool and `text` lacks the name or an argument of the call."""
    try:
        return any(not _is_in_text(value, text) for value in _names_and_arguments(turn))
    except (RecursionError, ValueError):  # no template has rendered arguments nested so deeply, or integers with so many digits
        return True


def _names_and_arguments(turn: Row) -> Iterator[Any]:
    """Names and arguments in OpenAI's `tool_calls` and its older `function_call`; a call of another shape as it is."""
    calls = turn.get("tool_calls") or []
    for call in [*(calls if isinstance(calls, (list, tuple)) else [calls]), turn.get("function_call") or {}]:
        body = call
        if isinstance(call, dict):
            body = next((call[key] for key in ("function", "custom") if isinstance(call.get(key), dict)), call)
        yield from (value for key, value in body.items() if key not in METADATA) if isinstance(body, dict) else [body]


def _is_in_text(value: Any, text: str) -> bool:
    """Whether the text holds every part of the value: as it is, as JSON, or as Python writes it.

    Arguments may be the JSON text of an object, which a template may parse and write in another layout.
    """
    if isinstance(value, dict):
        return all(_is_in_text(key, text) and _is_in_text(item, text) for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return all(_is_in_text(item, text) for item in value)
    if not isinstance(value, str):
        return any(form in text for form in (str(value), json.dumps(value, default=str)))
    if any(form in text for form in (value, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1], repr(value)[1:-1])):
        return True
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, (dict, list)) and _is_in_text(parsed, text)
