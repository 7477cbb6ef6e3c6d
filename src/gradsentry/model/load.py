"""Loading a model: a local directory, a GGUF file, a Hub id or the embedded model. The files are not trusted.

Remote code and pickled weights load only if the user allows them.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gradsentry.errors import ModelError
from gradsentry.model import embedded
from gradsentry.model.checks import check_causal, check_complete, check_placed
from gradsentry.model.forward import head_width, output_projection
from gradsentry.model.memory import out_of_memory

DTYPES = ("float32", "bfloat16", "float16")

KERNEL_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""Environment variables with the number of compiled CPU kernels that torch keeps, one per shape. Its default of 1024 lets a long
scan, whose batches differ in shape, grow by hundreds of MiB for kernels that it rarely uses again."""


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model ready to score."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    """The name that the user gave, or the embedded model's."""
    revision: str
    """Commit of a Hub model; empty for local ones."""

    @property
    def max_length(self) -> int:
        """Longest row in tokens that the model has positions for."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 1 << 20)

    @property
    def stamp(self) -> str:
        """Hash of weights and tokenizer: scores of two models with the same stamp may be mixed in a run."""
        return f"{weights_stamp(self.model)}-{tokenizer_stamp(self.tokenizer)}"

    @property
    def dtype(self) -> str:
        """The parameters' dtype, by name."""
        return str(self.model.dtype).removeprefix("torch.")


def pick_device(device: str) -> torch.device:
    """The torch device of a name; ``auto`` is CUDA, else MPS, else the CPU.

    Raises:
        ModelError: torch does not know the device, or the machine does not have it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"--device {device}: {str(error).splitlines()[0]}") from None


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype of a name; ``auto`` is bfloat16 if the device computes in it, else float32.

    Raises:
        ModelError: not one of auto, float32, bfloat16, float16.
    """
    if dtype == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
            fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
        return torch.bfloat16 if fast else torch.float32
    if dtype not in DTYPES:
        raise ModelError(f"--dtype {dtype}: it can be auto, {', '.join(DTYPES)}")
    return getattr(torch, dtype)


def load_model(
    name: str | os.PathLike[str] | None = None,
    *,
    dtype: str = "auto",
    device: str = "auto",
    device_map: str | dict[str, Any] | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> LoadedModel:
    """Load a causal language model and its tokenizer, frozen and in eval mode.

    Sets the environment variables `KERNEL_CACHES` unless they are set: torch reads them when it first computes on a CPU.

    Args:
        name: a directory, a ``.gguf`` file or a Hub id; None is the embedded SmolLM2-135M-Instruct.
        dtype: auto, float32, bfloat16 or float16. device: auto or a torch device.
        device_map: spread the model over several devices (``auto``, or module name -> device); needs accelerate.
        trust_remote_code: run Python code that the model brings. allow_pickle: load ``.bin`` weights, which can run code.

    Raises:
        ModelError: the model is not found, not readable, not causal or too large for the memory, has no output projection or
            only pickled weights; the message says what to do.
    """
    for variable, capacity in KERNEL_CACHES.items():
        os.environ.setdefault(variable, capacity)
    torch_device = pick_device(device)
    torch_dtype = pick_dtype(dtype, torch_device)
    label = embedded.NAME if name is None else os.fspath(name)
    source = embedded.locate() if name is None else os.fspath(name)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if device_map is not None and find_spec("accelerate") is None:
        raise ModelError("a model over several devices needs accelerate: pip install accelerate")
    path = Path(source)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"no such model: {source}")
        source, options["gguf_file"] = str(path.parent), path.name
    elif path.is_absolute() or source.startswith((".", "~")) or path.exists():
        _check_directory(path, allow_pickle)
    try:
        model, tokenizer, missing = _from_pretrained(label, source, torch_dtype, options, allow_pickle, device_map)
        check_complete(label, model, missing)
        head_width(output_projection(model))
        if device_map is None:
            model = model.to(torch_device)
        model = model.eval().requires_grad_(False)
        check_placed(label, model)
        check_causal(label, model)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            f"{label} does not fit into the memory of {torch_device} in {str(torch_dtype).removeprefix('torch.')}: "
            f"{str(error).partition(chr(10))[0]}; use --dtype bfloat16 (half of float32), another --device, more --gpus-per-worker or a "
            "smaller model"
        ) from error
    return LoadedModel(model, tokenizer, label, str(getattr(model.config, "_commit_hash", None) or ""))


def weights_stamp(model: PreTrainedModel) -> str:
    """Hash of the names, shapes and first 64 values of all parameters: cheap, and training changes it."""
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        head = value.detach().flatten()[:64].cpu().double()  # Apple GPUs have no float64
        digest.update(f"{name}{list(value.shape)}".encode() + head.numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_stamp(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of what turns a row into tokens: vocabulary, chat template, BOS and EOS ids, and the tokens of a sample text."""
    parts = [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template, tokenizer.bos_token_id, tokenizer.eos_token_id]
    parts.append(tokenizer("A text, 1 + 2;\nanother one.", verbose=False)["input_ids"])
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()[:16]


def _check_directory(path: Path, allow_pickle: bool) -> None:
    if not path.exists():
        raise ModelError(f"no such model directory: {path}; give a directory, a .gguf file or a Hub id")
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} is not a model directory: it has no config.json")
    if not any(path.glob("*.safetensors")):
        if not any(path.glob("*.bin")):
            raise ModelError(f"{path} has no weights: no .safetensors file")
        if not allow_pickle:
            raise ModelError(
                f"{path} has its weights only as .bin files, which are pickles and can run code when loaded; convert them "
                "to safetensors, or give --allow-pickle if you trust who made them"
            )


def _from_pretrained(label: str, source: str, dtype: torch.dtype, options: dict[str, Any], allow_pickle: bool, device_map: Any) -> Any:
    """(model, tokenizer, names of parameters without weights) from transformers.

    Raises:
        ModelError: one message with the first line of the cause, whatever transformers raised. Errors of memory pass through.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with embedded.no_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            model, loading = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
                source,
                dtype=dtype,
                use_safetensors=None if allow_pickle or "gguf_file" in options else True,
                output_loading_info=True,
                device_map=device_map,
                **options,
            )
    except Exception as error:  # safetensors, tokenizers and config checks raise errors without a common base
        if isinstance(error, (MemoryError, RuntimeError)) and out_of_memory(error):
            raise
        raise ModelError(_load_failure(label, error)) from error
    return model, tokenizer, loading["missing_keys"]


def _load_failure(label: str, error: Exception) -> str:
    """The message for an error that transformers raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = lines[0] if lines else type(error).__name__
    if "trust_remote_code" in str(error):
        return f"{label} contains Python code: read it, then give --trust-remote-code if you trust it"
    if "Unrecognized configuration class" in str(error) or "AutoModelForCausalLM" in cause:
        return f"{label} is not a causal language model (it has no output projection to take a gradient of): {cause}"
    if isinstance(error, OSError) and not Path(label).exists():
        return (
            f"cannot load the model {label!r}: {cause} -- it is neither a local directory nor a Hub id that can be reached; "
            "give the directory that holds config.json, or check the id and the network"
        )
    kind = "" if isinstance(error, ValueError) or not lines else f"{type(error).__name__}: "  # the text of a KeyError is only the key
    return f"cannot load the model {label!r}: {kind}{cause}"
