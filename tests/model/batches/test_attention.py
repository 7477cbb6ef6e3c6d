"""Packed attention against each query's softmax written out over its own path."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradsentry.model.batches import attention, prefix_tree
from gradsentry.model.batches.prefix_tree import Batch, pack
from gradsentry.model.device import CPU, Sizes
from gradsentry.types import Encoded

HEADS, KEY_HEADS, WIDTH = 4, 2, 8


def call(
    batch: Batch, layers: attention.Layers, carry: int, states: tuple[Tensor, Tensor, Tensor], sizes: Sizes = CPU, **options: object
) -> attention.TreeMask:
    """One layer over a batch; the result is left in ``view.result``."""
    current = attention.tree_mask(batch, layers, carry, torch.device("cpu"), sizes)
    module = SimpleNamespace(layer_idx=0)
    with attention.using_mask(current):
        result, _ = attention._attention(module, *states, None, **options)  # pyright: ignore
    current.result = result[0]  # pyright: ignore
    return current


def written_out(query: Tensor, keys: Tensor, values: Tensor, window: int | None, softcap: float | None) -> Tensor:
    """Attention of one token, query [H, D], over its path, keys and values [n, heads, D]."""
    start = max(0, len(keys) - window) if window else 0
    outputs = []
    for head in range(HEADS):
        group = head // (HEADS // KEY_HEADS)
        logits = keys[start:, group] @ query[head] / WIDTH**0.5
        if softcap:
            logits = torch.tanh(logits / softcap) * softcap
        outputs.append(logits.softmax(0) @ values[start:, group])
    return torch.stack(outputs)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=12), min_size=1, max_size=12),
    budget=st.sampled_from([1, 6, 1000]),
    window=st.sampled_from([None, 1, 3]),
    softcap=st.sampled_from([None, 0.7]),
    gathered=st.sampled_from([1, 40, CPU.gathered_keys]),
    skipped=st.sampled_from([1, prefix_tree.CAUSAL_KERNEL_BLOCK_KEYS]),
)
def test_equals_the_softmax_over_each_tokens_own_path(
    rows: list[list[int]], budget: int, window: int | None, softcap: float | None, gathered: int, skipped: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    states: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]] = {}  # of each token of the tree, by its path

    def of(path: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        if path not in states:
            shapes = ((HEADS, WIDTH), (KEY_HEADS, WIDTH), (KEY_HEADS, WIDTH))
            states[path] = tuple(torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)  # pyright: ignore
        return states[path]

    encoded = [Encoded(i, ids, ids) for i, ids in enumerate(rows)]
    batches = list(pack(encoded, budget))
    layers: attention.Layers = {}
    before, prefix_tree.CAUSAL_KERNEL_BLOCK_KEYS = prefix_tree.CAUSAL_KERNEL_BLOCK_KEYS, skipped
    try:
        for batch, after in zip(batches, [*batches[1:], None], strict=True):
            paths: dict[int, tuple[int, ...]] = {}
            for path in batch.paths:
                tokens = rows[path.member]
                paths |= {int(node): tuple(tokens[: n + 1]) for n, node in enumerate(path.nodes)}
            new = [paths[batch.carried + n] for n in range(len(batch.input_ids))]
            parts = [torch.stack([of(path)[side] for path in new]).transpose(0, 1)[None] for side in range(3)]
            sizes, carry = replace(CPU, gathered_keys=gathered), after.carried if after else 0
            found = call(batch, layers, carry, tuple(parts), sizes, sliding_window=window, softcap=softcap)  # pyright: ignore
            layers = found.kept
            for n, path in enumerate(new):
                keys, values = (torch.stack([of(path[: i + 1])[side] for i in range(len(path))]) for side in (1, 2))
                torch.testing.assert_close(found.result[n], written_out(of(path)[0], keys, values, window, softcap))  # pyright: ignore
    finally:
        prefix_tree.CAUSAL_KERNEL_BLOCK_KEYS = before


def test_padding_in_a_group_is_bounded() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(0, 50, (n,), generator=generator).tolist() for n in range(3, 120, 2)]
    (batch,) = pack([Encoded(i, ids, ids) for i, ids in enumerate(rows)], 100_000)
    groups = attention.tree_mask(batch, {}, 0, torch.device("cpu")).groups
    for group in groups:
        if len(group.queries) > 1:
            real = [int((places < len(batch.input_ids)).sum()) for places in group.queries]
            keys = real if group.visible is None else [int(seen[0].any(0).sum()) for seen in group.visible]
            needed = sum(math.prod(pair) for pair in zip(real, keys, strict=True))
            assert group.queries.numel() * group.keys.shape[1] <= CPU.attention_padding * needed + 1
            assert group.keys.numel() <= CPU.gathered_keys
    assert 1 < len(groups) < len(rows)


def test_a_long_row_has_no_mask_in_memory() -> None:
    ids = list(range(3000))
    (batch,) = pack([Encoded(0, ids, ids)], 10)
    (group,) = attention.tree_mask(batch, {}, 0, torch.device("cpu")).groups
    assert group.visible is None
    assert group.mask(None, None) is None
    window, capped = group.mask(4, None), group.mask(None, 1.0)
    assert window is not None
    assert capped is not None
    assert [int(window[0, 0, i].sum()) for i in (0, 2, 100)] == [1, 3, 4]
    assert [int(capped[0, 0, i].sum()) for i in (0, 2, 100)] == [1, 3, 101]


def test_attention_that_a_packed_batch_does_not_know_is_refused() -> None:
    (batch,) = pack([Encoded(0, [1, 2, 3], [1, 2, 3])], 10)
    states = (torch.zeros(1, HEADS, 2, WIDTH), torch.zeros(1, KEY_HEADS, 2, WIDTH), torch.zeros(1, KEY_HEADS, 2, WIDTH))
    with pytest.raises(attention.NotPackable):
        call(batch, {}, 0, states, s_aux=torch.zeros(HEADS))
