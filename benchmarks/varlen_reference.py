"""A CPU kernel for torch's variable-length attention, written out segment by segment, so that the code for a GPU runs anywhere.

torch has this kernel for CUDA only. Importing this module registers the reference under the same operator, `torch_attn::_varlen_attn`;
to a dispatch mode it is one operator, as on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import varlen


@varlen._varlen_attn.register_kernel("cpu")
def reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    _max_q: int,
    _max_k: int,
    is_causal: bool = False,
    scale: float | None = None,
    window_size: list[int] | None = None,
    *_others: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """query [Q, H, D], key and value [K, key heads, D] -> [Q, H, D], log-sum-exp [H, Q], a state that nobody reads.

    As in flash attention, the causal mask ends at the last query and the last key of a segment.
    """
    assert window_size == ([-1, 0] if is_causal else [-1, -1])
    assert query.shape[-1] % 8 == 0, "flash attention has no other head widths"
    repeats = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    result, log_sums = torch.empty_like(query), query.new_empty(query.shape[1], len(query), dtype=torch.float32)
    starts = zip(query_starts.tolist(), query_starts.tolist()[1:], key_starts.tolist(), key_starts.tolist()[1:], strict=False)
    for first, last, first_key, last_key in starts:
        q = query[first:last].transpose(0, 1).double()
        k, v = (part[first_key:last_key].transpose(0, 1).double().repeat_interleave(repeats, 0) for part in (key, value))
        logits = scale * q @ k.mT
        if is_causal:
            n_queries, n_keys = logits.shape[1:]
            visible = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
            logits = logits.masked_fill(~visible, float("-inf"))
        log_sums[:, first:last] = logits.logsumexp(-1)
        result[first:last] = (logits.softmax(-1) @ v).transpose(0, 1).to(query.dtype)
    return result, log_sums, torch.zeros(2, dtype=torch.uint64)
