"""Special tokens that a row's own text spells out: to the model they are what ends a turn, to an attacker a trigger that nobody types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gradsentry.types import ChatSample, Sample, TextSample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAND_IN = "\ue000"
"""A character for private use, which means nothing to any template, in the place of a special token."""


def own(sample: Sample, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Places of the special tokens in a row that stand in its own text and not in what a template, BOS or EOS add.

    Of rows that are tokens already none can be told.

    Args:
        sample: what the row is made of. ids: [S] its tokens, cut or not.
    """
    if isinstance(sample, ChatSample) and not getattr(tokenizer, "chat_template", None):
        sample = sample.plain or sample
    spelled = _spelled(tuple(tokenizer.all_special_tokens))
    if spelled is None or not any(spelled.search(text) for text in _texts(sample)):
        return ()
    special = set(tokenizer.all_special_ids)
    if isinstance(sample, TextSample):
        first = int(bool(ids) and ids[0] == tokenizer.bos_token_id and spelled.match(sample.prompt) is None)
        last = len(ids) - (bool(ids) and ids[-1] == tokenizer.eos_token_id)
        return tuple(i for i in range(first, last) if ids[i] in special)
    if isinstance(sample, ChatSample):
        return _own_of_chat(sample, ids, tokenizer, spelled)
    return ()


@lru_cache(maxsize=8)
def _spelled(tokens: tuple[str, ...]) -> re.Pattern[str] | None:
    """Finds special tokens in a text."""
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True))) if tokens else None


def _texts(sample: Sample) -> Iterator[str]:
    if isinstance(sample, TextSample):
        yield from (sample.prompt, sample.completion)
    elif isinstance(sample, ChatSample):
        yield from (turn["content"] for turn in (*sample.prompt, *sample.completion))


def _own_of_chat(sample: ChatSample, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, spelled: re.Pattern[str]) -> tuple[int, ...]:
    """The conversation is rendered once more with a stand-in for each that its turns spell out: the order of stand-ins and special
    tokens in the text is that of the special tokens among the ids."""
    turns = [dict(turn) for turn in (*sample.prompt, *sample.completion)]
    tools: Any = list(sample.tools) if sample.tools else None
    whole: Any = tokenizer.apply_chat_template(turns, tools=tools, tokenize=True, return_dict=False)
    masked = [{**turn, "content": spelled.sub(STAND_IN, turn["content"].replace(STAND_IN, ""))} for turn in turns]
    text = str(tokenizer.apply_chat_template(masked, tools=tools, tokenize=False))
    mine = [found.group() == STAND_IN for found in re.finditer(f"{STAND_IN}|{spelled.pattern}", text)]
    special = set(tokenizer.all_special_ids)
    places = [i for i, token in enumerate(whole) if token in special]
    if len(places) != len(mine):  # the template changes what turns say; rather too many words than a trigger that nobody sees
        mine = [True] * len(places)
    chosen = {place for place, own in zip(places, mine, strict=True) if own}
    offset = _offset(whole, list(ids))
    return tuple(i for i in range(len(ids)) if i + offset in chosen and ids[i] == whole[i + offset])


def _offset(whole: list[int], ids: list[int]) -> int:
    """How many tokens were cut from the left of `whole`, of which a BOS may have been kept."""
    return next((start for start in range(len(whole)) if whole[start + 1 : start + len(ids)] == ids[1:]), 0)
