"""The model that the bench scores with, and its fine-tuning: LoRA or all parameters, on rows encoded as a scan encodes them."""

from __future__ import annotations

import inspect
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from gradsentry.bench import needs_bench
from gradsentry.data.formats import FORMATS
from gradsentry.errors import DataError, ModelError, RowProblem, UsageError
from gradsentry.model.forward import known_ids
from gradsentry.model.load import LoadedModel, load_model, pick_dtype
from gradsentry.model.memory import out_of_memory
from gradsentry.scorer import Scorer
from gradsentry.tokens import encode
from gradsentry.types import Encoded

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """How a model is fine-tuned; the defaults are the published set-up (GradSentry, arXiv 2605.26574, section 5.1)."""

    method: Literal["lora", "full"] = "lora"
    """LoRA, or all parameters."""
    rate: float = 2e-5
    """Initial learning rate; it falls linearly to 0 (the default of transformers' Trainer; the paper names no schedule)."""
    epochs: int = 3
    """Passes over the rows."""
    batch: int = 4
    """Rows a step."""
    rank: int = 4
    """LoRA's r; unused with all parameters."""
    alpha: float = 8
    """LoRA's scale: a weight's update is alpha / r times B A."""
    seed: int = 0
    """Of the row order and LoRA's initial weights."""

    def check(self) -> Training:
        """This training.

        Raises:
            UsageError: an unknown method, or a number that is not above 0.
        """
        if self.method not in ("lora", "full"):
            raise UsageError(f"training method {self.method!r} is unknown; there are lora, full")
        for name in ("rate", "epochs", "batch", "rank", "alpha"):
            if not getattr(self, name) > 0:
                raise UsageError(f"training: {name} is {getattr(self, name)}; it must be above 0")
        return self


@dataclass(frozen=True)
class TargetModel:
    """The base model that will be fine-tuned on the rows, and how it will be fine-tuned."""

    model: str | None = None
    """A directory or Hub id; None: the embedded model."""
    device: str = "auto"
    dtype: str = "auto"
    training: Training = field(default_factory=Training)
    """Also used by filters that fine-tune on the suspicious rows themselves."""

    @cached_property
    def scorer(self) -> Scorer:
        """Loaded at first use and shared by all filters."""
        return Scorer(self.model, device=self.device, dtype=self.dtype, format="prompt-completion")  # pyright: ignore[reportArgumentType]

    def release(self) -> None:
        """Free the scorer, so that fine-tuning has its memory; the next use loads it again."""
        self.__dict__.pop("scorer", None)


def train(model: str | None, rows: Sequence[Mapping[str, Any]], training: Training, device: str = "auto") -> LoadedModel:
    """A model fine-tuned on plain ``{"prompt", "completion"}`` rows; only the completion and its EOS have a loss.

    Weights are float32, because most updates of a bfloat16 weight are too small to change it. A device that is fast at bfloat16 computes
    the products in it (autocast). On a CPU the same rows, training and machine give the same weights. LoRA takes 4 bytes a parameter,
    training all parameters 16 (weight, gradient, AdamW's two moments), plus the states of a batch; a GPU keeps only the states between
    layers and recomputes the others.

    Args:
        model: a directory or Hub id; None: the embedded model. Its files are left as they are.
        rows: encoded and cut to the model's context as in a scan; rows that a scan cannot score are left out.

    Returns:
        The model in eval mode, frozen, with LoRA's update merged into its weights.

    Raises:
        UsageError: an invalid training or device, LoRA without attention layers, the extra is missing. DataError: no row to train on.
        ModelError: the model cannot be loaded, does not fit into memory, or has weights that are not finite after the training.
    """
    training.check()
    check_device(device)
    needs_bench("fine-tuning", "accelerate", *(["peft"] if training.method == "lora" else []))
    loaded = load_model(model, dtype="float32", device=device)
    samples = encoded(rows, loaded)
    if not samples:
        raise DataError(f"none of the {len(rows)} rows can be trained on; each needs a prompt and a non-empty completion")
    where = loaded.model.device
    fewer = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters
    network: Any = _with_lora(loaded.model, training) if training.method == "lora" else loaded.model.requires_grad_(True)
    try:
        with _frugally(loaded.model, where):
            _fit(network, samples, training, fewer)
    except (MemoryError, RuntimeError) as error:  # torch raises a RuntimeError for this, and for most other errors
        if not out_of_memory(error):
            raise
        raise ModelError(_too_large(loaded, training)) from error
    if training.method == "lora":
        network = network.merge_and_unload()
    network = network.to(where).eval().requires_grad_(False)
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise ModelError(f"after {training.epochs} epochs at a rate of {training.rate} the weights are not finite; use a lower rate")
    return replace(loaded, model=network)


def check_device(device: str) -> None:
    """Refuse a GPU other than the first visible one, the only one that transformers' Trainer can be made to use.

    Raises:
        UsageError: another GPU.
    """
    kind, _, number = device.partition(":")
    if kind == "cuda" and number not in ("", "0"):
        raise UsageError(f"--device {device}: fine-tuning uses the first GPU; set CUDA_VISIBLE_DEVICES={number} and give --device cuda")


