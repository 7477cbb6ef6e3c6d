"""Attention over a packed batch: every token sees its own row's beginning and nothing else.

Registered with transformers as an attention implementation, so a model's own code (projections, rotary positions,
grouped heads) stays as it is. What each token may see comes from a `View`, set around the forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from gradsentry.model.batches.prefix_tree import Batch, Stack, stacks
from gradsentry.model.forward import HALF

NAME = "gradsentry_packed"

GATHERED = 16384
"""Keys that are gathered at a time: bounds the copy that attention needs beside the batch itself."""

PADDING = 1.25
"""Most that padding may add to what the stacks of a group compute together."""

Layers = dict[int, tuple[Tensor, Tensor]]
"""Keys and values by layer, each [tokens, key heads, width of a head]."""


class NotPackable(Exception):
    """The model's attention does something that a packed batch cannot: it has to be computed row by row."""


@dataclass(frozen=True)
class _Group:
    """Stacks of like size, padded to one shape."""

    queries: Tensor
    """[B, Q] place of each query in the batch; padding stands at N, one past the last. In a causal group Q = K, and a row's
    queries stand at the places of their keys."""
    keys: Tensor
    """[B, K] node of each key; padding is node 0, which `visible` hides."""
    query_positions: Tensor
    """[B, 1, Q, 1] position of each query in its row."""
    key_positions: Tensor
    """[B, 1, 1, K] position of each key in its row."""
    visible: Tensor | None
    """[B, 1, Q, K]; None for the plain causal mask, for which there are kernels that need none: a long row's would be large."""

    def to(self, device: torch.device) -> _Group:
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return _Group(**{name: None if part is None else part.to(device) for name, part in parts.items()})  # pyright: ignore[reportArgumentType]

    def mask(self, sliding_window: int | None, softcap: float | None) -> Tensor | None:
        """What a layer's queries see, [B or 1, 1, Q, K]; None for the plain causal mask where the kernel makes it."""
        visible = self.visible
        if visible is None and (sliding_window or softcap):
            size = self.keys.shape[1]
            visible = torch.ones(1, 1, size, size, dtype=torch.bool, device=self.keys.device).tril()
        if visible is not None and sliding_window:
            return visible & (self.query_positions - self.key_positions < sliding_window)
        return visible


@dataclass
class View:
    """What the tokens of one batch see, and the keys and values that go on to the next batch."""

    groups: list[_Group]
    carried: Layers
    """States of the tokens that come from the batch before."""
    carry: Tensor
    """Nodes whose states the next batch needs."""
    kept: Layers = field(default_factory=dict)
    """Filled by the forward pass: the states of `carry`."""

    def on(self, device: torch.device) -> list[_Group]:
        """The groups on a layer's device: a model may be spread over several."""
        if self.groups and self.groups[0].queries.device != device:
            self.groups = [group.to(device) for group in self.groups]
        return self.groups


def view(batch: Batch, carried: Layers, carry: int, device: torch.device) -> View:
    """The view of a batch.

    Args:
        carried: what the view of the batch before kept. carry: length of the beginning of the batch's last row that the
            next batch needs.
    """
    found = sorted((stack for stack in stacks(batch) if len(stack.queries)), key=lambda s: (s.causal, len(s.queries), len(s.keys)))
    groups: list[list[Stack]] = []
    for stack in found:
        if not groups or not _fits(groups[-1], stack):
            groups.append([])
        groups[-1].append(stack)
    return View([_group(group, batch, device) for group in groups], carried, torch.from_numpy(batch.paths[-1].nodes[:carry]).to(device))


def _fits(group: list[Stack], stack: Stack) -> bool:
    """Whether one more stack keeps padding and memory within bounds."""
    if group[0].causal != stack.causal:
        return False
    members = [*group, stack]
    queries, keys = _shape(members)
    needed = sum(math.prod(_shape([member])) for member in members)
    return keys * len(members) <= GATHERED and queries * keys * len(members) <= PADDING * needed


def _shape(members: Sequence[Stack]) -> tuple[int, int]:
    """(Q, K) of a group of stacks that are all causal or all not."""
    keys = max(len(stack.keys) for stack in members)
    return (keys if members[0].causal else max(len(stack.queries) for stack in members)), keys


