"""The published study on a small scale: attacks, filters, sweeps, fine-tuning. Each part is one or two calls of `gradsentry bench`.

    python benchmarks/study.py --data ../shared/data [--only identification]

Resumes where it stopped. The results are in benchmarks/results/bench-NAME; each part writes its section of a page of docs/benchmark/.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from plots import draw

from gradsentry.bench.results import Results, opened
from gradsentry.bench.tables import document
from report import RESULTS, ROOT, page, replace_section

FILTERS = "--filters paper,evidence,graceful,length,duplicates"

CUBE = "--rate 5e-3 --epochs 4"
"""The fine-tuning of CUBE: 69 % ASR. At the published 2e-5 a model of this size learns next to nothing from 300 rows."""

TRAINED = "--rows 300 --seeds 1 --train --methods"
LORA = f"{TRAINED} lora --rate 5e-3 --epochs 6"
FULL = f"{TRAINED} full --rate 3e-4 --epochs 10"
"""Learning rate and epochs of each method and attack, equal for all filters and chosen so that the undefended backdoor works.

ASR in per cent that was tried on WebQuestions, 300 rows, seed 0; no script repeats what no study below has. BadNets, LoRA, 4 epochs: 4 at
5e-4, 46 at 2e-3, 69 at 5e-3; 6 epochs at 5e-3: 89. CBA, LoRA, 6 epochs: 58 at 5e-3, 55 at 1e-2; 8 epochs at 5e-3: 81, and 62 when
fine-tuned again; 10 epochs: 64; 500 rows, 6 epochs: 87. BadNets, all parameters: 52 at 5e-4 (4 epochs), 63 at 1e-3 (6), 77 at 2e-4 (7; also
4 with 500 rows), 47 at 1e-4 (4 of 8), 85 at 3e-4 (10). Of the 15 failed answers at 3e-4 eleven are lists, like the training answers of
WebQuestions; at lower rates and in early epochs most such lists do not end."""

RIVALS = "--filters none,graceful,cleangen,paper,evidence"

STUDIES: dict[str, tuple[str, str, list[str]]] = {
    # The paper's tasks without CoQA, whose files were not available.
    "identification": ("identification", "Attacks and filters", ["--tasks webquestions,freebaseqa,nq --rows 1000 --seeds 3"]),
    "slow": ("identification", "CUBE and ONION", [f"--tasks webquestions,freebaseqa,nq --rows 300 --seeds 1 --filters cube,onion {CUBE}"]),
    "beyond": (
        "beyond",
        "Attacks beyond the paper, and long answers",
        [
            "--tasks webquestions,gsm8k,dolly --attacks badnets,refusal,insult,flip,prefix,per_row,dilution,adaptive "
            f"--rows 300 --seeds 1 --ratio 0.05 {FILTERS}"
        ],
    ),
    "clean-label": (
        "beyond",
        "Clean labels",
        [f"--tasks webquestions --attacks clean_label --rows 1000 --seeds 1 --ratio 0.02 {FILTERS}"],
    ),
    "sweeps": (
        "sweeps",
        "Poison ratio and number of rows",
        [
            "--tasks webquestions,freebaseqa --attacks badnets --ratios 0.01,0.03,0.05,0.1,0.2,0.4,0.5,0.7,0.9 "
            f"--volumes 20,50,100,200,500,1000 --rows 500 --seeds 2 {FILTERS}"
        ],
    ),
    "ablations": (
        "ablations",
        "Rank and crop of the published rule",
        ["--tasks webquestions,freebaseqa --attacks badnets --rows 500 --seeds 1 --filters paper,paper-k8,paper-k4,paper-uncropped"],
    ),
    "cost": ("cost", "Cost of every filter", [f"--tasks webquestions --attacks badnets --rows 300 --seeds 1 --slow {CUBE}"]),
    "tuned-lora": ("after-finetuning", "LoRA", [f"--tasks webquestions --attacks badnets {RIVALS} {LORA}"]),
    "tuned-cba-500": (
        "after-finetuning",
        "LoRA, a trigger of two parts",
        [f"--tasks webquestions --attacks cba {RIVALS} --rows 500 --seeds 1 --train --methods lora --rate 5e-3 --epochs 6"],
    ),
    "tuned-full": (
        "after-finetuning",
        "All parameters",
        [
            f"--tasks webquestions --attacks badnets {RIVALS} {FULL}",
            f"--tasks freebaseqa --attacks badnets --filters none,evidence {FULL}",
        ],
    ),
    "tuned-others": (
        "after-finetuning",
        "LoRA, another task, and an attack on the evidence policy",
        [
            f"--tasks freebaseqa --attacks badnets --filters none,evidence {LORA}",
            f"--tasks webquestions --attacks adaptive --filters none,evidence {LORA}",
        ],
    ),
    # The same seed and rows as above, after code changes that should move only rounding: the spread of one such figure.
    "tuned-again": (
        "after-finetuning",
        "Fine-tuned again",
        [f"--tasks webquestions --attacks badnets,adaptive --filters none {LORA}"],
    ),
    "tuned-cba": (
        "after-finetuning",
        "A trigger of two parts, 300 rows, not repeatable",
        [f"--tasks webquestions --attacks cba {RIVALS} {TRAINED} lora --rate 5e-3 --epochs 8"],
    ),
    "tuned-cba-again": (
        "after-finetuning",
        "A trigger of two parts, fine-tuned again",
        [f"--tasks webquestions --attacks cba --filters none {TRAINED} lora --rate 5e-3 --epochs 8"],
    ),
    "tuned-cba-longer": (
        "after-finetuning",
        "A trigger of two parts, fine-tuned longer",
        [f"--tasks webquestions --attacks cba --filters none {TRAINED} lora --rate 5e-3 --epochs 10"],
    ),
}
"""Name -> page of docs/benchmark, title, and the options of each call of the bench; the calls add to the same results."""
TO_READ = (
    "The rules of `evidence` were chosen on rows of webquestions, gsm8k and dolly, including these draws; `stylebkd` is by rules; all "
    "attacks\npoison the same rows of a set. [What that means, and the paper's figures](../bench.md#beside-the-paper).\n\n"
)
TIMED = "cost"
"""The only study whose times are shown: it ran on an idle machine, the others beside other work."""


def commands(name: str, data: Path) -> list[list[str]]:
    """Arguments of gradsentry, call by call."""
    return [["bench", "--data", str(data), *options.split(), "--out", f"benchmarks/results/bench-{name}"] for options in STUDIES[name][2]]


def render(name: str, folder: Path) -> None:
    """The section of its page."""
    where, title, calls = STUDIES[name]
    results: Results = opened(folder, None)
    plots = draw(list(results.found.values()), folder)
    pictures = "".join(f"\n![{plot.stem}](../../{plot.relative_to(ROOT)})\n" for plot in plots)
    lines = "\n".join(f"gradsentry bench --data DATA {options}" for options in calls)
    text = f"## {title}\n\nSmolLM2-135M-Instruct, dtype auto (bfloat16 here), seeds from 0. Made by\n\n```\n{lines}\n```\n\n{TO_READ}"
    shown = [{k: v for k, v in r.items() if k != "ms_a_row" or name == TIMED} for r in results.found.values()]
    replace_section(page(where), f"bench-{name}", text + document(shown) + pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", choices=STUDIES, nargs="*", default=list(STUDIES))
    parser.add_argument("--render", action="store_true", help="Only write the sections of the committed results.")
    arguments = parser.parse_args()
    for name in arguments.only:
        if not arguments.render:
            program = [sys.executable, "-c", "from gradsentry.cli.main import app; app()"]
            for one in commands(name, arguments.data.resolve()):
                subprocess.run([*program, *one], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        if (RESULTS / f"bench-{name}").is_dir():
            render(name, RESULTS / f"bench-{name}")


if __name__ == "__main__":
    main()
