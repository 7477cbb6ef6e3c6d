"""Attention over a packed batch: each token attends to the earlier tokens of its own row only.

It is registered with transformers as an attention implementation, so the model's own code (projections, rotary positions,
grouped heads) runs unchanged. A `TreeMask`, set around the forward pass, holds what each token may attend to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from gradsentry.model.batches.prefix_tree import AttentionBlock, Batch, attention_blocks
from gradsentry.model.batches.variable_length import VariableLengths
from gradsentry.model.device import CPU, Sizes, to_device
from gradsentry.model.forward import HALF

NAME = "gradsentry_packed"

Layers = dict[int, tuple[Tensor, Tensor]]
"""Layer index -> (keys, values), each [tokens, key heads, head width]."""


class NotPackable(Exception):
    """The model's attention uses a feature that packed batches do not support; its rows must be padded instead."""


@dataclass(frozen=True)
class _PaddedGroup:
    """Attention blocks of similar size, padded to one shape: B blocks, Q queries, K keys."""

    queries: Tensor
    """[B, Q] index of each query in the batch; padding is N, one past the last. In a causal group Q = K, and each query has the
    index of its key."""
    keys: Tensor
    """[B, K] node of each key; padding is node 0, which `visible` masks."""
    query_positions: Tensor
    """[B, 1, Q, 1] position of each query in its row."""
    key_positions: Tensor
    """[B, 1, 1, K] position of each key in its row."""
    visible: Tensor | None
    """[B, 1, Q, K] which keys each query attends to. None for the plain causal mask: kernels need no tensor for it, and a long row's
    mask would be large."""

    def to(self, device: torch.device) -> _PaddedGroup:
        parts: dict[str, Any] = {name: None if part is None else part.to(device) for name, part in vars(self).items()}
        return _PaddedGroup(**parts)

    def mask(self, sliding_window: int | None, softcap: float | None) -> Tensor | None:
        """[B or 1, 1, Q, K] the attention mask of a layer; None where the kernel applies the plain causal mask itself."""
        visible = self.visible
        if visible is None and (sliding_window or softcap):
            size = self.keys.shape[1]
            visible = torch.ones(1, 1, size, size, dtype=torch.bool, device=self.keys.device).tril()
        if visible is not None and sliding_window:
            return visible & (self.query_positions - self.key_positions < sliding_window)
        return visible


@dataclass
class TreeMask:
    """What the tokens of one batch attend to, and the keys and values that the next batch needs."""

    groups: list[_PaddedGroup]
    """What each layer computes by padded blocks; empty if `calls` are there."""
    calls: VariableLengths | None
    """What each layer computes by torch's variable-length kernel instead."""
    carried: Layers
    """Keys and values of the tokens shared with the previous batch."""
    carry: Tensor
    """Nodes whose keys and values the next batch needs."""
    kept: Layers = field(default_factory=dict)
    """Filled by the forward pass: keys and values of the nodes in `carry`."""

    def groups_on(self, device: torch.device) -> list[_PaddedGroup]:
        """The groups on a layer's device; a model may be spread over several devices."""
        if self.groups and self.groups[0].queries.device != device:
            self.groups = [group.to(device) for group in self.groups]
        return self.groups


def tree_mask(batch: Batch, carried: Layers, carry: int, device: torch.device, sizes: Sizes = CPU) -> TreeMask:
    """The mask of a batch.

    Args:
        carried: `TreeMask.kept` of the previous batch.
        carry: number of leading tokens of the batch's last row that the next batch needs.
        sizes: how much the device computes at once.
    """
    needed_next = to_device(batch.paths[-1].nodes[:carry], device)
    if sizes.variable_length:
        return TreeMask([], VariableLengths.of(batch, device), carried, needed_next)
    groups: list[list[AttentionBlock]] = []
    blocks = (block for block in attention_blocks(batch) if len(block.queries))
    for block in sorted(blocks, key=lambda block: (block.causal, len(block.queries), len(block.keys))):
        if groups and _fits([*groups[-1], block], sizes):
            groups[-1].append(block)
        else:
            groups.append([block])
    return TreeMask([_padded_group(group, batch, device) for group in groups], None, carried, needed_next)


def _fits(members: list[AttentionBlock], sizes: Sizes) -> bool:
    """Whether these blocks as one group stay within the bounds on padding and memory."""
    if members[0].causal != members[-1].causal:
        return False
    queries, keys = _shape(members)
    needed = sum(math.prod(_shape([member])) for member in members)
    return keys * len(members) <= sizes.gathered_keys and queries * keys * len(members) <= sizes.attention_padding * needed


def _shape(members: Sequence[AttentionBlock]) -> tuple[int, int]:
    """(Q, K) of a padded group; its blocks are either all causal or all not."""
    keys = max(len(block.keys) for block in members)
    return (keys if members[0].causal else max(len(block.queries) for block in members)), keys


