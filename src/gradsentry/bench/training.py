"""Fine-tuning as the bench's filters and evaluation need it: LoRA or all parameters, on rows encoded as the scan encodes them."""

from __future__ import annotations

import inspect
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from gradsentry.bench import needs_bench
from gradsentry.data.formats import FORMATS
from gradsentry.errors import DataError, ModelError, RowProblem, UsageError
from gradsentry.model.forward import known_ids
from gradsentry.model.load import LoadedModel, load_model, pick_dtype
from gradsentry.model.memory import out_of_memory
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
    """Learning rate at the start; it falls linearly to 0 (the paper names no schedule: this is the Trainer's own)."""
    epochs: int = 3
    """Passes over the rows."""
    batch: int = 4
    """Rows a step."""
    rank: int = 4
    """LoRA's r; without meaning for all parameters."""
    alpha: float = 8
    """LoRA's scale: the update of a weight is alpha / r times B A."""
    seed: int = 0
    """Of the order of the rows and of LoRA's start."""

    def check(self) -> Training:
        """Itself.

        Raises:
            UsageError: a training that cannot be.
        """
        if self.method not in ("lora", "full"):
            raise UsageError(f"training method {self.method!r} is unknown; there are lora, full")
        for name in ("rate", "epochs", "batch", "rank", "alpha"):
            if not getattr(self, name) > 0:
                raise UsageError(f"training: {name} is {getattr(self, name)}; it must be above 0")
        return self


def train(model: str | None, rows: Sequence[Mapping[str, Any]], training: Training, device: str = "auto") -> LoadedModel:
    """A model fine-tuned on plain ``{"prompt", "completion"}`` rows; the loss is on the completion and its EOS alone.

    Weights are float32 throughout: most updates of a bfloat16 weight are too small to change it. Where the device is fast
    at bfloat16 the products are computed in it (autocast). On a CPU the same rows, training and machine give the same weights.
    For each parameter LoRA takes 4 bytes, and training them all 16 (weight, gradient, AdamW's two moments), beside the states of
    a batch, of which a GPU keeps those between layers alone and computes the others again.

    Args:
        model: a directory or Hub id; None: the embedded model. Its files are left as they are.
        rows: encoded and cut to the model's context as the scan does; one that the scan cannot score is left out.

    Returns:
        The model in eval mode and frozen, LoRA's update merged into its weights.

    Raises:
        UsageError: a training or device that cannot be, LoRA without attention, the extra is missing. DataError: no row to train on.
        ModelError: the model cannot be loaded, it does not fit into memory, or its weights are no numbers after the training.
    """
    training.check()
    check_device(device)
    needs_bench("fine-tuning", "accelerate", *(["peft"] if training.method == "lora" else []))
    loaded = load_model(model, dtype="float32", device=device)
    samples = encoded(rows, loaded)
    if not samples:
        raise DataError(f"none of the {len(rows)} rows can be trained on; each needs a prompt and a completion that is not empty")
    where = loaded.model.device
    fewer = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters
    network: Any = _with_lora(loaded.model, training) if training.method == "lora" else loaded.model.requires_grad_(True)
    try:
        with _frugally(loaded.model, where):
            _fit(network, samples, training, fewer)
    except (MemoryError, RuntimeError) as error:  # torch's is a RuntimeError, and so are most of its others
        if not out_of_memory(error):
            raise
        raise ModelError(_too_large(loaded, training)) from error
    if training.method == "lora":
        network = network.merge_and_unload()
    network = network.to(where).eval().requires_grad_(False)
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise ModelError(f"after {training.epochs} epochs at a rate of {training.rate} the weights are not finite; take a lower rate")
    return replace(loaded, model=network)


def check_device(device: str) -> None:
    """Nothing, if transformers' Trainer can be made to train there: of the GPUs that it sees it takes the first.

    Raises:
        UsageError: another GPU.
    """
    kind, _, number = device.partition(":")
    if kind == "cuda" and number not in ("", "0"):
        raise UsageError(f"--device {device}: fine-tuning takes the first GPU; set CUDA_VISIBLE_DEVICES={number} and give --device cuda")


def _too_large(loaded: LoadedModel, training: Training) -> str:
    count = sum(parameter.numel() for parameter in loaded.model.parameters())
    whole = 4 if training.method == "lora" else 16
    return (
        f"out of memory while fine-tuning {loaded.name} ({training.method}): its {count / 1e9:.2f} billion parameters take "
        f"{count * whole / 2**30:.1f} GiB, and the states of {training.batch} rows more; take a larger GPU, a smaller model"
        + ("" if training.method == "lora" else " or the method lora")
    )


def encoded(rows: Sequence[Mapping[str, Any]], loaded: LoadedModel) -> list[Encoded]:
    """Token ids and labels as the scan has them, in order; `Encoded.row` is the row's place, rows without a sample are missing."""
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
    with warnings.catch_warnings():  # of peft about transformers' names, and about Conv1D, which it then sees to itself
        warnings.simplefilter("ignore")
        return get_peft_model(model, config)


def _attention_layers(model: Any) -> list[str]:
    """Names of the linear layers inside modules that are called attention: q, k, v and o, or what the architecture has instead."""
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
        arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs would multiply the batch
        trainer = Trainer(network, arguments, data_collator=partial(_collate, fewer=fewer), train_dataset=list(samples))  # pyright: ignore[reportArgumentType]
        trainer.remove_callback(PrinterCallback)  # it prints to stdout
        trainer.train()


@contextmanager
def _frugally(model: Any, where: torch.device) -> Iterator[None]:
    """On a GPU only the states between layers are kept, the others are computed twice: it lacks memory, not time."""
    if not (_lacks_memory(where) and model.supports_gradient_checkpointing):
        yield
        return
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # the newer name, the older one
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{name}_checkpointing_disable")()


def _lacks_memory(where: torch.device) -> bool:
    return where.type == "cuda"


def _collate(samples: Sequence[Encoded], fewer: bool) -> dict[str, Any]:
    """Rows beside each other, [B, S] each, padded on the right where no token of a causal model looks.

    Args:
        fewer: the model can be told that the loss needs the logits of the last tokens alone, from the first that predicts a
            supervised one on: a prompt is most of a row, and the logits of a token are V numbers.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)

    ids, labels = [sample.input_ids for sample in samples], padded([sample.labels for sample in samples], encode.IGNORED)
    tokens = padded(ids, 0)
    # No token of a row sees the padding behind it. To mask that would leave padding that stands further on than a sliding window
    # reaches with nothing to see, which makes its gradients, and with them all, no numbers.
    found = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
    if not fewer:
        return found
    first = int((labels != encode.IGNORED).any(0).int().argmax())
    last = labels.shape[1] - max(first - 1, 0)
    return found | {"labels": labels[:, -last:], "logits_to_keep": last}
