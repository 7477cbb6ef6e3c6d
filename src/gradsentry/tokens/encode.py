"""Samples -> token ids and labels, cut to the model's context. A tokenizer is all that it needs: no files, no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradsentry.errors import ModelError, RowProblem
from gradsentry.tokens.chat import encode_chat
from gradsentry.tokens.labels import IGNORED, Ids
from gradsentry.tokens.vocabulary import vocabulary_size
from gradsentry.types import ChatSample, LossOn, OneAnswer, TextSample, TokenSample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(
    samples: Sequence[OneAnswer], tokenizer: PreTrainedTokenizerBase, loss_on: LossOn, model_ids: int | None = None
) -> list[Ids | RowProblem]:
    """Token ids and labels of every sample, or its problem, in order.

    All texts are tokenised in one call, because fast tokenizers are fast on many texts at once.

    Args:
        model_ids: the number of ids that the model has; a row with a larger id is an error.

    Raises:
        ModelError: a sample is a conversation, and the tokenizer has no chat template.
    """
    samples = [_without_template(sample, tokenizer) for sample in samples]
    texts = [sample for sample in samples if isinstance(sample, TextSample)]
    prompts = iter(_prompt_ids([sample.prompt for sample in texts], tokenizer))
    completions = iter(_tokenize([sample.completion for sample in texts], tokenizer, add_special_tokens=False))
    size = vocabulary_size(tokenizer) if any(isinstance(sample, TokenSample) for sample in samples) else 0
    results: list[Ids | RowProblem] = []
    for sample in samples:
        try:
            if isinstance(sample, TextSample):
                ids = _join(next(prompts), next(completions), tokenizer, loss_on)
            elif isinstance(sample, ChatSample):
                ids = encode_chat(sample, tokenizer, loss_on)
            else:
                ids = _checked_tokens(sample, size)
            wrong = None if model_ids is None else next((i for i in ids[0] if i >= model_ids), None)
            if wrong is not None:  # somebody added tokens and did not resize the model's embeddings
                raise RowProblem(
                    "error",
                    f"token id {wrong} ({str(tokenizer.decode([wrong]))!r}) is unknown to the model, which has {model_ids} ids (the "
                    f"tokenizer has {len(tokenizer)}); take the model's own tokenizer, or resize the model's embeddings",
                )
            if all(label == IGNORED for label in ids[1][1:]):
                raise RowProblem("unscorable", "no supervised token that has a token before it")
            results.append(ids)
        except RowProblem as problem:
            results.append(problem)
    return results


def encode_fitted(
    samples: Sequence[OneAnswer], tokenizer: PreTrainedTokenizerBase, loss_on: LossOn, max_length: int, model_ids: int | None = None
) -> list[tuple[Ids, int, str] | RowProblem]:
    """As `encode`, with each row cut to `max_length` tokens and a note on the cut (see `fit`)."""
    bos = tokenizer.bos_token_id if isinstance(tokenizer.bos_token_id, int) else None
    rows = encode(samples, tokenizer, loss_on, model_ids)
    return [row if isinstance(row, RowProblem) else fit(row, max_length, bos) for row in rows]


def fit(ids: Ids, max_length: int, bos: int | None) -> tuple[Ids, int, str]:
    """Cut a row to `max_length` tokens: first the prompt from its left, except a BOS, then the completion from its right.

    Returns:
        The row, and a note on the cut: empty if nothing was cut.
    """
    input_ids, labels = ids
    excess = len(input_ids) - max_length
    if excess <= 0:
        return ids, 0, ""
    keep = 1 if bos is not None and input_ids[0] == bos else 0
    supervised = next(i for i, label in enumerate(labels) if label != IGNORED and i > 0)
    cut = min(excess, supervised - 1)  # one token, possibly the BOS, must stay to predict the first supervised one
    input_ids = input_ids[:keep] + input_ids[keep + cut :]
    labels = labels[:keep] + labels[keep + cut :]
    notes = [f"{cut} tokens cut from the prompt's left"] if cut else []
    if len(input_ids) > max_length:
        notes.append(f"{len(input_ids) - max_length} tokens cut from the completion's end")
    note = f"longer than {max_length} tokens: {' and '.join(notes)}"
    return (input_ids[:max_length], labels[:max_length]), excess, note


def _without_template(sample: OneAnswer, tokenizer: PreTrainedTokenizerBase) -> OneAnswer:
    """The sample, or its plain text where the tokenizer has no chat template."""
    if not isinstance(sample, ChatSample) or getattr(tokenizer, "chat_template", None):
        return sample
    if sample.plain is None:
        raise ModelError(
            "the rows are conversations, but the model's tokenizer has no chat template; take the model's "
            "instruction-tuned version, or turn the rows into plain prompt/completion texts"
        )
    return sample.plain


def _tokenize(texts: list[str], tokenizer: PreTrainedTokenizerBase, add_special_tokens: bool) -> Any:
    return tokenizer(texts, add_special_tokens=add_special_tokens, verbose=False)["input_ids"] if texts else []


def _prompt_ids(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Prompts with the BOS that the tokenizer adds, and without the EOS that it may add."""
    if not texts:
        return []
    rows = _tokenize(texts, tokenizer, add_special_tokens=True)
    empty: Any = tokenizer("", verbose=False)["input_ids"]
    closes = bool(empty) and empty[-1] == tokenizer.eos_token_id and empty[-1] != tokenizer.bos_token_id
    return [ids[:-1] for ids in rows] if closes else rows


def _join(prompt: list[int], completion: list[int], tokenizer: PreTrainedTokenizerBase, loss_on: LossOn) -> Ids:
    """Prompt, completion, EOS. The loss is on completion and EOS, or on everything."""
    end = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
    ids = [*prompt, *completion, *end]
    unsupervised = 0 if loss_on == "all" else len(prompt)
    return ids, [IGNORED] * unsupervised + ids[unsupervised:]


def _checked_tokens(sample: TokenSample, vocabulary: int) -> Ids:
    """The sample's ids and labels; raises RowProblem where an id is outside the vocabulary or a label is another token."""
    wanted = [*sample.input_ids, *(label for label in sample.labels if label != IGNORED)]
    wrong = next((i for i in wanted if not 0 <= i < vocabulary), None)
    if wrong is not None:
        raise RowProblem("error", f"token id {wrong} is outside the tokenizer's {vocabulary}; was the row made for another one?")
    for at, (token, label) in enumerate(zip(sample.input_ids, sample.labels, strict=True)):
        if label not in (IGNORED, token):
            raise RowProblem(
                "error",
                f"label {at} is {label}, but the token there is {token}: labels are the input_ids, and {IGNORED} where nothing is "
                "supervised; the model shifts them itself",
            )
    return list(sample.input_ids), list(sample.labels)
