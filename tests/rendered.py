"""Samples through a tokenizer, and back to the texts that are supervised."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from gradsentry.errors import RowProblem
from gradsentry.tokens.encode import encode
from gradsentry.tokens.labels import IGNORED, Ids
from gradsentry.types import LossOn, Sample

BOS = "<|bos|>"
EOS = "<|end|>"


def variant(
    tokenizer: PreTrainedTokenizerFast, single: str | None = None, template: str | None = None, **tokens: Any
) -> PreTrainedTokenizerFast:
    """The tokenizer with another post-processor (``"<|bos|> $A"``), chat template or special tokens."""
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    if single is not None:
        core.post_processor = TemplateProcessing(  # pyright: ignore
            single=single, pair=f"{single} $B:1", special_tokens=[(BOS, core.token_to_id(BOS)), (EOS, core.token_to_id(EOS))]
        )
    made = PreTrainedTokenizerFast(tokenizer_object=core, **({"eos_token": EOS, "bos_token": BOS} | tokens))
    made.chat_template = template or tokenizer.chat_template
    return made


def one(sample: Sample, tokenizer: PreTrainedTokenizerFast, loss_on: LossOn = "completion") -> Ids:
    (result,) = encode([sample], tokenizer, loss_on)
    assert not isinstance(result, RowProblem), result.reason
    return result


def problem(sample: Sample, tokenizer: PreTrainedTokenizerFast, loss_on: LossOn = "completion") -> RowProblem:
    (result,) = encode([sample], tokenizer, loss_on)
    assert isinstance(result, RowProblem)
    return result


def supervised(ids: Ids, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The texts of the runs of supervised tokens."""
    runs: list[list[int]] = []
    for i, (token, label) in enumerate(zip(*ids, strict=True)):
        if label == IGNORED:
            continue
        assert label == token
        if i == 0 or ids[1][i - 1] == IGNORED:
            runs.append([])
        runs[-1].append(token)
    return [str(tokenizer.decode(run)) for run in runs]