def _too_large(loaded: LoadedModel, training: Training) -> str:
    count = sum(parameter.numel() for parameter in loaded.model.parameters())
    whole = 4 if training.method == "lora" else 16
    return (
        f"out of memory while fine-tuning {loaded.name} ({training.method}): its {count / 1e9:.2f} billion parameters take "
        f"{count * whole / 2**30:.1f} GiB, plus the states of {training.batch} rows; use a larger GPU, a smaller model"
        + ("" if training.method == "lora" else " or the method lora")
    )


def encoded(rows: Sequence[Mapping[str, Any]], loaded: LoadedModel) -> list[Encoded]:
    """Token ids and labels as in a scan, in order; `Encoded.row` is the row's position; rows that cannot be encoded are missing."""
    samples = []
    for place, row in enumerate(rows):
        try:
            samples.append((place, FORMATS["prompt-completion"].convert(row)))
        except RowProblem as problem:
            log.warning("row %d is left out: %s", place, problem.reason)
    found = []
    model_ids = known_ids(loaded.model)
    results = encode.encode_fitted([sample for _, sample in samples], loaded.tokenizer, "completion", loaded.max_length, model_ids)
    for (place, _), result in zip(samples, results, strict=True):
        if isinstance(result, RowProblem):
            log.warning("row %d is left out: %s", place, result.reason)
        else:
            (input_ids, labels), n_cut, note = result
            found.append(Encoded(place, input_ids, labels, n_cut, note))
    return found


def _with_lora(model: Any, training: Training) -> Any:
    """The model with a LoRA adapter, without dropout, on every linear layer of its attention.

    The GradSentry paper gives r and alpha and no modules; LoRA's own paper (Hu et al. 2021, arXiv 2106.09685, section 4.2)
    adapts the attention weights alone.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    layers = _attention_layers(model)
    if not layers:
        raise UsageError(f"{type(model).__name__} has no linear layer in an attention module for LoRA; take the method full")
    config = LoraConfig(r=training.rank, lora_alpha=training.alpha, lora_dropout=0.0, target_modules=layers, task_type="CAUSAL_LM")  # pyright: ignore[reportArgumentType]
    torch.manual_seed(training.seed)
    with warnings.catch_warnings():  # peft warns about transformers' names, and about Conv1D, which it handles
        warnings.simplefilter("ignore")
        return get_peft_model(model, config)


def _attention_layers(model: Any) -> list[str]:
    """Names of the linear layers in modules whose class name has "Attention": q, k, v and o, or the architecture's equivalents."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    inside = [name for name, module in model.named_modules() if "Attention" in type(module).__name__]
    linear = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    return [name for name in linear if any(name.startswith(f"{attention}.") for attention in inside)]


def _fit(network: Any, samples: Sequence[Encoded], training: Training, fewer: bool) -> None:
    """Train in place with transformers' Trainer, which here writes, prints and reports nothing; `fewer` as of `_collate`."""
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    where = next(network.parameters()).device
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            learning_rate=training.rate,
            num_train_epochs=training.epochs,
            per_device_train_batch_size=training.batch,
            seed=training.seed,
            data_seed=training.seed,
            bf16=pick_dtype("auto", where) is torch.bfloat16,
            use_cpu=where.type == "cpu",
            dataloader_pin_memory=where.type == "cuda",
            remove_unused_columns=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs would enlarge the batch
        trainer = Trainer(network, arguments, data_collator=partial(_collate, fewer=fewer), train_dataset=list(samples))  # pyright: ignore[reportArgumentType]
        trainer.remove_callback(PrinterCallback)  # it prints to stdout
        trainer.train()


@contextmanager
def _frugally(model: Any, where: torch.device) -> Iterator[None]:
    """On a GPU, keep only the states between layers and compute the others twice: memory is scarcer than time there."""
    if not (_lacks_memory(where) and model.supports_gradient_checkpointing):
        yield
        return
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # the newer name, else the older one
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{name}_checkpointing_disable")()


def _lacks_memory(where: torch.device) -> bool:
    return where.type == "cuda"


def _collate(samples: Sequence[Encoded], fewer: bool) -> dict[str, Any]:
    """B rows as [B, S] tensors, padded on the right, where no token of a causal model attends.

    Args:
        fewer: the model has `logits_to_keep`: it computes logits only from the first token that predicts a supervised one. A prompt is
            most of a row, and the logits of a token are V numbers.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)

    ids, labels = [sample.input_ids for sample in samples], padded([sample.labels for sample in samples], encode.IGNORED)
    tokens = padded(ids, 0)
    # No token attends to the padding after it. Masking the padding would leave tokens beyond a sliding window with nothing to attend to,
    # and their gradients would turn all gradients into NaN.
    found = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
    if not fewer:
        return found
    first = int((labels != encode.IGNORED).any(0).int().argmax())
    last = labels.shape[1] - max(first - 1, 0)
    return found | {"labels": labels[:, -last:], "logits_to_keep": last}
