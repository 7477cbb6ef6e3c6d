"""Loading what scores: a local directory, a GGUF file, a Hub id, or the embedded default. Hostile input by default.

No remote code and no pickled weights unless the user asks for them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsentry.errors import ModelError
from gradsentry.model import embedded
from gradsentry.model.forward import head_width, output_projection, sees_ahead
from gradsentry.model.memory import out_of_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model ready to score."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    """What the user asked for, or the embedded model's name."""
    revision: str
    """Commit of a Hub model; empty for local ones."""

    @property
    def max_length(self) -> int:
        """Longest row in tokens that the model has positions for."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 1 << 20)

    @property
    def stamp(self) -> str:
        """Names weights and tokenizer in a run's identity: scores of two models with one stamp may be mixed."""
        return f"{weights_stamp(self.model)}-{tokenizer_stamp(self.tokenizer)}"

    @property
    def dtype(self) -> str:
        """The parameters' dtype, by name."""
        return str(self.model.dtype).removeprefix("torch.")


def pick_device(device: str) -> torch.device:
    """``auto``: CUDA, then MPS, then the CPU; anything else as torch names it.

    Raises:
        ModelError: torch does not know the device or has none such.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"--device {device}: {str(error).splitlines()[0]}") from None


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 where the device computes in it, float32 elsewhere.

    Raises:
        ModelError: not one of auto, float32, bfloat16, float16.
    """
    import torch

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

    Args:
        name: a directory, a ``.gguf`` file or a Hub id; None is the embedded SmolLM2-135M-Instruct.
        dtype: auto, float32, bfloat16 or float16. device: auto or a torch device.
        device_map: spreads the model over several devices instead (``auto``, or module name -> device); needs accelerate.
        trust_remote_code: run Python code that the model brings. allow_pickle: load ``.bin`` weights, which can run code.

    Raises:
        ModelError: not found, unreadable, no output projection, not causal, weights only as a pickle, larger than the memory that
            there is; says what to do.
    """
    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    label = embedded.NAME if name is None else os.fspath(name)
    source = embedded.locate() if name is None else os.fspath(name)
    arguments: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if device_map is not None and find_spec("accelerate") is None:
        raise ModelError("a model over several devices needs accelerate: pip install accelerate")
    path = Path(source)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"no such model: {source}")
        source, arguments["gguf_file"] = str(path.parent), path.name
    elif path.is_absolute() or source.startswith((".", "~")) or path.exists():
        _check_directory(path, allow_pickle)
    try:
        model, tokenizer = _load(label, source, kind, arguments, allow_pickle, device_map)
        model = _ready(label, model, where if device_map is None else None)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            f"{label} does not fit into the memory of {where} in {str(kind).removeprefix('torch.')}: {str(error).partition(chr(10))[0]}; "
            "take --dtype bfloat16 (half of float32), another --device, more --gpus-per-worker or a smaller model"
        ) from error
    revision = str(getattr(model.config, "_commit_hash", None) or "")
    return LoadedModel(model, tokenizer, label, revision)


def check_causal(label: str, model: Any) -> None:
    """Refuse a model whose states depend on later tokens: its loss on a token that it has seen says nothing.

    Raises:
        ModelError: it is such a model. Some load as causal ones (BERT as a decoder that it is not), so it is tried.
    """
    from gradsentry.model.batches.states import TOLERANCE

    if sees_ahead(model) > TOLERANCE[model.dtype]:
        raise ModelError(f"{label} sees the tokens that it should predict; give a causal one")


def weights_stamp(model: PreTrainedModel) -> str:
    """Hash over names, shapes and the first values of all parameters: cheap, and training moves all of them."""
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        head = value.detach().flatten()[:64].cpu().double()  # Apple's GPUs have no float64
        digest.update(f"{name}{list(value.shape)}".encode() + head.numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_stamp(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash over what makes tokens out of a row: vocabulary, chat template, the ids that open and close a text."""
    parts = [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template, tokenizer.bos_token_id, tokenizer.eos_token_id]
    parts.append(tokenizer("A text, 1 + 2;\nanother one.", verbose=False)["input_ids"])
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()[:16]


