"""What the scanning model must know: the filters with the embedded model, and with models made from it.

    python benchmarks/models.py --data ../shared/data

The other models are made from it, because no second one was available: the same one in float32, one trained on other rows, one trained
on the rows that it scans (like a scan with the model under suspicion), and one with random weights.
Writes its section of docs/benchmark/ablations.md and benchmarks/results/models.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from gradsentry.bench.attacks import poison
from gradsentry.bench.evaluate_filters import evaluate_filters
from gradsentry.bench.plan import DataSet
from gradsentry.bench.results import Result, Results
from gradsentry.bench.tasks import as_text, split
from gradsentry.bench.training import TargetModel, Training, train
from gradsentry.model.load import LoadedModel, load_model
from report import RESULTS, machine, page, replace_section, save, table

TASKS = ("webquestions", "freebaseqa")
ROWS, RATIO = 300, 0.1
FILTERS = ("paper", "evidence", "loss")
LEARNT = Training(rate=5e-3, epochs=6)
"""The backdoor works in nine of ten answers ("After fine-tuning: LoRA" in docs/benchmark/after-finetuning.md)."""
OTHER = Training(rate=5e-4, epochs=2)
"""A mild fine-tuning on rows of another kind."""

MODELS = {
    "bfloat16": "as it is, bfloat16",
    "float32": "as it is, float32",
    "other": "trained on 300 clean rows of Dolly",
    "poisoned": "trained on the poisoned rows of WebQuestions",
    "random": "random weights",
}


def made(name: str, data: Path, folder: Path) -> str | None:
    """A directory with the model; None: the embedded one."""
    if name in ("bfloat16", "float32"):
        return None
    if name == "random":
        loaded = _random()
    elif name == "other":
        loaded = train(None, [as_text(row) for row in split("dolly", data, "train", ROWS, 0)], OTHER)
    else:
        loaded = train(None, poison(split("webquestions", data, "train", ROWS, 0), "badnets", RATIO, 0).rows, LEARNT)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(folder)


def _random() -> LoadedModel:
    """The embedded model's shape and tokenizer, and what its class starts from."""
    import torch

    loaded = load_model(None, dtype="float32")
    torch.manual_seed(0)
    network: Any = type(loaded.model)(loaded.model.config)
    loaded.model.load_state_dict(network.state_dict())
    return loaded


def measured(name: str, data: Path) -> list[Result]:
    """Every filter on a poisoned and a clean set of each task."""
    data_sets = [DataSet("identification", task, "badnets", RATIO, ROWS, 0) for task in TASKS]
    data_sets += [DataSet("clean", task, "", 0.0, ROWS, 0) for task in TASKS]
    with tempfile.TemporaryDirectory() as folder:
        target = TargetModel(made(name, data, Path(folder)), dtype="float32" if name == "float32" else "bfloat16")
        results = Results(Path(folder))
        evaluate_filters(data_sets, FILTERS, target, data, results, print)
    return [{"model": name} | result for result in results.found.values()]


def lines(results: list[Result]) -> str:
    rows = []
    for name, title in MODELS.items():
        for which in FILTERS:
            own = {(r["table"], r["task"]): r for r in results if (r["model"], r["filter"]) == (name, which)}
            cells: list[object] = []
            for task in TASKS:
                bad, clean = own["identification", task], own["clean", task]
                cells += [
                    f"{100 * bad['recall']:.0f} / {100 * bad['f1']:.0f}",
                    f"{bad['auroc']:.3f}" if "auroc" in bad else "",
                    f"{100 * clean['passed'] / ROWS:.1f} %",
                ]
            rows.append([title, which, *cells])
    heads = [f"{task}: {what}" for task in TASKS for what in ("recall / F1", "AUROC", "clean set kept")]
    return table(["model", "filter", *heads], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--render", action="store_true", help="Only write the section of the committed results.")
    arguments = parser.parse_args()
    if arguments.render:
        results = json.loads((RESULTS / "models.json").read_text(encoding="utf-8"))["results"]
    else:
        results = [result for name in MODELS for result in measured(name, arguments.data)]
        save("models", {"machine": machine(), "results": results})
    text = (
        "## What the scanning model must know\n\nSmolLM2-135M-Instruct, and models made from it by `benchmarks/models.py`; rare words "
        f"(`badnets`) in {100 * RATIO:g} % of {ROWS}\nrows, seed 0. Recall, F1 in per cent. Trained on Dolly: LoRA, {OTHER.epochs} epochs "
        f"at {OTHER.rate:g}; on the poisoned rows of WebQuestions: LoRA, {LEARNT.epochs} epochs at {LEARNT.rate:g}.\n\n"
    )
    replace_section(page("ablations"), "models", text + lines(results))


if __name__ == "__main__":
    main()
