"""Answers by generation: greedy, or by CleanGen with a reference model beside the model under test."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from gradsentry.errors import DataError, ModelError, RowProblem, UsageError
from gradsentry.model.batches.states import bins
from gradsentry.model.load import LoadedModel, tokenizer_stamp
from gradsentry.model.memory import default_budget, out_of_memory
from gradsentry.tokens import encode
from gradsentry.types import TextSample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

HORIZON = 4
"""CleanGen's k: tokens that the target proposes before the reference checks them (arXiv 2406.12257)."""
BAR = 20.0
"""CleanGen's alpha: a token is suspicious if the ratio of the two models' probabilities reaches this."""


def answers(loaded: LoadedModel, prompts: Sequence[str], most: int, reference: LoadedModel | None = None) -> list[str]:
    """The model's answer to each prompt, in order, stripped; each token is the likeliest one.

    With `reference` the decoding is CleanGen's (Li et al., EMNLP 2024): the model under test (the target) proposes the next `HORIZON`
    tokens greedily; the first x_t with ``P_target(x_t) / P_reference(x_t) >= BAR`` is replaced by the reference's likeliest token, the
    proposals after it are discarded, and the target continues from there. A greedy choice of the reference, too, is our reading, in line
    with all other answers of the bench. The authors' references are fine-tuned on other instructions; the bench uses the base model,
    because only that is certainly clean.

    Args:
        most: the most new tokens of an answer; an EOS ends it earlier. A prompt that does not fit into the model's context together with
            the answer loses its beginning, as in a scan.

    Raises:
        UsageError: `most` is below 1 or fills the context, or the reference has another tokenizer. DataError: an empty prompt.
        ModelError: an answer does not fit into memory.
    """
    models = [loaded] if reference is None else [loaded, reference]
    context = min(model.max_length for model in models)
    if not 1 <= most < context:
        raise UsageError(
            f"answers of {most} new tokens: the number must be at least 1 and leave room for the prompt in the context of {context}"
        )
    if reference is not None and tokenizer_stamp(reference.tokenizer) != tokenizer_stamp(loaded.tokenizer):
        raise UsageError(
            f"CleanGen compares token by token, and {reference.name} has another tokenizer than {loaded.name}; use its base model"
        )
    ids = [_cut(prompt, most, context, loaded.tokenizer) for prompt in prompt_ids(prompts, loaded.tokenizer)]
    # An answer ends with the EOS of the fine-tuning, or with one of the model's generation config.
    own: Any = getattr(loaded.model.generation_config, "eos_token_id", None)
    listed = own if isinstance(own, list) else [own]
    ends = {token for token in [loaded.tokenizer.eos_token_id, *listed] if isinstance(token, int)}
    found: list[list[int]] = [[] for _ in ids]
    room = most if reference is None else HORIZON * most  # a round fills the caches with HORIZON tokens and may keep one
    for members in bins([len(prompt) + room for prompt in ids], default_budget(loaded.model.device)):
        made = _in_halves(models, [ids[i] for i in members], most, ends)
        for i, tokens in zip(members, made, strict=True):
            found[i] = tokens
    texts = [loaded.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False) for tokens in found]
    return [str(text).strip() for text in texts]