def _group(members: Sequence[Stack], batch: Batch, device: torch.device) -> _Group:
    n_queries, n_keys = _shape(members)
    queries = np.full((len(members), n_queries), len(batch.input_ids))
    keys = np.zeros((len(members), n_keys), dtype=np.int64)
    causal = members[0].causal
    visible = np.zeros((len(members), 1, n_queries, 0 if causal else n_keys), dtype=bool)
    visible[..., :1] = True  # a padded query sees something, lest its softmax be 0 / 0
    query_positions = np.zeros((len(members), 1, n_queries, 1), dtype=np.int64)
    key_positions = np.zeros((len(members), 1, 1, n_keys), dtype=np.int64)
    for i, stack in enumerate(members):
        k = len(stack.keys)
        start = k - len(stack.queries) if stack.causal else 0
        rows = slice(start, start + len(stack.queries))
        queries[i, rows] = stack.queries - batch.carried
        keys[i, :k] = stack.keys
        if not causal:
            visible[i, 0, rows, :k] = stack.visible
        query_positions[i, 0, rows, 0] = stack.query_positions
        key_positions[i, 0, 0, :k] = stack.key_positions
    arrays = (torch.from_numpy(array).to(device) for array in (queries, keys, query_positions, key_positions))
    return _Group(*arrays, visible=None if causal else torch.from_numpy(visible).to(device))


_VIEW: ContextVar[View] = ContextVar("view")


@contextmanager
def seen_through(current: View) -> Iterator[None]:
    """Forward passes inside see the batch through this view."""
    token = _VIEW.set(current)
    try:
        yield
    finally:
        _VIEW.reset(token)


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """The model with packed attention; its own implementation is put back after."""
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
    """query [1, H, N, D], key and value [1, K, N, D] -> [1, N, H, D]. Signature and order as transformers calls it."""
    current = _VIEW.get()
    layer = getattr(module, "layer_idx", None)
    if layer is None or s_aux is not None or layer in current.kept or _in_mask(module, layer, sliding_window):
        raise NotPackable(type(module).__name__)
    kind, length = _dtype(query), query.shape[2]
    keys, values = (states[0].transpose(0, 1) for states in (key, value))
    if layer in current.carried:
        before = current.carried[layer]
        keys, values = torch.cat([before[0], keys.to(before[0].dtype)]), torch.cat([before[1], values.to(before[1].dtype)])
    current.kept[layer] = keys[current.carry.to(keys.device)], values[current.carry.to(keys.device)]
    queries, keys, values = query[0].transpose(0, 1).to(kind), keys.to(kind), values.to(kind)
    queries = torch.cat([queries, queries.new_zeros(1, *queries.shape[1:])])
    result = queries.new_empty(length + 1, queries.shape[1], values.shape[-1])
    with torch.autocast(query.device.type, enabled=False):
        for group in current.on(query.device):
            parts = (queries[group.queries], keys[group.keys], values[group.keys])
            result[group.queries] = _attend(*parts, group.mask(sliding_window, softcap), scaling, softcap)
    return result[:length].unsqueeze(0), None


def _in_mask(module: nn.Module, layer: int, sliding_window: int | None) -> bool:
    """Whether the layer has a window of which only its mask tells, which is not looked at here."""
    config = getattr(module, "config", None)
    if sliding_window or not getattr(config, "sliding_window", None):
        return False
    kinds = getattr(config, "layer_types", None)
    return kinds is None or kinds[layer] == "sliding_attention"


def _dtype(query: Tensor) -> torch.dtype:
    """What attention is computed in: the model's half precision where a GPU has fast kernels for it; a CPU's float32 is faster."""
    device = query.device.type
    if device == "cpu":
        return torch.float32 if query.dtype in HALF else query.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype


def _attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scaling: float | None, softcap: float | None) -> Tensor:
    """query [B, Q, H, D], key and value [B, K, heads, D], visible [B, 1, Q, K], None for causal -> [B, Q, H, D]."""
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


def compiled(model: Any) -> None:
    """Compile the model's body in place; packed attention, whose shapes change with each batch, stays outside the graph."""
    AttentionInterface.register(NAME, torch.compiler.disable(_attention))
    model.base_model.compile(dynamic=True)


AttentionInterface.register(NAME, _attention)
