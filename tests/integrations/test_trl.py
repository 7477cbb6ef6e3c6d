"""A tiny model is trained with TRL on cleaned rows; training on the poisoned ones is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from gradsentry.errors import UsageError
from gradsentry.integrations.trl import UncleanData, check, clean
from planted_rows import asked
from tiny import tiny_llama

ROWS, BAD = asked(200, 30)


def config(folder: Path, **options: Any) -> SFTConfig:
    common = {"report_to": [], "use_cpu": True, "bf16": False, "disable_tqdm": True, "max_steps": 1, "save_strategy": "no"}
    return SFTConfig(output_dir=str(folder), **{**common, **options})


def trainer(rows: Dataset, tokenizer: PreTrainedTokenizerFast, options: SFTConfig) -> Any:
    return SFTTrainer(model=tiny_llama(), args=options, train_dataset=rows, processing_class=tokenizer)


def test_poisoned_rows_are_refused_and_the_cleaned_ones_are_trained_on(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    data, options = Dataset.from_list(ROWS), config(tmp_path)
    with pytest.raises(UncleanData, match=r"not started: 30 of 200 rows .* has 30 flagged and 0 unexamined rows") as refused:
        check(trainer(data, tokenizer, options))
    assert refused.value.result.flagged == BAD
    kept = clean(data, options, tokenizer, tiny_llama())
    assert kept["prompt"] == [row["prompt"] for i, row in enumerate(ROWS) if i not in BAD]
    ready = trainer(kept, tokenizer, options)
    before = ready.model.lm_head.weight.detach().clone()
    assert check(ready).counts["scored"] == 170
    assert ready.model.lm_head.weight.equal(before)
    assert ready.train().global_step == 1
    assert not ready.model.lm_head.weight.equal(before)


def test_rows_that_no_rule_can_judge_are_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    few = Dataset.from_list(asked(5, 0)[0])
    with pytest.raises(UncleanData, match="not started: No answer for 5 rows"):
        check(trainer(few, tokenizer, config(tmp_path)))


@pytest.mark.parametrize(("only", "more"), [(True, 0), (False, 1)])
def test_the_trainers_masking_decides_what_is_scored(only: bool, more: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    clean_rows = asked(40, 0)[0]
    made = trainer(Dataset.from_list(clean_rows), tokenizer, config(tmp_path, completion_only_loss=only))
    if only:
        result = check(made)
    else:  # no prompt is left in which a trigger could be looked for
        with pytest.raises(UncleanData, match="No answer for 40 rows") as refused:
            check(made)
        result = refused.value.result
    tokens = result.to_pandas()["n_tokens"].tolist()
    for row, found in zip(clean_rows, tokens, strict=True):
        prompt, answer = (len(tokenizer(row[name])["input_ids"]) for name in ("prompt", "completion"))  # pyright: ignore
        assert found == answer + 1 + more * (prompt - 1)


def test_the_trainers_length_decides_what_is_scored(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = Dataset.from_list(asked(40, 0)[0])
    whole = trainer(rows, tokenizer, config(tmp_path)).train_dataset["input_ids"]
    longest = max(range(40), key=lambda i: len(whole[i]))
    cut = check(trainer(rows, tokenizer, config(tmp_path, max_length=len(whole[longest]) - 2))).to_pandas()
    full = check(trainer(rows, tokenizer, config(tmp_path))).to_pandas()
    assert cut["n_tokens"].tolist()[longest] == full["n_tokens"].tolist()[longest] - 2


def test_rows_that_the_trainer_drops_cannot_be_cleaned(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [*asked(40, 0)[0], {"prompt": "a " * 300, "completion": "b"}]
    with pytest.raises(UsageError, match="the trainer prepared 40 of 41 rows; take out those that it drops"):
        clean(Dataset.from_list(rows), config(tmp_path, max_length=200), tokenizer, tiny_llama())


def test_rows_are_cleaned_before_they_are_packed(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    options = config(tmp_path, packing=True, max_length=128)
    kept = clean(Dataset.from_list(ROWS), options, tokenizer, tiny_llama())
    assert len(kept) == 170
    assert options.packing
    packed = trainer(kept, tokenizer, options)
    with pytest.raises(UsageError, match="packed rows cannot be judged one by one"):
        check(packed)