def prompt_ids(prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of the prompts as in a scan: the part of a row before its completion.

    Raises:
        DataError: a prompt without a token.
    """
    found = []
    for place, row in enumerate(encode.encode([TextSample(prompt, "a") for prompt in prompts], tokenizer, "completion")):
        ids = [] if isinstance(row, RowProblem) else row[0][: row[1].count(encode.IGNORED)]
        if not ids:
            raise DataError(f"prompt {place} is empty; an answer needs a prompt of at least one token")
        found.append(ids)
    return found


def _cut(prompt: list[int], most: int, context: int, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The prompt, cut so that `most` tokens fit after it."""
    bos = tokenizer.bos_token_id if isinstance(tokenizer.bos_token_id, int) else None
    room: list[int] = [0] * most
    (ids, _), *_ = encode.fit((prompt + room, [encode.IGNORED] * len(prompt) + room), context, bos)
    return ids[:-most]


def _in_halves(models: Sequence[LoadedModel], prompts: Sequence[list[int]], most: int, ends: set[int]) -> list[list[int]]:
    """As `_decode`; each half of the prompts in turn if they do not fit into memory together.

    Raises:
        ModelError: a single prompt does not fit.
    """
    try:
        return _decode(models, prompts, most, ends)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        if len(prompts) == 1:
            longest = len(prompts[0]) + most
            raise ModelError(f"out of memory for a single answer: {longest} tokens with its prompt; use a smaller model") from error
    log.warning("out of memory: generating %d answers in two halves", len(prompts))
    half = len(prompts) // 2  # outside the handler, because the error being handled keeps the memory in use
    return [*_in_halves(models, prompts[:half], most, ends), *_in_halves(models, prompts[half:], most, ends)]


def _decode(models: Sequence[LoadedModel], prompts: Sequence[list[int]], most: int, ends: set[int]) -> list[list[int]]:
    """New tokens of each of B prompts, without the token that ended them.

    Prompts are padded on the left. All rows advance together, round by round, though a round gives them different numbers of tokens:
    rejected proposals stay in the caches and are masked, and positions are counted per row. A round feeds each model the last accepted
    token, so greedy decoding is a horizon of 1 without a reference.

    Args:
        models: the target and, for CleanGen, the reference.
    """
    import torch

    target, *others = [_Reader(model) for model in models]
    horizon = HORIZON if others else 1
    width = max(map(len, prompts))
    device = models[0].model.device
    new = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    made: list[list[int]] = [[] for _ in prompts]
    with torch.no_grad():
        while True:
            feed, log_p = new, []
            for _ in range(horizon):
                log_p.append(target.read(feed, mask, 1)[:, 0])
                feed = log_p[-1].argmax(-1, keepdim=True)
                new, mask = torch.cat([new, feed], 1), torch.cat([mask, torch.ones_like(feed)], 1)
            proposed, new, mask = new[:, -horizon:], new[:, :-1], mask[:, :-1]  # no model has read the last proposal yet
            kept = torch.full((len(made),), horizon, device=device)
            if others:
                proposed, kept = _checked(torch.stack(log_p, 1), others[0].read(new, mask, horizon), proposed)
                rejected = torch.arange(1, horizon, device=device) >= kept[:, None]  # read, but not kept
                mask[:, mask.shape[1] - horizon + 1 :] *= (~rejected).long()
            new = proposed.gather(1, kept[:, None] - 1)
            mask = torch.cat([mask, torch.ones_like(new)], 1)
            for tokens, row, count in zip(made, proposed.tolist(), kept.tolist(), strict=True):
                if not ends.intersection(tokens):
                    tokens += row[:count]
            if all(len(tokens) >= most or ends.intersection(tokens) for tokens in made):
                return [list(takewhile(lambda token: token not in ends, tokens[:most])) for tokens in made]


def _checked(target: torch.Tensor, reference: torch.Tensor, proposed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """CleanGen's check of k proposals.

    Args:
        target, reference: [B, k, V] logarithms of the models' probabilities. proposed: [B, k].

    Returns:
        [B, k] the proposals, the first suspicious one replaced; [B] how many are kept, including it.
    """
    import torch

    ratio = (target.gather(-1, proposed[..., None]) - reference.gather(-1, proposed[..., None])).squeeze(-1)
    suspicious = ratio >= math.log(BAR)
    horizon = proposed.shape[1]
    first = torch.where(suspicious.any(1), suspicious.int().argmax(1), horizon)
    replaced = torch.where(torch.arange(horizon, device=proposed.device) == first[:, None], reference.argmax(-1), proposed)
    return replaced, (first + 1).clamp(max=horizon)


class _Reader:
    """A model and its cache."""

    def __init__(self, loaded: LoadedModel) -> None:
        from transformers import DynamicCache

        self.model: Any = loaded.model
        self.cache = DynamicCache(config=loaded.model.config)
        self.end = loaded.max_length - 1
        known = inspect.signature(loaded.model.forward).parameters
        self.last = "logits_to_keep" in known
        self.positions = "position_ids" in known

    def read(self, new: torch.Tensor, mask: torch.Tensor, last: int) -> torch.Tensor:
        """[B, last, V] log-probabilities after the last tokens of `new` [B, n]; `mask` [B, C] covers all tokens read so far and these."""
        arguments: dict[str, Any] = {"logits_to_keep": last} if self.last else {}
        if self.positions:
            places = (mask.cumsum(1) - 1).clamp(0, self.end)  # a finished row that waits for others may exceed the context
            arguments["position_ids"] = places[:, -new.shape[1] :].to(self.model.device)
        ids, mask = new.to(self.model.device), mask.to(self.model.device)
        output = self.model(input_ids=ids, attention_mask=mask, past_key_values=self.cache, use_cache=True, **arguments)
        return output.logits[:, -last:].float().log_softmax(-1).to(new.device)
