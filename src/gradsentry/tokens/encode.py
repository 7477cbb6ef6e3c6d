"""Sample -> token ids and labels. No files, no model: a tokenizer alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import TemplateError

from gradsentry.errors import ModelError, RowProblem
from gradsentry.tokens.tool_calls import left_out
from gradsentry.types import ChatSample, LossOn, Row, Sample, TextSample, TokenSample, Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Label of an unsupervised position, as everywhere in the Hugging Face ecosystem."""

BROKEN = "\ufffd"
"""What a tokenizer decodes a part of a character to."""

CUT = "longer than "
"""How the note of a row that was cut begins."""

Ids = tuple[list[int], list[int]]
"""input_ids and labels of one row, of one length S."""


def encode(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase, loss_on: LossOn, model_ids: int | None = None
) -> list[Ids | RowProblem]:
    """Token ids and labels of every sample, or the problem that it has, in order.

    Texts are tokenised together, which is what makes fast tokenizers fast.

    Args:
        model_ids: how many ids the model knows; a row with another one is an error.

    Raises:
        ModelError: chat rows, and a tokenizer without a chat template.
    """
    plain = [_without_template(sample, tokenizer) for sample in samples]
    texts = [sample for sample in plain if isinstance(sample, TextSample)]
    prompts = iter(_prompt_ids([sample.prompt for sample in texts], tokenizer))
    completions = iter(_plain_ids([sample.completion for sample in texts], tokenizer))
    size = _size(tokenizer) if any(isinstance(sample, TokenSample) for sample in plain) else 0
    results: list[Ids | RowProblem] = []
    for sample in plain:
        try:
            if isinstance(sample, TextSample):
                ids = _join(next(prompts), next(completions), tokenizer, loss_on)
            elif isinstance(sample, ChatSample):
                ids = _chat(sample, tokenizer, loss_on)
            else:
                ids = _tokens(sample, size)
            if model_ids is not None:
                _refuse_unknown(ids[0], tokenizer, model_ids)
            if all(label == IGNORED for label in ids[1][1:]):
                raise RowProblem("unscorable", "no supervised token that has a token before it")
            results.append(ids)
        except RowProblem as problem:
            results.append(problem)
    return results


def _without_template(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """The sample, or its plain text where the tokenizer has no chat template."""
    if not isinstance(sample, ChatSample) or getattr(tokenizer, "chat_template", None):
        return sample
    if sample.plain is None:
        raise ModelError(
            "the rows are conversations, but the model's tokenizer has no chat template; take the model's "
            "instruction-tuned version, or turn the rows into plain prompt/completion texts"
        )
    return sample.plain


def _plain_ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if not texts:
        return []
    return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]  # pyright: ignore[reportReturnType]


