"""What a scorer does about limits of its model and of the device."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import BertConfig, BertLMHeadModel, PreTrainedTokenizerFast

from gradsentry import Scorer
from gradsentry.errors import ModelError
from rendered import variant
from tiny import tiny_llama


def turns(answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Say"}, {"role": "assistant", "content": answer}]}


@pytest.mark.parametrize(
    ("row", "whole"),
    [
        ({"prompt": "Say [PAD] now", "completion": " ok"}, {"prompt": "Say it", "completion": " ok"}),
        (turns("[PAD]"), turns("it")),
        ({"input_ids": [5, 326, 7], "labels": [-100, -100, 7]}, {"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}),
    ],
    ids=["text", "chat", "tokens"],
)
def test_a_row_with_a_token_that_the_model_lacks_is_an_error_and_no_other_is(
    tokenizer: PreTrainedTokenizerFast, row: dict[str, Any], whole: dict[str, Any]
) -> None:
    more = variant(tokenizer, pad_token="[PAD]")
    assert more.convert_tokens_to_ids("[PAD]") == 326
    bad, good = Scorer(tiny_llama(326), more).score([row, whole])
    assert (bad.status, good.status) == ("error", "scored")
    assert bad.reason == (
        "row 0: token id 326 ('[PAD]') is unknown to the model, which has 326 ids (the tokenizer has 327); "
        "take the model's own tokenizer, or resize the model's embeddings"
    )


def test_a_loaded_model_that_sees_later_tokens_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    config = BertConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    with pytest.raises(ModelError, match="BertLMHeadModel sees the tokens that it should predict"):
        Scorer(BertLMHeadModel(config).eval(), tokenizer)
