"""What the evidence policy adds to the time of a scan: the same rows with either policy, in turn.

    python benchmarks/evidence_cost.py --data ../shared/data

Both policies keep the token surprises; only the evidence reads them and searches for findings. Writes its section of
docs/benchmark/cost.md and
benchmarks/results/evidence-cost.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from growth import run

from gradsentry.bench.attacks import poison
from gradsentry.bench.tasks import sample
from report import machine, page, replace_section, save, table

TASKS = ("webquestions", "dolly")
POLICIES = ("paper", "evidence")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    results, lines = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task in TASKS:
            file = folder / f"{task}.jsonl"
            rows = poison(sample(task, arguments.data, arguments.rows, 0), "badnets", 0.1, 0).rows
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            seconds: dict[str, list[float]] = {policy: [] for policy in POLICIES}
            for number in range(arguments.rounds):
                for policy in POLICIES:
                    taken, _ = run(file, None, folder / f"{task}-{number}-{policy}", "--policy", policy)
                    seconds[policy].append(taken)
                    results.append({"task": task, "rows": len(rows), "round": number, "policy": policy, "seconds": round(taken, 2)})
            plain, whole = (statistics.median(seconds[policy]) for policy in POLICIES)
            spread = [f"{statistics.median(own):.1f} ({min(own):.1f}-{max(own):.1f})" for own in seconds.values()]
            lines.append([task, len(rows), *spread, f"{100 * (whole / plain - 1):.1f} %"])
    save("evidence-cost", {"machine": machine(), "model": "SmolLM2-135M-Instruct", "results": results})
    text = (
        "## Time of the evidence policy\n\n`gradsentry scan` with either policy, start-up and reports included, SmolLM2-135M-Instruct, "
        f"{arguments.rounds} rounds in turn: medians\n(range) in seconds. Made by `benchmarks/evidence_cost.py`.\n\n"
    )
    header = ["set", "rows", "`--policy paper`", "`--policy evidence`", "the evidence adds"]
    replace_section(page("cost"), "evidence-cost", text + table(header, lines))


if __name__ == "__main__":
    main()
