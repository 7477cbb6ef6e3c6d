"""Time and memory of a piece of work."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

INTERVAL = 0.02
"""Seconds between two samples of the process's memory."""


@dataclass
class Cost:
    """What some work took."""

    seconds: float = 0.0
    memory: float = 0.0
    """Peak in MiB beyond the start: of the process plus, where there is one, of the GPU."""


@contextmanager
def watched() -> Iterator[Cost]:
    """Measure what runs inside."""
    gpu = _release()
    held = gpu.memory_allocated() if gpu else 0
    process, cost, stop = psutil.Process(), Cost(), threading.Event()
    before, started = process.memory_info().rss, time.perf_counter()

    def sample() -> None:
        stopped = False
        while not stopped:  # the last sample comes after the stop, so that short work has one
            stopped = stop.wait(INTERVAL)
            cost.memory = max(cost.memory, (process.memory_info().rss - before) / 2**20)

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - started
        stop.set()
        watcher.join()
        cost.memory += (gpu.max_memory_allocated() - held) / 2**20 if gpu else 0.0


def _release() -> Any:
    """Return freed memory to the system: work that reused what an allocator kept would seem to need none.

    Returns:
        ``torch.cuda`` with its peak reset, where there is a GPU.
    """
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
    gpu = getattr(sys.modules.get("torch"), "cuda", None)  # only if torch is in use
    if not gpu or not gpu.is_available():
        return None
    gpu.empty_cache()
    gpu.reset_peak_memory_stats()
    return gpu
