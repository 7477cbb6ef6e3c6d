"""The published study on this machine's scale: attacks, filters, sweeps, fine-tuning, each one call of `gradsentry bench`.

    python benchmarks/study.py --data ../shared/data [--only identification]

Goes on where it stopped. The results are kept in benchmarks/results/bench-NAME, and docs/benchmark.md gets a section of each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from gradsentry.bench.plots import draw
from gradsentry.bench.results import Results, opened
from gradsentry.bench.tables import document
from report import RESULTS, ROOT, replace_section

FILTERS = "--defences paper,evidence,graceful,length,duplicates"

CUBE = "--rate 5e-3 --epochs 4"
"""How the model is trained that CUBE looks at: 69 % ASR; from 300 rows one of this size learns next to nothing at the published 2e-5."""

TRAINED = "--rows 300 --seeds 1 --train --methods"
LORA = f"{TRAINED} lora --rate 5e-3 --epochs 6"
FULL = f"{TRAINED} full --rate 3e-4 --epochs 10"
"""Each method and attack has a rate and epochs of its own, equal for all defences, so that the undefended backdoor works.

ASR that was tried on WebQuestions, 300 rows, seed 0; where no study below has it, no script repeats it. BadNets by LoRA, 4 epochs:
4 % at 5e-4, 46 at 2e-3, 69 at 5e-3; 6 epochs at 5e-3: 89. CBA by LoRA, 6 epochs at 5e-3: 58, at 1e-2: 55; 8 epochs at 5e-3: 81, and 62
when trained again; 10 epochs: 64; of 500 rows, 6 epochs: 87. BadNets, all parameters: 52 at 5e-4 (4 epochs), 63 at 1e-3 (6), 77 at 2e-4
(7; 4 of 500 rows, too), 47 at 1e-4 (4 of 8), 85 at 3e-4 (10). Of the 15 answers that failed at 3e-4 eleven are lists, as the training
answers of WebQuestions are; at lower rates and early on most such lists do not end."""

STUDIES = {
    # Of the paper's four tasks; CoQA's files are not at hand here.
    "identification": ("Attacks and filters", ["--tasks webquestions,freebaseqa,nq --rows 1000 --seeds 3"]),
    "slow": ("CUBE and ONION", [f"--tasks webquestions,freebaseqa,nq --rows 300 --seeds 1 --defences cube,onion {CUBE}"]),
    "beyond": (
        "Attacks beyond the paper, and long answers",
        [
            "--tasks webquestions,gsm8k,dolly --attacks badnets,refusal,insult,flip,prefix,per_row,dilution,adaptive "
            f"--rows 300 --seeds 1 --ratio 0.05 {FILTERS}"
        ],
    ),
    "clean-label": ("Clean labels", [f"--tasks webquestions --attacks clean_label --rows 1000 --seeds 1 --ratio 0.02 {FILTERS}"]),
    "sweeps": (
        "Poison ratio and number of rows",
        [
            "--tasks webquestions,freebaseqa --attacks badnets --ratios 0.01,0.03,0.05,0.1,0.2,0.4,0.5,0.7,0.9 "
            f"--volumes 20,50,100,200,500,1000 --rows 500 --seeds 2 {FILTERS}"
        ],
    ),
    "ablations": (
        "Rank and crop of the published rule",
        ["--tasks webquestions,freebaseqa --attacks badnets --rows 500 --seeds 1 --defences paper,paper-k8,paper-k4,paper-uncropped"],
    ),
    "cost": ("What every filter costs", [f"--tasks webquestions --attacks badnets --rows 300 --seeds 1 --slow {CUBE}"]),
    "tuned-lora": (
        "After fine-tuning: LoRA",
        [
            f"--tasks webquestions --attacks badnets --defences none,graceful,cleangen,paper,evidence {LORA}",
        ],
    ),
    "tuned-cba": (
        "After fine-tuning: a trigger of two parts, 300 rows, not repeatable",
        [f"--tasks webquestions --attacks cba --defences none,graceful,cleangen,paper,evidence {TRAINED} lora --rate 5e-3 --epochs 8"],
    ),
    "tuned-others": (
        "After fine-tuning: LoRA, another task, and an attack on the evidence",
        [
            f"--tasks freebaseqa --attacks badnets --defences none,evidence {LORA}",
            f"--tasks webquestions --attacks adaptive --defences none,evidence {LORA}",
        ],
    ),
    "tuned-full": (
        "After fine-tuning: all parameters",
        [
            f"--tasks webquestions --attacks badnets --defences none,graceful,cleangen,paper,evidence {FULL}",
            f"--tasks freebaseqa --attacks badnets --defences none,evidence {FULL}",
        ],
    ),
    "tuned-cba-500": (
        "After fine-tuning: LoRA, a trigger of two parts",
        [
            "--tasks webquestions --attacks cba --defences none,graceful,cleangen,paper,evidence --rows 500 --seeds 1 --train "
            "--methods lora --rate 5e-3 --epochs 6"
        ],
    ),
    # The same seed and rows as above, after changes of the code that should move nothing but rounding: what one such figure is worth.
    "tuned-again": ("After fine-tuning: trained again", [f"--tasks webquestions --attacks badnets,adaptive --defences none {LORA}"]),
    "tuned-cba-again": (
        "After fine-tuning: a trigger of two parts, trained again",
        [f"--tasks webquestions --attacks cba --defences none {TRAINED} lora --rate 5e-3 --epochs 8"],
    ),
    "tuned-cba-longer": (
        "After fine-tuning: a trigger of two parts, trained longer",
        [f"--tasks webquestions --attacks cba --defences none {TRAINED} lora --rate 5e-3 --epochs 10"],
    ),
}
"""Name -> title, and the options of each call of the bench, which add to one table."""
TO_READ = (
    "The rules of `evidence` were chosen on rows of webquestions, gsm8k and dolly, these draws among them; `stylebkd` is by rules; all "
    "attacks\npoison the same rows of a set. [What that means, and the paper's figures](bench.md#beside-the-paper).\n\n"
)
TIMED = "cost"
"""The one study whose times are shown, made on an idle machine: the others ran beside other work."""


def commands(name: str, data: Path) -> list[list[str]]:
    """Arguments of gradsentry, call by call."""
    return [["bench", "--data", str(data), *options.split(), "--out", f"benchmarks/results/bench-{name}"] for options in STUDIES[name][1]]


def render(name: str, folder: Path) -> None:
    """The section of docs/benchmark.md."""
    title, calls = STUDIES[name]
    results: Results = opened(folder, None)
    plots = draw(list(results.found.values()), folder)
    pictures = "".join(f"\n![{plot.stem}](../{plot.relative_to(ROOT)})\n" for plot in plots)
    lines = "\n".join(f"gradsentry bench --data DATA {options}" for options in calls)
    text = f"## {title}\n\nSmolLM2-135M-Instruct, dtype auto (bfloat16 here), seeds from 0. Made by\n\n```\n{lines}\n```\n\n{TO_READ}"
    told = [{k: v for k, v in r.items() if k != "ms_a_row" or name == TIMED} for r in results.found.values()]
    replace_section(ROOT / "docs" / "benchmark.md", f"bench-{name}", text + document(told) + pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=STUDIES, nargs="*", default=list(STUDIES))
    parser.add_argument("--render", action="store_true", help="Only write the sections of what is there.")
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
