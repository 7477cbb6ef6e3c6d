"""Time of the ways to compute attention, by length: the reason for the way that `gradsentry` takes.

    python benchmarks/attention_ways.py

Random queries, keys and values of the embedded model's shapes. The ways take turns; each time is a multiple of the first way's time in the
same round. Writes its section of docs/performance.md and benchmarks/results/attention-ways.json. Nothing
else should run on the machine.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from performance import DOCUMENT, MODEL, in_turn, spread
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from report import machine, replace_section, save, table

HEADS, KEY_HEADS, WIDTH = 9, 3, 64
"""SmolLM2-135M: query heads, key heads, width of a head."""
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
TOKENS = 4096
"""Tokens in a call: as many rows of a length as fit, at least one."""
CALLS = 5
"""Calls in one timing."""


def causal(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Torch's kernel with its built-in causal mask: it skips most of the hidden part."""
    return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


def masked(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Torch's kernel with an explicit mask."""
    return scaled_dot_product_attention(query, key, value, attn_mask=visible, enable_gqa=True)


def written_out(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Two products with a softmax between them."""
    key, value = (part.repeat_interleave(HEADS // KEY_HEADS, 1) for part in (key, value))
    logits = (query @ key.mT) * query.shape[-1] ** -0.5
    return logits.masked_fill_(~visible, float("-inf")).softmax(-1) @ value


Way = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""[B, H, S, D] queries, [B, K, S, D] keys and values, [S, S] whether a query sees a key -> [B, H, S, D]."""

WAYS: dict[str, tuple[Way, torch.dtype]] = {
    "causal kernel, float32": (causal, torch.float32),
    "mask written out, float32": (masked, torch.float32),
    "causal kernel, bfloat16": (causal, torch.bfloat16),
    "softmax and products written out, float32": (written_out, torch.float32),
}


def parts(length: int, kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values and the causal mask."""
    generator = torch.Generator().manual_seed(length)
    rows = max(1, TOKENS // length)
    query, key, value = (torch.randn(rows, n, length, WIDTH, generator=generator).to(kind) for n in (HEADS, KEY_HEADS, KEY_HEADS))
    return query, key, value, torch.ones(length, length, dtype=torch.bool).tril()


def repeated(way: Way, given: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    for _ in range(CALLS):
        way(*given)


def measure(length: int, rounds: int) -> dict[str, Any]:
    """Seconds a call of each way, round by round, and the largest difference of its result from the first way's."""
    given = {kind: parts(length, kind) for _, kind in WAYS.values()}
    results = {name: way(*given[kind]) for name, (way, kind) in WAYS.items()}
    first, rows = next(iter(results.values())), len(given[torch.float32][0])
    moved = {name: float((result - first).abs().max()) for name, result in results.items()}
    seconds = in_turn({name: partial(repeated, way, given[kind]) for name, (way, kind) in WAYS.items()}, rounds)
    return {"length": length, "rows": rows, "seconds": {n: [s / CALLS for s in own] for n, own in seconds.items()}, "moved": moved}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    results = [measure(length, arguments.rounds) for length in arguments.lengths]
    save("attention-ways", {"machine": machine(), "shapes": MODEL, "tokens": TOKENS, "calls": CALLS, "results": results})
    first, *others = WAYS
    lines = []
    for result in results:
        base = result["seconds"][first]
        ratios = [[s / b for s, b in zip(result["seconds"][name], base, strict=True)] for name in others]
        milliseconds = 1000 * statistics.median(base)
        lines.append([result["length"], result["rows"], f"{milliseconds:.1f}", *(spread(ratio, 2) for ratio in ratios)])
    text = (
        "## Ways to attend\n\n"
        f"Attention of one layer of {MODEL} ({HEADS} heads, {KEY_HEADS} of keys, {WIDTH} wide), {machine()['cpu']}: milliseconds for\n"
        "all rows with torch's causal kernel in float32, and, as multiples of that, the other ways; medians (range) of "
        f"{arguments.rounds} rounds in turn.\nMade by `benchmarks/attention_ways.py`.\n\n"
    )
    header = ["length", "rows at once", f"{first}, ms", *(f"{name}, times" for name in others)]
    replace_section(DOCUMENT, "attention_ways", text + table(header, lines))


if __name__ == "__main__":
    main()
