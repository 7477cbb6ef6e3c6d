"""Sizes by device, and copies to the host."""

from __future__ import annotations

import pytest
import torch

from elsewhere import Elsewhere
from gradsentry.model.device import CPU, MOST_LOGIT_BYTES, HostCopy, sizes_for

GIB = 2**30


@pytest.mark.parametrize(("free", "block"), [(GIB, CPU.logit_bytes), (16 * GIB, GIB // 4), (120 * GIB, MOST_LOGIT_BYTES)])
def test_a_gpus_blocks_follow_from_its_free_memory(free: int, block: int) -> None:
    assert sizes_for(torch.device("cuda"), free).logit_bytes == block


def test_only_cuda_has_the_variable_length_kernel_and_a_cpu_pads_nothing() -> None:
    kinds = {name: sizes_for(torch.device(name), 8 * GIB) for name in ("cpu", "mps", "cuda")}
    assert [name for name, sizes in kinds.items() if sizes.variable_length] == ["cuda"]
    assert kinds["cpu"] == CPU
    assert CPU.gram_padding == 1


def test_all_tensors_arrive_in_order_and_keep_their_values() -> None:
    tensors = [torch.rand(3), torch.rand(0), torch.rand(2, 4, 4, dtype=torch.float64), torch.rand(1, 1, 1, dtype=torch.float64)]
    for found, tensor in zip(HostCopy(tensors, torch.device("cpu")).wait(), tensors, strict=True):
        assert torch.equal(found.to(tensor.dtype), tensor)


def test_on_apples_gpus_only_what_is_there_is_copied_and_is_float64_on_the_host() -> None:
    """They have no float64: Gram matrices are made on the host there."""
    losses, gram = torch.tensor([1.0, 2.0]), torch.eye(2, dtype=torch.float64)[None]
    copied, kept = HostCopy([Elsewhere.of(losses), gram], torch.device("mps")).wait()
    assert kept is gram
    assert copied.double().tolist() == [1.0, 2.0]
