"""Time and memory of a piece of work."""

from __future__ import annotations

import platform
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from gradsentry.bench.resources import watched


def test_time_and_memory_are_those_of_the_work() -> None:
    with watched() as cost:
        held = np.ones(60 * 2**17)  # 60 MiB
        time.sleep(0.1)
    assert held.sum() > 0
    assert 55 < cost.memory < 90
    assert 0.1 <= cost.seconds < 5, "a loaded machine may be slow"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim, by which memory is given back, is glibc's")
def test_memory_that_earlier_work_has_freed_is_counted_again() -> None:
    pins = []
    for _ in range(2):
        with watched() as cost:
            held = [bytes(1000) for _ in range(60_000)]
            pins.append(bytes(1000))  # what lies below it the allocator keeps when it is freed
            time.sleep(0.1)
        del held
        assert 50 < cost.memory < 120


def test_the_gpu_is_counted_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter([100 * 2**20, 400 * 2**20])
    gpu = SimpleNamespace(is_available=lambda: True, empty_cache=lambda: None, reset_peak_memory_stats=lambda: None)
    gpu.memory_allocated = gpu.max_memory_allocated = lambda: next(steps)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=gpu))
    with watched() as cost:
        pass
    assert 300 <= cost.memory < 310