def _check_directory(path: Path, allow_pickle: bool) -> None:
    if not path.exists():
        raise ModelError(f"no such model directory: {path}; give a directory, a .gguf file or a Hub id")
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} is no model directory: it has no config.json")
    if not any(path.glob("*.safetensors")):
        if not any(path.glob("*.bin")):
            raise ModelError(f"{path} has no weights: no .safetensors file")
        if not allow_pickle:
            raise ModelError(
                f"{path} has its weights only as .bin files, which are pickles and can run code when loaded; convert them "
                "to safetensors, or say --allow-pickle if you trust who made them"
            )


def _load(label: str, source: str, kind: torch.dtype, arguments: dict[str, Any], allow_pickle: bool, device_map: Any) -> tuple[Any, Any]:
    """Model and tokenizer from transformers; its many exceptions become one ModelError with the first line of the cause."""
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()  # ours is the only bar
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **arguments)
        model, loading = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            source,
            dtype=kind,
            use_safetensors=None if allow_pickle or "gguf_file" in arguments else True,
            output_loading_info=True,
            device_map=device_map,
            **arguments,
        )
    except Exception as error:  # safetensors, tokenizers and config checks raise what derives from nothing else
        if isinstance(error, (MemoryError, RuntimeError)) and out_of_memory(error):
            raise
        raise ModelError(_why(label, error)) from error
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()
    _check_complete(label, model, loading["missing_keys"])
    return model, tokenizer


def _ready(label: str, model: Any, where: torch.device | None) -> Any:
    """The model frozen and in eval mode, on its device unless it is spread already."""
    head_width(output_projection(model))
    if where is not None:
        model = model.to(where)
    model = model.eval().requires_grad_(False)
    _check_placed(label, model)
    check_causal(label, model)
    return model


def _check_placed(label: str, model: Any) -> None:
    """Refuse a model of which accelerate left a part off the devices, to be fetched from the CPU or the disk for each pass."""
    away = {name: parameter for name, parameter in model.named_parameters() if parameter.is_meta}
    if not away:
        return
    size = sum(parameter.numel() * parameter.element_size() for parameter in away.values()) / 2**20
    devices = len({parameter.device for parameter in model.parameters() if not parameter.is_meta})
    raise ModelError(
        f"{label} does not fit onto {devices} device{'' if devices == 1 else 's'}: {size:,.2f} MiB of its weights ({', '.join([*away][:3])}"
        f"{' ...' if len(away) > 3 else ''}) were left off; take more --gpus-per-worker, --dtype bfloat16 or a smaller model"
    )


def _check_complete(label: str, model: Any, missing: Iterable[str]) -> None:
    """Refuse what transformers only warns of: parameters that no file has, and an encoder that got a head."""
    absent = sorted(set(missing) & {name for name, _ in model.named_parameters()})
    if absent:
        head = {id(parameter) for parameter in output_projection(model).parameters()}
        lacks_head = any(id(parameter) in head for name, parameter in model.named_parameters() if name in absent)
        what = "it has no output projection" if lacks_head else "its files are not complete"
        raise ModelError(f"{label} cannot score: {what}; the weights lack {', '.join(absent[:3])}{' ...' if len(absent) > 3 else ''}")
    if any("MaskedLM" in name for name in model.config.architectures or ()):
        raise ModelError(f"{label} is a masked language model: it sees the tokens that it should predict; give a causal one")


def _why(label: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = lines[0] if lines else type(error).__name__
    if "trust_remote_code" in str(error):
        return f"{label} brings its own code: read it, then say --trust-remote-code if you trust it"
    if "Unrecognized configuration class" in str(error) or "AutoModelForCausalLM" in cause:
        return f"{label} is no causal language model (it has no output projection to take a gradient of): {cause}"
    if isinstance(error, OSError) and not Path(label).exists():
        return (
            f"cannot load the model {label!r}: {cause} -- it is neither a directory here nor a Hub id that can be reached; "
            "give the directory that holds config.json, or check the id and the network"
        )
    kind = "" if isinstance(error, ValueError) or not lines else f"{type(error).__name__}: "  # a KeyError says its key alone
    return f"cannot load the model {label!r}: {kind}{cause}"