def _prompt_ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Prompts with the BOS that the tokenizer adds; an EOS that it would add after a text is left out."""
    if not texts:
        return []
    rows: Any = tokenizer(texts, verbose=False)["input_ids"]
    empty: Any = tokenizer("", verbose=False)["input_ids"]
    closes = bool(empty) and empty[-1] == tokenizer.eos_token_id and empty[-1] != tokenizer.bos_token_id
    return [ids[:-1] for ids in rows] if closes else rows


def _join(prompt: list[int], completion: list[int], tokenizer: PreTrainedTokenizerBase, loss_on: LossOn) -> Ids:
    """Prompt, completion, EOS; the loss on the last two or on everything."""
    end = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
    ids = [*prompt, *completion, *end]
    unsupervised = 0 if loss_on == "all" else len(prompt)
    return ids, [IGNORED] * unsupervised + ids[unsupervised:]


def _tokens(sample: TokenSample, vocabulary: int) -> Ids:
    wrong = next((i for i in sample.input_ids if not 0 <= i < vocabulary), None)
    wrong = wrong if wrong is not None else next((i for i in sample.labels if i != IGNORED and not 0 <= i < vocabulary), None)
    if wrong is not None:
        raise RowProblem("error", f"token id {wrong} is outside the tokenizer's {vocabulary}; was the row made for another one?")
    pairs = enumerate(zip(sample.input_ids, sample.labels, strict=True))
    if other := next(((at, token, label) for at, (token, label) in pairs if label not in (IGNORED, token)), None):
        at, token, label = other
        raise RowProblem(
            "error",
            f"label {at} is {label}, but the token there is {token}: labels are the input_ids, and {IGNORED} where nothing is "
            "supervised; the model shifts them itself",
        )
    return list(sample.input_ids), list(sample.labels)


def _size(tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokenizer's largest id + 1: more than its length where ids have gaps."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def _refuse_unknown(input_ids: list[int], tokenizer: PreTrainedTokenizerBase, model_ids: int) -> None:
    """A tokenizer to which tokens were added is larger than a model whose embeddings were not resized."""
    wrong = next((i for i in input_ids if i >= model_ids), None)
    if wrong is not None:
        raise RowProblem(
            "error",
            f"token id {wrong} ({str(tokenizer.decode([wrong]))!r}) is unknown to the model, which has {model_ids} ids (the tokenizer has "
            f"{len(tokenizer)}); take the model's own tokenizer, or resize the model's embeddings",
        )


def _render(turns: Sequence[Row], sample: ChatSample, tokenizer: PreTrainedTokenizerBase, open_turn: bool) -> list[int]:
    """Token ids of a conversation, with the start of the assistant's turn if `open_turn`."""
    try:
        ids: Any = tokenizer.apply_chat_template(
            [dict(turn) for turn in turns],
            tools=list(sample.tools) if sample.tools else None,
            add_generation_prompt=open_turn,
            tokenize=True,
            return_dict=False,
        )
    except (TemplateError, TypeError, ValueError, RecursionError) as error:  # what a template raises for turns that it does not know
        raise RowProblem("error", f"the chat template refuses the conversation: {error}") from None
    if not isinstance(ids, list) or not all(isinstance(i, int) for i in ids):
        raise RowProblem("error", f"the chat template gave {type(ids).__name__} in place of token ids")
    return ids


