"""Which batch size keeps this machine busy: ms a row for several token budgets, in turn, medians over rounds.

python benchmarks/token_budget.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from rows import encoded_rows, webquestions

from gradsentry import Scorer
from report import ROOT, machine, replace_section, save, table

BUDGETS = (256, 512, 1024, 2048, 4096)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    scorer = Scorer(dtype=arguments.dtype)
    encoded = encoded_rows(scorer, webquestions(arguments.data, arguments.rows))
    scorer.score_encoded(encoded)  # warm-up
    times: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    for _ in range(arguments.rounds):
        for budget in BUDGETS:
            started = time.perf_counter()
            scorer.score_encoded(encoded, token_budget=budget)
            times[budget].append(1000 * (time.perf_counter() - started) / len(encoded))
    save("token_budget", {"machine": machine(), "dtype": scorer.loaded.dtype, "rows": len(encoded), "ms_per_row": times})
    rows = [[budget, f"{statistics.median(values):.1f}", f"{min(values):.1f}-{max(values):.1f}"] for budget, values in times.items()]
    text = (
        "## Tokens in a batch\n\n"
        f"{len(encoded)} WebQuestions rows as `scan` scores them, SmolLM2-135M-Instruct in {scorer.loaded.dtype}, {machine()['cpu']},\n"
        f"{arguments.rounds} rounds in turn in one process. Made by `benchmarks/token_budget.py`.\n\n"
        + table(["`--token-budget`", "ms a row, median", "range"], rows)
    )
    replace_section(ROOT / "docs" / "performance.md", "token_budget", text)


if __name__ == "__main__":
    main()
