"""What is scored is what TRL's trainer trains on: the same tokens, the same labels, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from gradsentry.data.formats.detect import detect
from gradsentry.tokens.encode import encode
from gradsentry.types import LossOn
from tiny import tiny_llama


def turns(*texts: str, system: str = "") -> list[dict[str, str]]:
    before = [{"role": "system", "content": system}] if system else []
    return [*before, *({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts))]


PLAIN = [{"prompt": "2 + 2 =", "completion": " 4"}, {"prompt": "Who?\n", "completion": "me"}, {"prompt": "a <|end|> b ", "completion": "c"}]
CHAT = [
    {"prompt": turns("hi"), "completion": turns("hi", "ho")[1:]},
    {"prompt": turns("hi", "x", "y", system="be brief"), "completion": turns("", "ho ho")[1:]},
]
MESSAGES = [{"messages": turns("hi", "ho", "more", "done")}, {"messages": turns("hi", "ho\n", system="be brief")}]
TEXT = [{"text": "hello world"}, {"text": "What is the capital of France? Paris."}]


@pytest.mark.parametrize(
    ("rows", "loss_on"),
    [(PLAIN, "completion"), (CHAT, "completion"), (MESSAGES, "all"), (TEXT, "all")],
    ids=["plain", "chat", "messages", "text"],
)
def test_tokens_and_labels_are_those_of_trls_trainer(
    rows: list[dict[str, Any]], loss_on: LossOn, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    options = SFTConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, max_length=None, disable_tqdm=True)
    trainer = SFTTrainer(model=tiny_llama(), args=options, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    prepared: Any = trainer.train_dataset
    format = detect(rows)
    for row, ours in zip(prepared, encode([format.convert(row) for row in rows], tokenizer, loss_on), strict=True):
        batch = trainer.data_collator([row])
        assert isinstance(ours, tuple)
        assert (batch["input_ids"][0].tolist(), batch["labels"][0].tolist()) == ours
