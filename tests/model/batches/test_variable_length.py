"""Variable-length attention over packed rows: its calls, and the states that it gives, with a reference in place of the GPU's kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import varlen_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.varlen import AuxRequest, varlen_attn

from gradsentry.model.batches.prefix_tree import pack
from gradsentry.model.batches.states import packed_states
from gradsentry.model.batches.variable_length import VariableLengths, groups
from gradsentry.model.checks import pick_packing
from gradsentry.model.device import CPU, sizes_for
from gradsentry.types import Encoded
from tiny import MODELS, made

GPU = sizes_for(torch.device("cuda"), 2**36)
HEADS, KEY_HEADS, WIDTH = 4, 2, 8
CPU_DEVICE = torch.device("cpu")


def encoded(ids: list[int], row: int = 0) -> Encoded:
    return Encoded(row, ids, ids)


def with_beginnings(n_rows: int, beginning: int, passages: list[int], own: int) -> list[Encoded]:
    """Rows behind one beginning and one of the passages, whose lengths are given."""
    generator = torch.Generator().manual_seed(0)

    def tokens(n: int) -> list[int]:
        return torch.randint(3, 400, (n,), generator=generator).tolist()

    first, others = tokens(beginning), [tokens(n) for n in passages]
    return [encoded([*first, *others[i % len(others)], 3 + i, *tokens(own - 1)], i) for i in range(n_rows)]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=14), min_size=1, max_size=20),
    beginning=st.integers(0, 20),
    budget=st.sampled_from([1, 9, 1000]),
)
def test_each_token_attends_to_its_own_path(rows: list[list[int]], beginning: int, budget: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for batch in pack([encoded([7] * beginning + ids, i) for i, ids in enumerate(rows)], budget):
        if not batch.input_ids:
            continue
        n_nodes = batch.carried + len(batch.input_ids)
        query = torch.randn(len(batch.input_ids), HEADS, WIDTH, generator=generator, dtype=torch.float64)
        keys, values = torch.randn(2, n_nodes, KEY_HEADS, WIDTH, generator=generator, dtype=torch.float64)
        found = VariableLengths.of(batch, CPU_DEVICE).attend(query, keys, values, 0.3)
        for path in batch.paths:
            for position in range(path.n_shared, len(path.nodes)):
                at, seen = int(path.nodes[position]) - batch.carried, torch.from_numpy(path.nodes[: position + 1])
                k, v = (part[seen].repeat_interleave(HEADS // KEY_HEADS, 1) for part in (keys, values))
                weights = (0.3 * torch.einsum("hd,nhd->hn", query[at], k)).softmax(-1)
                torch.testing.assert_close(found[at], torch.einsum("hn,nhd->hd", weights, v), rtol=1e-5, atol=1e-6)


def n_keys(calls: VariableLengths) -> int:
    return len(calls.own.keys) + (0 if calls.beginnings is None else len(calls.beginnings.keys))


def test_a_common_beginning_is_gathered_once() -> None:
    (batch,) = pack(with_beginnings(50, 100, [0], 9), 10_000)
    calls = VariableLengths.of(batch, CPU_DEVICE)
    assert calls.beginnings is not None
    assert len(calls.behind) == 49 * 8
    assert n_keys(calls) == 108 + 100 + 49 * 8


def test_passages_behind_a_template_are_groups_of_their_own() -> None:
    (batch,) = pack(with_beginnings(60, 20, [200, 100, 300], 9), 10_000)
    assert sorted((group.common, len(group.members)) for group in groups(batch.paths)) == [(120, 20), (220, 20), (320, 20)]
    assert n_keys(VariableLengths.of(batch, CPU_DEVICE)) == 3 * 60 + 2 * (3 * 20 + 600) + 3 * (8 + 19 * 8) - 180


def test_a_short_beginning_is_gathered_for_each_row() -> None:
    (batch,) = pack(with_beginnings(50, 4, [0], 30), 10_000)
    calls = VariableLengths.of(batch, CPU_DEVICE)
    assert calls.beginnings is None
    assert n_keys(calls) == 50 * 33


@pytest.mark.parametrize("count", [12, 300])
def test_a_layer_takes_two_calls_whatever_the_rows(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("llama", torch.float32)
    layers: list[int] = []
    monkeypatch.setattr(
        "gradsentry.model.batches.variable_length.varlen_attn", lambda *args, **options: layers.append(1) or varlen_attn(*args, **options)
    )
    list(packed_states(model, with_beginnings(count, 30, [0, 20], 9), 100_000, GPU))
    assert len(layers) == 2 * 2


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_states_are_those_of_padded_blocks(name: str, budget: int) -> None:
    model = made(name, torch.float32)
    rows = with_beginnings(12, 14, [0, 9, 5], 8) + with_beginnings(4, 1, [3], 20)
    served = name not in ("gemma2-softcapped", "mistral-windowed")
    packing = pick_packing(model, GPU)
    assert packing == replace(GPU, variable_length=served)
    expected, found = (list(packed_states(model, rows, budget, sizes)) for sizes in (CPU, packing))
    for one, other in zip(expected, found, strict=True):
        assert one.members == other.members
        torch.testing.assert_close(other.supervised.states, one.supervised.states, rtol=1e-5, atol=1e-5)


def test_a_kernel_with_another_result_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial at load time notices a kernel that aligns its mask otherwise, or returns its logarithms in another order."""

    def misaligned(*args: object, **options: object) -> object:
        result, log_sums = varlen_attn(*args, **options)  # pyright: ignore
        return result, log_sums.flip(-1)

    model = made("llama", torch.float32)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(8)  # with small weights attention hardly matters
    assert pick_packing(model, GPU) == GPU
    monkeypatch.setattr("gradsentry.model.batches.variable_length.varlen_attn", misaligned)
    assert pick_packing(model, GPU) == replace(GPU, variable_length=False)


def test_the_reference_has_the_shapes_of_the_real_kernel() -> None:
    """torch describes its own operator's results on the meta device."""
    generator = torch.Generator().manual_seed(0)
    query, keys = torch.randn(5, HEADS, WIDTH, generator=generator), torch.randn(7, KEY_HEADS, WIDTH, generator=generator)
    starts = torch.tensor([0, 2, 5], dtype=torch.int32), torch.tensor([0, 3, 7], dtype=torch.int32)

    def call(device: str) -> list[tuple[torch.Size, torch.dtype]]:
        parts: list[Tensor] = [part.to(device) for part in (query, keys, keys, *starts)]
        found = varlen_attn(*parts, 3, 4, return_aux=AuxRequest(lse=True), window_size=(-1, 0), enable_gqa=True)  # pyright: ignore
        return [(part.shape, part.dtype) for part in found]

    assert call("meta") == call("cpu")
    assert varlen_reference.reference


def test_the_plan_of_a_batch_is_made_without_the_device() -> None:
    (batch,) = pack(with_beginnings(50, 100, [0], 9), 10_000)
    calls = VariableLengths.of(batch, torch.device("meta"))
    assert calls.own.longest == (108, 108)
    assert calls.own.query_starts.dtype == torch.int32
    assert calls.to(torch.device("meta")) is calls
    assert np.prod(calls.own.keys.shape) == 108 + 49 * 8