def _padded_group(members: Sequence[AttentionBlock], batch: Batch, device: torch.device) -> _PaddedGroup:
    n_queries, n_keys = _shape(members)
    queries = np.full((len(members), n_queries), len(batch.input_ids))
    keys = np.zeros((len(members), n_keys), dtype=np.int64)
    causal = members[0].causal
    visible = np.zeros((len(members), 1, n_queries, 0 if causal else n_keys), dtype=bool)
    visible[..., :1] = True  # a padded query attends to one key, or its softmax would be 0 / 0
    query_positions = np.zeros((len(members), 1, n_queries, 1), dtype=np.int64)
    key_positions = np.zeros((len(members), 1, 1, n_keys), dtype=np.int64)
    for i, block in enumerate(members):
        k = len(block.keys)
        start = k - len(block.queries) if block.causal else 0
        rows = slice(start, start + len(block.queries))
        queries[i, rows] = block.queries - batch.carried
        keys[i, :k] = block.keys
        if not causal:
            visible[i, 0, rows, :k] = block.visible
        query_positions[i, 0, rows, 0] = block.query_positions
        key_positions[i, 0, 0, :k] = block.key_positions
    arrays = (to_device(array, device) for array in (queries, keys, query_positions, key_positions))
    return _PaddedGroup(*arrays, visible=None if causal else to_device(visible, device))


_MASK: ContextVar[TreeMask] = ContextVar("tree_mask")


@contextmanager
def using_mask(mask: TreeMask) -> Iterator[None]:
    """Apply this mask in the forward passes inside the context."""
    token = _MASK.set(mask)
    try:
        yield
    finally:
        _MASK.reset(token)


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Switch the model to packed attention and restore its own implementation on exit."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: query [1, H, N, D], key and value [1, K, N, D] -> [1, N, H, D].

    Raises:
        NotPackable: attention sinks, layers that share one index, a sliding window that only the ignored mask expresses, or soft caps
            and windows where the variable-length kernel is used.
    """
    mask = _MASK.get()
    layer = getattr(module, "layer_idx", None)
    if layer is None or s_aux is not None or layer in mask.kept or _window_only_in_mask(module, layer, sliding_window):
        raise NotPackable(type(module).__name__)
    device, dtype, length = query.device.type, query.dtype, query.shape[2]
    if device != "cpu" and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)  # the model's half precision, for which a GPU has fast kernels
    elif device == "cpu" and dtype in HALF:
        dtype = torch.float32  # faster on a CPU
    keys, values = (states[0].transpose(0, 1) for states in (key, value))
    if layer in mask.carried:
        old_keys, old_values = mask.carried[layer]
        keys, values = torch.cat([old_keys, keys.to(old_keys.dtype)]), torch.cat([old_values, values.to(old_values.dtype)])
    carry = mask.carry.to(keys.device)
    mask.kept[layer] = keys[carry], values[carry]
    queries, keys, values = query[0].transpose(0, 1).to(dtype), keys.to(dtype), values.to(dtype)
    if mask.calls is not None:
        if softcap or sliding_window:
            raise NotPackable(type(module).__name__)
        with torch.autocast(device, enabled=False):
            return mask.calls.to(query.device).attend(queries, keys, values, scaling).unsqueeze(0), None
    queries = torch.cat([queries, queries.new_zeros(1, *queries.shape[1:])])
    result = queries.new_empty(length + 1, queries.shape[1], values.shape[-1])
    with torch.autocast(device, enabled=False):
        for group in mask.groups_on(query.device):
            parts = (queries[group.queries], keys[group.keys], values[group.keys])
            result[group.queries] = _attend(*parts, group.mask(sliding_window, softcap), scaling, softcap)
    return result[:length].unsqueeze(0), None


def _window_only_in_mask(module: nn.Module, layer: int, sliding_window: int | None) -> bool:
    """Whether the layer's sliding window is given by its mask alone, which packed attention ignores."""
    config = getattr(module, "config", None)
    if sliding_window or not getattr(config, "sliding_window", None):
        return False
    kinds = getattr(config, "layer_types", None)
    return kinds is None or kinds[layer] == "sliding_attention"


def _attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scaling: float | None, softcap: float | None) -> Tensor:
    """query [B, Q, H, D], key and value [B, K, key heads, D], visible [B, 1, Q, K] or None for causal -> [B, Q, H, D]."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    if not softcap:
        grouped = query.shape[1] != key.shape[1]
        options: Any = {"is_causal": True} if visible is None else {"attn_mask": visible}
        result = nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling, enable_gqa=grouped, **options)
        return result.transpose(1, 2)
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    logits = (query @ key.mT).float() * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    logits = torch.tanh(logits / softcap) * softcap
    assert visible is not None
    weights = logits.masked_fill(~visible, float("-inf")).softmax(-1)
    return (weights.to(value.dtype) @ value).transpose(1, 2)


def compile_body(model: Any) -> None:
    """Compile the model's layers in place; packed attention stays outside the graph, because its shapes change with each batch."""
    AttentionInterface.register(NAME, torch.compiler.disable(_attention))
    model.base_model.compile(dynamic=True)


AttentionInterface.register(NAME, _attention)
