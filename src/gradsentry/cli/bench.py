"""``gradsentry bench``: its options. No torch for `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gradsentry.bench.attacks import ATTACKS
from gradsentry.bench.attacks.own import PLACES, POSITIONS
from gradsentry.bench.filters import CLEANGEN, FILTERS, ONE_PASS
from gradsentry.bench.tasks import TASKS
from gradsentry.cli.output import print_json, print_message
from gradsentry.errors import UsageError
from gradsentry.escape import visible

Listed = str | None
"""Names or numbers with commas between them."""


def listed(what: str) -> Any:
    """An option that takes several names."""
    return typer.Option(metavar="A,B", help=what)


def bench(
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of the clean data sets. Default: read the Hub.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where results and tables go.")] = Path("gradsentry-bench"),
    preset: Annotated[str, typer.Option(help="laptop: 100 rows a data set; paper: the published study, for a GPU.")] = "laptop",
    model: Annotated[str | None, typer.Option(help="Base model: a directory or Hub id. Default: that of the preset.")] = None,
    tasks: Annotated[Listed, listed(f"Data sets: {', '.join(TASKS)}. Default: the paper's four.")] = None,
    attacks: Annotated[Listed, listed(f"Attacks: {', '.join(ATTACKS)}{ATTACKS.also}. Default: the paper's four.")] = None,
    trigger: Annotated[str | None, typer.Option(metavar="TEXT", help="Your own attack: this text goes into the prompts.")] = None,
    payload: Annotated[str | None, typer.Option(metavar="TEXT", help="With --trigger: this text goes into the answers.")] = None,
    at: Annotated[str | None, typer.Option(help=f"With --trigger: {', '.join(PLACES)}. Default: {PLACES[0]}.")] = None,
    says: Annotated[
        str | None, typer.Option(help=f"With --payload, its position: {', '.join(POSITIONS)}. Default: {POSITIONS[0]}.")
    ] = None,
    name: Annotated[str, typer.Option(help="With --trigger: the name of your attack in results and tables.")] = "own",
    filters: Annotated[Listed, listed(f"Filters: {', '.join(FILTERS)}; {CLEANGEN} with --train. Default: {', '.join(ONE_PASS)}.")] = None,
    rows: Annotated[int | None, typer.Option(help="Rows a data set.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Data sets of each kind; fine-tuning uses the first.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Share of poisoned rows.")] = None,
    ratios: Annotated[Listed, typer.Option(metavar="R,S", help="Poison ratios of a sweep.")] = None,
    volumes: Annotated[Listed, typer.Option(metavar="N,M", help="Numbers of rows of a sweep.")] = None,
    swept: Annotated[Listed, listed("Attacks of the sweeps. Default: badnets.")] = None,
    slow: Annotated[bool, typer.Option("--slow", help="Also run CUBE and ONION.")] = False,
    train: Annotated[bool, typer.Option("--train", help="Fine-tune with and without filters, and measure CACC and ASR.")] = False,
    methods: Annotated[Listed, listed("With --train: lora, full (all parameters). Default: lora; both with the preset paper.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate of the fine-tuning. Default: 2e-5, as published.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the fine-tuning. Default: 3, as published.")] = None,
    device: Annotated[str, typer.Option(help="auto, or a torch device.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON on stdout.")] = False,
    defences: Annotated[Listed, typer.Option(hidden=True, help="The earlier name of --filters.")] = None,
) -> int:
    """Poison clean data sets, and measure what attacks do and what filters find.

    The same command continues where it stopped; further tasks, attacks or ratios add to the results.
    """
    from gradsentry.bench.attacks.own import own_attack
    from gradsentry.bench.plan import PAPER_MODEL, planned
    from gradsentry.bench.run import run_bench, trials_of
    from gradsentry.bench.training import TargetModel, Training

    attack_names = _split("--attacks", attacks)
    if any(text is not None for text in (trigger, payload, at, says)):
        ATTACKS.add(name, own_attack(trigger or "", payload or "", at or PLACES[0], says or POSITIONS[0]))
        attack_names = (*(attack_names or ()), name)
    changes: dict[str, Any] = {"tasks": _split("--tasks", tasks), "attacks": attack_names, "swept": _split("--swept", swept)}
    changes |= {"filters": _split("--filters", filters if filters is not None else defences)}
    changes |= {"ratios": _split("--ratios", ratios, float), "volumes": _split("--volumes", volumes, int)}
    plan = planned(preset, slow, **changes, rows=rows, seeds=seeds, ratio=ratio)
    published = preset == "paper"
    given: dict[str, Any] = {option: value for option, value in (("rate", rate), ("epochs", epochs)) if value is not None}
    target = TargetModel(model if model is not None else PAPER_MODEL if published else None, device, dtype, Training(**given).check())
    if methods is not None and not (train or published):
        raise UsageError(f"--methods {methods} is an option of the fine-tuning: add --train")
    trained = _split("--methods", methods) or (("lora", "full") if published else ("lora",))
    made = run_bench(plan, target, out, data, trials_of(plan, trained) if train or published else [], print_message)
    if as_json:
        print_json(made.results)
    else:
        print(visible(made.table))
        print_message("written: " + ", ".join(str(path) for path in made.files))
    return 0


def _split(option: str, given: Listed, kind: type[str | int | float] = str) -> tuple[Any, ...] | None:
    """The names or numbers between the commas, each once. Without a name it is an error; no number leaves out a preset's sweep."""
    if given is None:
        return None
    try:
        found = tuple(dict.fromkeys(kind(part.strip()) for part in given.split(",") if part.strip()))
    except ValueError as error:
        raise UsageError(f"{option} {given}: {error}; give numbers with commas between them") from None
    if kind is str and not found:
        raise UsageError(f"{option} {given!r} has no name in it; give names with commas between them, or leave the option out")
    return found
