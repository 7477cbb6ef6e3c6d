"""Prompts that begin alike are computed once: which rows share a prefix, and its keys and values.

Rows of one data set often begin with the same instruction, or several questions stand on one passage. The keys and
values of such a prefix do not depend on what follows it, so they are computed once and every row runs only its own
tokens behind them. This is exact: causal attention sees the same keys and values at the same positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from gradsentry.probe import frozen
from gradsentry.types import Encoded

LEAST = 8
"""Shared tokens below which a prefix is not worth a pass of its own."""


@dataclass(frozen=True)
class Group:
    """Rows that share their first `length` tokens."""

    length: int
    """P, tokens of the shared prefix; 0 for rows that share nothing."""
    members: tuple[int, ...]
    """Positions of the rows in the list that was grouped."""


def shareable(row: Encoded) -> int:
    """Tokens that may be taken from a shared prefix: all before the one that predicts the first supervised token."""
    first = next(i for i, label in enumerate(row.labels) if i > 0 and label != -100)
    return first - 1


def group_by_prefix(rows: Sequence[Encoded]) -> list[Group]:
    """Partition rows so that the number of tokens to compute is least: each prefix once, and each row's rest.

    In lexicographic order every useful group is a run of neighbours, and the prefix of a run is the least of its
    neighbours' common prefixes; the best cut into runs is found by dynamic programming over that order.
    """
    if not rows:
        return []
    order = sorted(range(len(rows)), key=lambda i: rows[i].input_ids[: shareable(rows[i])])
    common = np.zeros(len(rows), dtype=np.int64)
    for place in range(1, len(rows)):
        common[place] = _common(rows[order[place - 1]], rows[order[place]])
    common[common < LEAST] = 0
    # best[i]: most tokens saved on the first i rows; a run of n rows with a prefix P saves P * (n - 1).
    best = np.zeros(len(rows) + 1, dtype=np.int64)
    cut = np.zeros(len(rows) + 1, dtype=np.int64)
    for end in range(1, len(rows) + 1):
        shared = np.minimum.accumulate(common[1:end][::-1])[::-1]  # prefix of the run that begins at 0 .. end-2
        saved = best[: end - 1] + shared * np.arange(end - 1, 0, -1)
        choices = np.append(saved, best[end - 1])
        cut[end] = len(choices) - 1 - int(np.argmax(choices[::-1]))  # the shortest of equally good runs
        best[end] = choices[cut[end]]
    groups: list[Group] = []
    alone: list[int] = []
    end = len(rows)
    while end > 0:
        start = int(cut[end])
        length = int(common[start + 1 : end].min()) if end - start > 1 else 0
        members = tuple(order[start:end])
        if length:
            groups.append(Group(length, members))
        else:
            alone += members
        end = start
    return [*reversed(groups), *([Group(0, tuple(sorted(alone)))] if alone else [])]


def _common(a: Encoded, b: Encoded) -> int:
    limit = min(shareable(a), shareable(b))
    for i in range(limit):
        if a.input_ids[i] != b.input_ids[i]:
            return i
    return limit


def can_share(model: nn.Module, longest: int) -> bool:
    """Whether this model's keys and values of a prefix may be reused for rows of up to `longest` tokens.

    Not without explicit positions (ALiBi), and not near a sliding window: it is counted over the cache, where the longest
    prefix of a batch and its longest rest stand one after the other, at most twice the longest row.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    config: Any = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    window = getattr(text, "sliding_window", None)
    return not window or not getattr(text, "use_sliding_window", True) or 2 * longest <= window


@dataclass(frozen=True)
class PrefixCache:
    """Keys and values of several prefixes, padded to one length on the right."""

    layers: list[tuple[Tensor, Tensor]]
    """Per layer: keys and values, each [G, heads, P, width of a head]."""
    lengths: Tensor
    """[G] true length of each prefix."""

    def rows(self, groups: Tensor) -> tuple[DynamicCache, Tensor]:
        """The cache of a batch whose rows have these prefixes, and its attention mask [B, P].

        Args:
            groups: [B] index of each row's prefix.
        """
        lengths = self.lengths[groups]
        longest = int(lengths.max())
        parts = [(keys[groups, :, :longest], values[groups, :, :longest]) for keys, values in self.layers]
        mask = torch.arange(longest, device=lengths.device) < lengths[:, None]
        return DynamicCache(parts), mask.long()


def prefix_cache(model: nn.Module, prefixes: Sequence[Sequence[int]], device: torch.device) -> PrefixCache | None:
    """Compute the keys and values of some prefixes in one pass; None where the model keeps another kind of state."""
    longest = max(map(len, prefixes))
    ids = torch.zeros(len(prefixes), longest, dtype=torch.long)
    for i, prefix in enumerate(prefixes):
        ids[i, : len(prefix)] = torch.tensor(prefix)
    lengths = torch.tensor([len(prefix) for prefix in prefixes])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    body = getattr(model, "base_model", model)
    with frozen(model):
        cache = body(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=True).past_key_values
    if type(cache) is not DynamicCache:
        return None
    layers: list[tuple[Tensor, Tensor]] = []
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None or layer.keys.shape[-2] != longest:
            return None  # a recurrent state, or a window that has dropped some
        layers.append((layer.keys, layer.values))
    return PrefixCache(layers, lengths.to(device))