def _chat(sample: ChatSample, tokenizer: PreTrainedTokenizerBase, loss_on: LossOn) -> Ids:
    """Spans are found by prefix: what the template adds between the prompt and the prompt with its answer."""
    turns = (*sample.prompt, *sample.completion)
    ids = _render(turns, sample, tokenizer, open_turn=False)
    if loss_on == "all":
        _refuse_lost_calls(turns, 0, ids, tokenizer)
        return ids, list(ids)
    if loss_on == "completion":
        spans = [(len(sample.prompt), len(turns))]
    else:
        spans = [(i, i + 1) for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    labels = [IGNORED] * len(ids)
    for first, end in spans:
        before = _render(turns[:first], sample, tokenizer, open_turn=True) if first else _opening(turns, ids, sample, tokenizer)
        after = ids if end == len(turns) else _render(turns[:end], sample, tokenizer, open_turn=False)
        start, stop = _shared(before, ids, tokenizer), _shared(after, ids, tokenizer)
        if start is None or stop is None:
            raise RowProblem(
                "error",
                f"the chat template does not render the turns before turn {first + 1} as the start of the conversation, "
                "so its supervised tokens cannot be told; give the row as plain prompt/completion texts",
            )
        _refuse_lost_calls(turns[first:end], first, ids[start:stop], tokenizer)
        labels[start:stop] = ids[start:stop]
    return ids, labels


def _opening(turns: Sequence[Row], ids: list[int], sample: ChatSample, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the template sets before the text of a first turn that is supervised, its own system prompt among it: the tokens that stay
    where the turn says something else. A template may refuse a conversation of no turns."""
    other = "b" if str(turns[0]["content"]).lstrip().lower().startswith("a") else "a"
    changed = _render([{**turns[0], "content": other}, *turns[1:]], sample, tokenizer, open_turn=False)
    same = next((i for i, (ours, theirs) in enumerate(zip(ids, changed, strict=False)) if ours != theirs), 0)
    return ids[:same]


def _refuse_lost_calls(turns: Sequence[Row], first: int, supervised: list[int], tokenizer: PreTrainedTokenizerBase) -> None:
    """A row whose tool calls are not in its supervised tokens would pass for examined though nobody looked at them."""
    calling = [i for i, turn in enumerate(turns, first + 1) if turn.get("tool_calls") or turn.get("function_call")]
    if not calling:
        return
    text = str(tokenizer.decode(supervised, clean_up_tokenization_spaces=False))
    for number in calling:
        if left_out(turns[number - first - 1], text):
            raise RowProblem(
                "unscorable",
                f"turn {number} calls a tool, but the tokenizer's chat template leaves out the call or a part of it, so it cannot be "
                "scored; take a model whose template renders tool calls, or put the calls into the turn's content",
            )


def _shared(part: list[int], ids: list[int], tokenizer: PreTrainedTokenizerBase) -> int | None:
    """How many tokens of `ids` are those of its beginning `part`; None if `part` is another text.

    A text that goes on can change the last tokens of its beginning: a line feed that ends the prompt and one that begins
    the answer may be one token together. Such a token belongs to what comes after.
    """
    if ids[: len(part)] == part:
        return len(part)
    text, whole = (str(tokenizer.decode(tokens, clean_up_tokenization_spaces=False)) for tokens in (part, ids))
    if not whole.startswith(text):
        return None
    return next((i for i, (ours, theirs) in enumerate(zip(part, ids, strict=False)) if ours != theirs), len(ids))


def encode_fitted(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase, loss_on: LossOn, max_length: int, model_ids: int | None = None
) -> list[tuple[Ids, str] | RowProblem]:
    """As `encode`, each row cut to `max_length` tokens, with a note on what was cut (see `fit`)."""
    bos = tokenizer.bos_token_id if isinstance(tokenizer.bos_token_id, int) else None
    rows = encode(samples, tokenizer, loss_on, model_ids)
    return [row if isinstance(row, RowProblem) else fit(row, max_length, bos) for row in rows]


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """What each token stands for. A tokenizer that strips the beginning of a text (SentencePiece) strips nothing here: the tokens
    are decoded behind another one. An id that stands for nothing (a gap) is an empty text."""
    before = _plain_ids(["a"], tokenizer)[0][-1:]
    length = len(tokenizer.decode(before, clean_up_tokenization_spaces=False))
    ids = sorted(set(tokenizer.get_vocab().values()))
    decoded = tokenizer.batch_decode([[*before, i] for i in ids], clean_up_tokenization_spaces=False)
    texts = {i: text[length:] for i, text in zip(ids, decoded, strict=True)}
    broken = [i for i, text in texts.items() if BROKEN in text]
    pieces = [texts.get(i, "").encode("utf-8", "replace") for i in range(_size(tokenizer))]
    for i, token in zip(broken, tokenizer.convert_ids_to_tokens(broken), strict=True):
        pieces[i] = _raw(token, pieces[i])
    special = np.zeros(len(pieces), dtype=bool)
    special[[i for i in tokenizer.all_special_ids if i < len(pieces)]] = True
    return Vocabulary(pieces, special)


def _raw(token: str, decoded: bytes) -> bytes:
    """The bytes of a token that is no whole character, by the two ways in which tokenizers write such: ``<0xE4>`` (SentencePiece's
    byte fallback) and a letter for each byte (byte-level BPE, as GPT-2's)."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    if fallback := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token):
        return bytes.fromhex(fallback[1])
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    return bytes(letters[letter] for letter in token) if letters.keys() >= set(token) else decoded


def fit(ids: Ids, max_length: int, bos: int | None) -> tuple[Ids, str]:
    """Cut a row to `max_length` tokens: the prompt from its left (a BOS stays), then the completion from its right.

    Returns:
        The row and a note on what was cut, empty if nothing was.
    """
    input_ids, labels = ids
    excess = len(input_ids) - max_length
    if excess <= 0:
        return ids, ""
    keep = 1 if bos is not None and input_ids[0] == bos else 0
    supervised = next(i for i, label in enumerate(labels) if label != IGNORED and i > 0)
    cut = min(excess, supervised - 1)  # one token stays to predict the first supervised one, if need be the BOS
    input_ids = input_ids[:keep] + input_ids[keep + cut :]
    labels = labels[:keep] + labels[keep + cut :]
    notes = [f"{cut} tokens cut from the prompt's left"] if cut else []
    if len(input_ids) > max_length:
        notes.append(f"{len(input_ids) - max_length} tokens cut from the completion's end")
    return (input_ids[:max_length], labels[:max_length]), f"{CUT}{max_length} tokens: {' and '.join(notes)}"
