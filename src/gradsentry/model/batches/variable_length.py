"""Attention of a packed batch by torch's variable-length kernel: one or two calls a layer, however many rows there are.

In the first call each row's new tokens attend to keys that are gathered along the row's path. A common beginning of many rows is not
gathered for each of them: in the second call all of those rows attend to one copy of it, and their two results are merged by the
logarithms of their softmax denominators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.varlen import AuxRequest, varlen_attn

from gradsentry.model.batches.prefix_tree import Batch, Ints, RowPath
from gradsentry.model.device import to_device


@dataclass(frozen=True)
class _Call:
    """One call of the kernel: the queries of segment i attend to the keys of segment i."""

    keys: Tensor
    """[K] node of each key, one segment behind the other."""
    query_starts: Tensor
    """[B + 1] int32: where each segment's queries begin, and their number."""
    key_starts: Tensor
    """[B + 1] int32: where each segment's keys begin, and their number."""
    longest: tuple[int, int]
    """Most queries and most keys of a segment."""
    causal: bool
    """Whether a segment's last query attends to all of its keys, and each one before it to one key less; otherwise all attend to all."""

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float | None) -> tuple[Tensor, Tensor]:
        """query [Q, H, D], keys and values [nodes, key heads, D] -> [Q, H, D] and the logarithms of the denominators [Q, H] float32."""
        result: Any = varlen_attn(
            query,
            keys[self.keys],
            values[self.keys],
            self.query_starts,
            self.key_starts,
            *self.longest,
            return_aux=AuxRequest(lse=True),
            scale=scaling,
            window_size=(-1, 0) if self.causal else (-1, -1),
            enable_gqa=query.shape[1] != keys.shape[1],
        )
        return result[0], result[1].mT  # the kernel returns [H, Q], whatever torch's documentation says


@dataclass(frozen=True)
class VariableLengths:
    """The calls that a layer needs for a batch of N tokens."""

    own: _Call
    """Of all tokens, in order."""
    beginnings: _Call | None
    """Of the tokens behind common beginnings, over these; None where there are none."""
    behind: Tensor
    """Those tokens: [M] their indices in the batch."""

    @staticmethod
    def of(batch: Batch, device: torch.device) -> VariableLengths:
        """The calls for a batch."""
        own_keys: list[Ints] = []
        own_queries: list[int] = []
        begin_keys: list[Ints] = []
        begin_queries: list[Ints] = []
        for group in groups(batch.paths):
            first, others = group.members[0], group.members[1:]
            n_queries = [len(path.nodes) - path.n_shared for path in group.members]
            kept_apart = group.common * (len(others) - 1) >= sum(n_queries[1:])
            own_keys += [first.nodes, *(path.nodes[group.common if kept_apart else 0 :] for path in others)]
            own_queries += n_queries
            if kept_apart and others:
                begin_keys.append(first.nodes[: group.common])
                begin_queries.append(np.concatenate([path.nodes[path.n_shared :] for path in others]) - batch.carried)
        own = _call(own_queries, own_keys, True, device)
        if not begin_keys:
            return VariableLengths(own, None, to_device(np.empty(0, dtype=np.int64), device))
        beginnings = _call([len(part) for part in begin_queries], begin_keys, False, device)
        return VariableLengths(own, beginnings, to_device(np.concatenate(begin_queries), device))

    def to(self, device: torch.device) -> VariableLengths:
        """The same calls on a layer's device; a model may be spread over several devices."""
        if self.behind.device == device:
            return self
        return VariableLengths(_moved(self.own, device), self.beginnings and _moved(self.beginnings, device), self.behind.to(device))

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float | None) -> Tensor:
        """query [N, H, D], keys and values [nodes, key heads, D] -> [N, H, D]."""
        result, log_sums = self.own.attend(query, keys, values, scaling)
        if self.beginnings is None:
            return result
        other, other_log_sums = self.beginnings.attend(query[self.behind], keys, values, scaling)
        share = torch.sigmoid(log_sums[self.behind] - other_log_sums)[..., None]  # of the first call's denominator in both
        merged = other.float().lerp(result[self.behind].float(), share).to(result.dtype)
        return result.index_copy(0, self.behind, merged)


def _call(n_queries: Sequence[int], keys: Sequence[Ints], causal: bool, device: torch.device) -> _Call:
    n_keys = [len(part) for part in keys]
    starts = to_device(np.cumsum([[0, *n_queries], [0, *n_keys]], axis=1).astype(np.int32), device)
    return _Call(to_device(np.concatenate(keys), device), starts[0], starts[1], (max(n_queries), max(n_keys)), causal)


def _moved(call: _Call, device: torch.device) -> _Call:
    keys, query_starts, key_starts = (part.to(device) for part in (call.keys, call.query_starts, call.key_starts))
    return _Call(keys, query_starts, key_starts, call.longest, call.causal)


@dataclass
class Group:
    """Consecutive rows of a batch with a common beginning."""

    common: int
    """Its number of tokens. The first row may add some of them to the tree; all other rows find them there."""
    members: list[RowPath] = field(default_factory=list)
    """The rows that add tokens."""


def groups(paths: Sequence[RowPath]) -> Iterator[Group]:
    """The rows that add tokens, in groups that need few keys if each group's beginning is gathered once.

    A row joins the group before it unless the shorter common beginning would cost the rows there more keys than the row would save.
    """
    group: Group | None = None
    shared = 0  # tokens that the row has in common with the last member of the group
    for path in paths:
        shared = min(shared, path.n_shared)
        if path.n_shared == len(path.nodes):
            continue
        if group is not None:
            common = min(group.common, shared)
            if common and (group.common - common) * (len(group.members) - 1) <= common:
                group.common = common
                group.members.append(path)
            else:
                yield group
                group = None
        group = group or Group(len(path.nodes), [path])
        shared = len(path.nodes)
    if group is not None:
        yield group
