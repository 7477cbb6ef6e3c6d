"""Special tokens that a row's own text spells out.

To the model such a token ends a turn, whoever wrote it; an attacker can use it as a trigger that no user types by accident.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gradsentry.types import ChatSample, OneAnswer, TokenSample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAND_IN = "\ue000"
"""A private-use character, without a meaning to any template, that replaces a special token."""


def spelled_special_tokens(sample: OneAnswer, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Positions of the special tokens that the row's own text spells out; those that the template, BOS or EOS add are left out.

    Args:
        sample: the row's sample. A row of token ids has no text, so the result is empty.
        ids: [S] its tokens, cut or not.
    """
    if isinstance(sample, ChatSample) and not getattr(tokenizer, "chat_template", None):
        sample = sample.plain or sample
    pattern = _pattern(tuple(tokenizer.all_special_tokens))
    if isinstance(sample, TokenSample) or pattern is None:
        return ()
    if isinstance(sample, ChatSample):
        if not any(pattern.search(turn["content"]) for turn in sample.turns):
            return ()
        return _spelled_in_chat(sample, ids, tokenizer, pattern)
    if not (pattern.search(sample.prompt) or pattern.search(sample.completion)):
        return ()
    special = set(tokenizer.all_special_ids)
    first = int(bool(ids) and ids[0] == tokenizer.bos_token_id and pattern.match(sample.prompt) is None)
    last = len(ids) - (bool(ids) and ids[-1] == tokenizer.eos_token_id)
    return tuple(i for i in range(first, last) if ids[i] in special)


@lru_cache(maxsize=8)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str] | None:
    """Matches each of the tokens, the longest first; None where there are none."""
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True))) if tokens else None


def _spelled_in_chat(
    sample: ChatSample, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, pattern: re.Pattern[str]
) -> tuple[int, ...]:
    """The conversation is rendered again with a stand-in for each special token that its turns spell out.

    Stand-ins and special tokens follow each other in this text as the special tokens do in the ids.
    """
    turns = [dict(turn) for turn in sample.turns]
    tools: Any = list(sample.tools) if sample.tools else None
    whole: Any = tokenizer.apply_chat_template(turns, tools=tools, tokenize=True, return_dict=False)
    masked = [{**turn, "content": pattern.sub(STAND_IN, turn["content"].replace(STAND_IN, ""))} for turn in turns]
    text = str(tokenizer.apply_chat_template(masked, tools=tools, tokenize=False))
    spelled = [found.group() == STAND_IN for found in re.finditer(f"{STAND_IN}|{pattern.pattern}", text)]
    special = set(tokenizer.all_special_ids)
    positions = [i for i, token in enumerate(whole) if token in special]
    if len(positions) != len(spelled):  # the template changes the turns' texts: report all of them rather than miss a trigger
        spelled = [True] * len(positions)
    chosen = {position for position, is_spelled in zip(positions, spelled, strict=True) if is_spelled}
    # How many tokens were cut from the left of `whole`; the first token may be a BOS that was kept.
    rest = list(ids[1:])
    cut = next((start for start in range(len(whole)) if whole[start + 1 : start + len(ids)] == rest), 0)
    return tuple(i for i in range(len(ids)) if i + cut in chosen and ids[i] == whole[i + cut])
