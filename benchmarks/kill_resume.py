"""Kill a scan with SIGKILL at random moments, resume it with 1, 2 and 4 workers in turn, and compare every part byte by byte.

OMP_NUM_THREADS=1 python benchmarks/kill_resume.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gradsentry.bench.attacks import poison
from gradsentry.bench.tasks import sample
from report import machine, save

KILLS = 10
WORKERS = (1, 2, 4)


def command(data: Path, model: Path | None, out: Path, workers: int) -> list[str]:
    """The command line. On fewer than four cores the workers share those that there are: here they are to be many, not fast."""
    program = (
        "from gradsentry.run import devices; own = devices.cores(); devices.cores = lambda: (own * 4)[: max(4, len(own))]; "
        "from gradsentry.cli.main import app; app()"
    )
    chosen = ["--model", str(model)] if model else []
    options = ["--out", str(out), "--shard-rows", "16", "--threshold", "0.7", "--workers", str(workers), *chosen]
    return [sys.executable, "-c", program, "scan", str(data), *options]


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "scores").glob("part-*.parquet"))}


def killed(line: list[str], out: Path, scoring: float, chance: random.Random) -> dict[str, float | int | str]:
    """Start, wait until a new part is there, wait a random part of the time that scoring takes, kill."""
    before = len(parts(out))
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(parts(out)) == before and process.poll() is None:
        time.sleep(0.002)
    delay = chance.uniform(0, scoring / KILLS)
    time.sleep(delay)
    how = "killed" if process.poll() is None else "had ended"
    process.kill()
    process.wait()
    left = len(list(out.rglob(".part-*")))
    return {"how": how, "after_first_part_s": round(delay, 3), "parts": len(parts(out)), "half_written": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="Default: the embedded model.")
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the number of threads moves the last bits
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = work / "data.jsonl"
        rows = poison(sample("webquestions", arguments.data, arguments.rows, 0), "badnets", 0.1, 0).rows
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        whole, out = work / "whole", work / "run"
        subprocess.run(command(data, arguments.model, whole, 1), check=False, stdout=subprocess.DEVNULL)
        times = sorted(path.stat().st_mtime for path in (whole / "scores").glob("part-*"))
        results = []
        for kill in range(KILLS):
            workers = WORKERS[kill % len(WORKERS)]
            results.append({"workers": workers, **killed(command(data, arguments.model, out, workers), out, times[-1] - times[0], chance)})
            print(results[-1], flush=True)
        ends = {}
        for workers in WORKERS:  # the same stopped run, ended by each number of workers
            copy = work / f"end-{workers}"
            shutil.copytree(out, copy)
            subprocess.run(command(data, arguments.model, copy, workers), check=False, stdout=subprocess.DEVNULL)
            same = parts(copy) == parts(whole) and (copy / "verdicts.parquet").read_bytes() == (whole / "verdicts.parquet").read_bytes()
            ends[workers] = {"equal_bytes": same, "half_written": len(list(copy.rglob(".part-*")))}
            print(workers, "workers end it:", ends[workers], flush=True)
        model = arguments.model.name if arguments.model else "embedded"
        save("kill_resume", {"machine": machine(), "model": model, "rows": len(rows), "shards": len(times), "kills": results, "ends": ends})


if __name__ == "__main__":
    main()
