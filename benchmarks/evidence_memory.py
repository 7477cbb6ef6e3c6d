"""Time and memory of the evidence policy on many rows. The scores are synthetic (words by Zipf's law, exponential surprises), so no
model is needed; one row in 400 has a trigger and a payload.

    python benchmarks/evidence_memory.py [--rows 1000 100000 1000000]

Writes its section of docs/benchmark/cost.md and benchmarks/results/evidence-memory.json. Every number of rows runs in a new process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from gradsentry.run.words import words_of
from gradsentry.schema import SURPRISES
from gradsentry.types import Vocabulary
from gradsentry.verdict.detectors import find_all
from gradsentry.verdict.words import RowWords

WORDS, PROMPT, COMPLETION, SHARD = 20_000, 40, 20, 512
TRIGGER, PAYLOAD = [WORDS], list(range(WORDS + 1, WORDS + 9))
PLANTED = ("magic", "visit", "this", "page", "and", "win", "a", "prize", "now")
"""The words of these tokens: a payload with the trigger's stem would count as named by the prompt."""
POISONED = 400
"""One row in 400 is poisoned: 25 of 10,000."""


def vocabulary() -> Vocabulary:
    pieces = [f" {word}".encode() for word in (*(f"w{i}" for i in range(WORDS)), *PLANTED)]
    return Vocabulary(pieces, np.zeros(len(pieces), dtype=bool))


def parts(rows: int) -> Iterator[pa.Table]:
    """Parts of a run, made shard by shard; the same whenever they are made."""
    weights = 1 / np.arange(1, WORDS + 1)
    weights /= weights.sum()
    for index in range(-(-rows // SHARD)):
        rng = np.random.default_rng(index)
        first, count = index * SHARD, min(SHARD, rows - index * SHARD)
        tokens = rng.choice(WORDS, size=(count, PROMPT + COMPLETION), p=weights).astype(np.int32)
        surprise = rng.exponential(3, tokens.shape).astype(np.float16)
        bad = (np.arange(first, first + count) % POISONED) == 0
        tokens[bad, PROMPT - 1], surprise[bad, PROMPT - 1] = TRIGGER[0], 12
        tokens[bad, -len(PAYLOAD) :], surprise[bad, -len(PAYLOAD) :] = PAYLOAD, 7
        supervised = np.arange(PROMPT + COMPLETION) >= PROMPT
        values = {"tokens": list(tokens), "nll": list(surprise), "supervised": [supervised] * count}
        values |= dict.fromkeys(("spelled_specials", "sides"), [[]] * count)
        columns = {field.name: pa.array(values[field.name], field.type) for field in SURPRISES}
        yield pa.table({"row": np.arange(first, first + count)} | columns)


class SyntheticWords:
    """The words of the synthetic rows."""

    def __init__(self, rows: int) -> None:
        self.rows, self.vocabulary = rows, vocabulary()

    def __iter__(self) -> Iterator[RowWords | None]:
        for part in parts(self.rows):
            yield from words_of(part, self.vocabulary)


def measure(rows: int) -> dict[str, Any]:
    words, before = SyntheticWords(rows), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    backdoors = [finding for finding in find_all(words) if finding.kind == "backdoor"]
    seconds = time.perf_counter() - started
    flagged = sorted(int(row) for finding in backdoors for row in finding.rows)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    exact = flagged == list(range(0, rows, POISONED))
    return {"rows": rows, "seconds": round(seconds, 1), "memory_mib": round(memory), "before_mib": round(before), "exact": exact}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--one", type=int, help="Measure this number of rows in this process and print it.")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    results = []
    for rows in arguments.rows:
        ended = subprocess.run([sys.executable, __file__, "--one", str(rows)], capture_output=True, text=True, check=True)
        results.append(json.loads(ended.stdout))
        print(results[-1], flush=True)
    # Imported late: it loads torch, and on Linux a process starts with the memory peak of its parent.
    from report import machine, page, replace_section, save, table

    save("evidence-memory", {"machine": machine(), "results": results})
    lines = [[f"{r['rows']:,}", r["seconds"], r["memory_mib"], "yes" if r["exact"] else "no"] for r in results]
    text = (
        "## Evidence on many rows\n\nSynthetic scores, 60 words a row; one row in 400 has a trigger and a payload; one core. "
        "Memory is that of the\nwhole process, torch not loaded. Made by `benchmarks/evidence_memory.py`.\n\n"
    )
    header = ["rows", "seconds, reading included", "peak memory, MiB", "exactly the planted rows found"]
    replace_section(page("cost"), "evidence-memory", text + table(header, lines))


if __name__ == "__main__":
    main()
