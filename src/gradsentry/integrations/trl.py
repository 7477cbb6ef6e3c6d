"""TRL: rows are scored as an `SFTTrainer` trains on them, with its own masking and lengths. Needs `trl`."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Unpack

from gradsentry.api import scan
from gradsentry.config import ScanOptions
from gradsentry.errors import GradsentryError, UsageError
from gradsentry.report.sentences import verdict_line
from gradsentry.result import ScanResult
from gradsentry.types import FailOn

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer


class UncleanData(GradsentryError):
    """A trainer's data has flagged or unexamined rows, or rows that no rule can judge. `result` has them."""

    exit_code = 1

    def __init__(self, message: str, result: ScanResult) -> None:
        super().__init__(message)
        self.result = result


def clean(
    dataset: datasets.Dataset,
    config: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    **options: Unpack[ScanOptions],
) -> datasets.Dataset:
    """The rows of `dataset` to train on, scored as an `SFTTrainer` with this `config` prepares them, before packing.

    Args:
        config: decides what is supervised (`completion_only_loss`, `assistant_only_loss`) and `max_length`.
        model: the base model, as it is before training. It is not changed.
        options: of `gradsentry.scan`.

    Raises:
        UsageError: the trainer drops rows, so that verdicts cannot be matched to rows. Else as `gradsentry.scan`.
    """
    from trl.trainer.sft_trainer import SFTTrainer

    unpacked = copy(config)
    unpacked.packing = False
    trainer = SFTTrainer(model=model, args=unpacked, train_dataset=dataset, processing_class=tokenizer)
    rows = _rows(trainer)
    if len(rows) != len(dataset):
        raise UsageError(f"the trainer prepared {len(rows):,} of {len(dataset):,} rows; take out those that it drops, then clean the rest")
    return dataset.select(_scanned(rows, trainer, options).kept)


def check(trainer: SFTTrainer, **options: Unpack[ScanOptions]) -> ScanResult:
    """Scan what a trainer is about to train on. Call it before ``trainer.train()``.

    Args:
        options: of `gradsentry.scan`.

    Raises:
        UncleanData: rows are flagged, were not examined, or no rule can judge them. UsageError: the rows are packed. Else as
            `gradsentry.scan`.
    """
    args: Any = trainer.args
    if args.packing:
        raise UsageError(
            "packed rows cannot be judged one by one; use clean(dataset, config, tokenizer, model) before the trainer packs them"
        )
    result = _scanned(_rows(trainer), trainer, options)
    if result.exit_code_for((FailOn.flagged, FailOn.unexamined)):
        counts = f"{len(result.flagged):,} flagged and {len(result.unexamined):,} unexamined rows"
        found = f"{verdict_line(result.document)} The data has {counts}; read them in the error's result, then clean the data"
        raise UncleanData(f"training was not started: {found}", result)
    return result


def _rows(trainer: Any) -> list[dict[str, Any]]:
    """Token ids and labels of each row, as the trainer's collator makes them."""
    rows = []
    for row in trainer.train_dataset or ():
        batch = trainer.data_collator([row])
        rows.append({name: batch[name][0].tolist() for name in ("input_ids", "labels")})
    return rows


def _scanned(rows: list[dict[str, Any]], trainer: Any, options: ScanOptions) -> ScanResult:
    given: Any = {"format": "tokens", **options}
    return scan(rows, trainer.model, tokenizer=trainer.processing_class, **given)
