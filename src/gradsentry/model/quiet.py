"""Loading without other libraries' progress bars: stderr is gradsentry's own, and is often redirected to a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from typing import Any


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Switch off the progress bars of transformers, huggingface_hub and tqdm inside the context."""
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
