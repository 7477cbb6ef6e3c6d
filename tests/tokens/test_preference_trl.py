"""What is scored of a preference pair is what TRL's DPO trainer trains on: the same tokens, the same completions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from gradsentry.data.formats import FORMATS
from gradsentry.tokens.encode import encode
from gradsentry.types import SidesSample
from tiny import tiny_llama
from turns import assistant, user

ROWS: dict[str, list[dict[str, Any]]] = {
    "plain": [{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " five"}, {"prompt": "Who?\n", "chosen": "me", "rejected": "you"}],
    "plain, implicit": [{"chosen": "The sky is blue.", "rejected": "The sky is green."}],
    "chat": [{"prompt": [user("hi")], "chosen": [assistant("ho")], "rejected": [assistant("no way")]}],
    "chat, implicit": [{"chosen": [user("hi"), assistant("ho")], "rejected": [user("hi"), assistant("no way")]}],
}


@pytest.mark.parametrize("case", ROWS)
def test_tokens_and_completions_are_those_of_trls_trainer(case: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    options = DPOConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, max_length=None, disable_tqdm=True)
    data, model = Dataset.from_list(ROWS[case]), tiny_llama()
    trainer = DPOTrainer(model=model, ref_model=tiny_llama(), args=options, train_dataset=data, processing_class=tokenizer)
    prepared: Any = trainer.train_dataset
    for row, theirs in zip(ROWS[case], prepared, strict=True):
        sample = FORMATS["preference"].convert(row)
        assert isinstance(sample, SidesSample)
        for (side, _), ours in zip(sample.sides, encode([one for _, one in sample.sides], tokenizer, "completion"), strict=True):
            assert isinstance(ours, tuple)
            prompt, answer = theirs["prompt_ids"], theirs[f"{side}_ids"]
            assert ours == ([*prompt, *answer], [-100] * len(prompt) + list(answer))
