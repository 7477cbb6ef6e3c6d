"""The memory that a plan states against the memory that a batch uses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gradsentry.model import memory
from gradsentry.model.device import CPU
from tiny import tiny_llama

PER_TOKEN = memory.BATCH_BYTES_PER_WIDTH * (32 + 64)
"""Bytes of a token of the tiny Llama in a batch."""


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError("full"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 bytes"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), False),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_out_of_memory_errors_are_recognised_and_bugs_are_not(error: Exception, full: bool) -> None:
    assert memory.out_of_memory(error) == full


MEASURE = """
import gc, torch
from transformers import LlamaConfig, LlamaForCausalLM
from gradsentry.model import memory
from gradsentry.model.targets.head import Head
from gradsentry.model.batches.states import packed_states
from gradsentry.types import Encoded

def resident(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

torch.manual_seed(0)
config = LlamaConfig(vocab_size=1000, hidden_size=256, intermediate_size=1024, num_hidden_layers=2, num_attention_heads=4)
model = LlamaForCausalLM(config).eval()
ids = torch.randint(3, 1000, (64, 64)).tolist()
rows = [Encoded(i, row, row) for i, row in enumerate(ids)]
list(packed_states(model, rows[:2], 4096))
gc.collect()
open("/proc/self/clear_refs", "w").write("5")
before = resident("VmRSS")
for batch in packed_states(model, rows, 4096):
    Head(model, "reference").gradients(batch.supervised.states, batch.supervised.tokens, batch.supervised.lengths)
print(resident("VmHWM") - before, memory.plan(model, 4096).batch)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of this process's memory from /proc")
def test_a_batch_uses_no_more_than_is_stated_and_not_far_less() -> None:
    result = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    used, stated = map(int, result.stdout.split())
    assert used < stated < 20 * used


def free_for(tokens: float) -> int:
    """Free bytes of which a batch of so many tokens of the tiny Llama takes the share that it may."""
    return int((memory.LIVE_LOGIT_BLOCKS * CPU.logit_bytes + tokens * PER_TOKEN) / memory.BATCH_SHARE_OF_FREE) + 1


def test_the_budget_is_the_devices_own_unless_memory_is_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama()
    assert memory.plan(model, None).token_budget == 2048
    assert memory.plan(model, 77).token_budget == 77
    monkeypatch.setattr(memory, "free_memory", lambda _device: free_for(100))
    assert memory.plan(model, None).token_budget == pytest.approx(100, abs=1)
    assert memory.plan(model, None, processes=2).token_budget == 1
    assert memory.plan(model, 4000).token_budget == 4000  # the user's budget is taken as it is


@pytest.mark.parametrize(("fitting", "warned"), [(2048, False), (513, False), (511, True), (0, True)])
def test_a_budget_far_below_the_usual_one_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fitting: int, warned: bool
) -> None:
    free = free_for(fitting)
    monkeypatch.setattr(memory, "free_memory", lambda _device: free)
    memory.plan(tiny_llama(), None)
    assert ("batches of" in caplog.text and "--token-budget" in caplog.text and f"{free / 2**20:,.0f} MiB" in caplog.text) == warned
    caplog.clear()
    memory.plan(tiny_llama(), 1)
    assert caplog.text == ""


def test_a_plan_reads_as_a_sentence() -> None:
    plan = memory.MemoryPlan(257 * 2**20, 2**27, 20 * 2**30, 1024, CPU)
    assert str(plan) == "memory: model 257 MiB, a batch of 1,024 tokens about 128 MiB, 20,480 MiB free"


def test_free_memory_keeps_to_the_containers_limit(tmp_path: Path) -> None:
    assert 0 < memory.free_memory(torch.device("cpu")) < 1 << 50
    assert memory._group_limit(tmp_path) > 1 << 60
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    assert memory._group_limit(tmp_path) > 1 << 60
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory._group_limit(tmp_path) == 4000
    (tmp_path / "memory.current").write_text("4900\n")
    (tmp_path / "memory.stat").write_text("anon 1900\nfile 3000\ninactive_file 2500\nactive_file 500\n")
    assert memory._group_limit(tmp_path) == 2600  # pages of files that were read are given back when memory is asked for


def test_what_was_made_before_the_memory_was_full_is_not_lost() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(3):
            made.append(i)
            yield i
        raise MemoryError("full")

    behind = memory.one_behind(items())
    assert [(next(behind), len(made)) for _ in range(3)] == [(0, 2), (1, 3), (2, 3)]
    with pytest.raises(MemoryError, match="full"):
        next(behind)
    assert list(memory.one_behind(iter("ab"))) == ["a", "b"]
    assert list(memory.one_behind(iter(""))) == []
