"""What scoring asks of a device, counted on a CPU: operators and host reads.

    python benchmarks/device_counts.py --data ../shared/data

A GPU runs an operator in microseconds, but a launch costs 5 to 10 of them, and a host read waits for all operators before it. So
both must be few, whatever the number of rows. They are counted on CPU tensors, with models of two layers and random weights.
Writes benchmarks/results/device-counts.json, whose counts of the code "before" are those of the commit that added this file, and a
section of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import varlen_reference  # noqa: F401  a CPU kernel for the attention of a GPU
from rows import SETS, encoded_rows
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer, Gemma2Config, GPT2Config, LlamaConfig, PreTrainedModel, Qwen2Config
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from gradsentry import Scorer
from gradsentry.model import embedded
from gradsentry.model.device import sizes_for
from gradsentry.types import Encoded
from report import RESULTS, ROOT, machine, replace_section, save, table

READING = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_linalg_eigh"}
"""Operators after which the host waits for the device: their result, its shape, or an error code is read."""

COPYING = {"cpu", "tolist"}
"""Methods of a tensor that copy it to the host; so does `.to("cpu")`."""

TOKEN_BUDGET = 16384
"""Tokens in a batch, as on CUDA."""

VOCABULARY = 49152
"""Of the embedded model, whose tokenizer encodes the rows."""

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCABULARY}


GPU = replace(sizes_for(torch.device("cuda"), 64 * 2**30), solving_threads=1)
"""What a GPU with 64 GiB of free memory computes at once. One thread, because operators of another thread are not seen."""


@dataclass
class Counts:
    """What was counted on the device."""

    operators: Counter[str] = field(default_factory=Counter)
    """Operators other than views, by name."""
    reads: Counter[str] = field(default_factory=Counter)
    """Host reads, by the name of what reads."""
    host_operators: int = 0
    """Operators other than views on results that the host has, while the device computes the next batch."""
    batches: int = 0
    on_device: bool = True
    """False while the host works on results that it has."""


class _Operators(TorchDispatchMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if self.counts.on_device and name in READING:
            self.counts.reads[name] += 1
        if self.counts.on_device and not func.is_view:
            self.counts.operators[name] += 1
        self.counts.host_operators += not self.counts.on_device and not func.is_view
        return func(*args, **(kwargs or {}))


class _Copies(TorchFunctionMode):
    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if (
            self.counts.on_device
            and func is getattr(torch.Tensor, name, None)
            and (name in COPYING or (name == "to" and args[1:2] == ("cpu",)))
        ):
            self.counts.reads[name] += 1
        return func(*args, **(kwargs or {}))


def score_counted(scorer: Scorer, rows: Sequence[Encoded]) -> Counts:
    """Operators and host reads for scoring these rows, without what the scorer computes once for its model."""
    scorer.score_encoded(rows[:2])
    counts = Counts()
    finished = scorer._finished

    def on_host(*args: Any) -> Iterator[Any]:
        counts.on_device = False
        yield from finished(*args)
        counts.on_device = True
        counts.batches += 1

    with patch.object(scorer, "_finished", on_host), scorer.scoring(), _Operators(counts), _Copies(counts):
        scores = scorer.score_encoded(rows)
    assert all(score.status == "scored" for score in scores)
    return counts


def models() -> dict[str, PreTrainedModel]:
    """Models of two layers with random weights."""
    configs: dict[str, Any] = {
        "llama": LlamaConfig(**SMALL),
        "qwen2": Qwen2Config(**SMALL, num_key_value_heads=2, tie_word_embeddings=True),
        "gemma2": Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=16, sliding_window=4096),
        "gpt2": GPT2Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, n_embd=64, n_layer=2, n_head=4, n_positions=8192),
    }
    torch.manual_seed(0)
    return {name: MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).eval() for name, config in configs.items()}


def section(results: list[dict[str, Any]]) -> str:
    """The table of docs/performance.md."""
    lines = []
    for after in (result for result in results if result["code"] == "after"):
        before = next(old for old in results if (old["code"], old["model"], old["set"]) == ("before", after["model"], after["set"]))
        a_row = [result["operators"] / result["rows"] for result in (before, after)]
        reads = f"{after['reads']} in {after['batches']}"
        counts = [f"{before['operators']:,}", f"{before['reads']:,}", f"{after['operators']:,}", reads, f"{after['host_operators']:,}"]
        lines.append([after["model"], after["set"], *counts, f"{a_row[0]:.0f}", f"{a_row[1]:.1f}", f"{a_row[0] / a_row[1]:.0f}"])
    header = ["model", "rows", "operators before", "reads before", "operators", "reads in batches", "on the host"]
    text = (
        f"## Operators and host reads\n\nOperators other than views, and host reads, for {results[0]['rows']} rows in batches of "
        f"{TOKEN_BUDGET:,} tokens; models of two layers with\nrandom weights, on CPU tensors with the sizes of a GPU. On the host: "
        "operators for eigenvalues and entropies, which run beside\nthe next batch; before, the device had them too. Made by "
        "`benchmarks/device_counts.py`.\n\n"
    )
    return text + table([*header, "operators a row before", "operators a row", "times fewer"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--only", help="one model")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(embedded.locate())
    path = RESULTS / "device-counts.json"
    results = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    for name, model in models().items():
        if arguments.only not in (None, name):
            continue
        scorer = Scorer(model, tokenizer, token_budget=TOKEN_BUDGET, sizes=GPU)
        for set_name, make in SETS.items():
            rows = encoded_rows(scorer, make(arguments.data, arguments.rows))
            counts = score_counted(scorer, rows)
            found = {"code": "after", "model": name, "set": set_name, "rows": len(rows)}
            results = [old for old in results if any(old[key] != value for key, value in found.items())]
            found |= {"batches": counts.batches, "operators": counts.operators.total(), "reads": counts.reads.total()}
            found |= {"host_operators": counts.host_operators, "most": dict(counts.operators.most_common(6))}
            print(found, flush=True)
            results.append(found)
    save("device-counts", {"machine": machine(), "token_budget": TOKEN_BUDGET, "results": results})
    replace_section(ROOT / "docs" / "performance.md", "device_counts", section(results))


if __name__ == "__main__":
    main()
