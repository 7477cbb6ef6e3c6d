"""Time and memory of `gradsentry scan` as a user types it, on 1,000 to 100,000 rows and a tiny model."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from report import ROOT, machine, replace_section, save, table

ROWS = (1_000, 10_000, 100_000)
VOCABULARY = 4096
"""Tokens at most."""
WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "islet", "jetty", "kiosk", "ledge", "mango", "north"]


def tiny_model(folder: Path) -> None:
    """A random Llama of two layers and a tokenizer of bytes and the commonest pieces of the rows' words."""
    torch.manual_seed(0)
    pieces = Tokenizer(BPE())
    pieces.pre_tokenizer = ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(vocab_size=VOCABULARY, special_tokens=["</s>"], initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    pieces.train_from_iterator([" ".join(WORDS), *map(str, range(1000))], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_rows(path: Path, count: int) -> None:
    """Rows of random words, no two alike."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            prompt, completion = (" ".join(rng.choices(WORDS, k=n)) for n in (12, 8))
            file.write(json.dumps({"prompt": f"{prompt} {number}", "completion": f" {completion}"}) + "\n")


def run(data: Path, model: Path | None, out: Path, *options: str) -> tuple[float, float]:
    """Wall seconds and peak MiB of one scan, as the system counts them when the process ends; without a model the embedded one's."""
    chosen = ["--model", str(model)] if model else []
    program = [sys.executable, "-c", "from gradsentry.cli.main import app; app()", "scan", str(data), "--out", str(out), *chosen, *options]
    started = time.perf_counter()
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(said.decode())
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def growth(rounds: int) -> None:
    """Scans of growing files in turn."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_model(folder / "model")
        for count in ROWS:
            write_rows(folder / f"{count}.jsonl", count)
        for number in range(rounds):
            for count in ROWS:
                seconds, memory = run(folder / f"{count}.jsonl", folder / "model", folder / f"run-{number}-{count}")
                results.append({"rows": count, "round": number, "seconds": seconds, "memory_mib": memory})
    save("performance-growth", {"machine": machine(), "model": "random Llama, 2 layers, width 64", "results": results})
    seconds, memory = ({count: [r[key] for r in results if r["rows"] == count] for count in ROWS} for key in ("seconds", "memory_mib"))
    start = statistics.median(seconds[ROWS[0]])
    lines = []
    for count in ROWS:
        each = "" if count == ROWS[0] else f"{1000 * (statistics.median(seconds[count]) - start) / (count - ROWS[0]):.2f}"
        low, high = min(memory[count]), max(memory[count])
        wall = f"{statistics.median(seconds[count]):.1f} ({min(seconds[count]):.1f}-{max(seconds[count]):.1f})"
        lines.append([f"{count:,}", wall, each, f"{statistics.median(memory[count]):.0f} ({low:.0f}-{high:.0f})"])
    text = (
        "## Growth with the rows\n\n`gradsentry scan` as a user types it, start-up and reports included, on a random Llama of two\n"
        f"layers with a tokenizer of its own; {rounds} rounds in turn: medians (range). The third column is what each row\n"
        "beyond the first thousand takes. Made by `benchmarks/performance.py`.\n\n"
    )
    header = ["rows", "seconds", "ms a further row", "peak memory of the process, MiB"]
    replace_section(ROOT / "docs" / "performance.md", "growth", text + table(header, lines))
