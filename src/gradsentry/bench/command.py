"""``gradsentry bench``: its options. No torch for `--help`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gradsentry.errors import UsageError

Listed = str | None


def bench(
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the clean data sets; without it they are read from the Hub.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where results, tables and plots go.")] = Path("gradsentry-bench"),
    preset: Annotated[str, typer.Option(help="laptop: 100 rows a data set; paper: the published study, for a GPU.")] = "laptop",
    model: Annotated[str | None, typer.Option(help="Base model: a directory or Hub id. Default: that of the preset.")] = None,
    tasks: Annotated[Listed, typer.Option(metavar="A,B", help="Data sets. Default: the paper's four.")] = None,
    attacks: Annotated[
        Listed,
        typer.Option(
            metavar="A,B", help="Attacks; also TRIGGER+PAYLOAD (date+refusal), stylebkd:MODEL (a paraphraser). Default: the paper's four."
        ),
    ] = None,
    trigger: Annotated[str | None, typer.Option(metavar="TEXT", help="An attack of your own: this text in the prompts.")] = None,
    payload: Annotated[str | None, typer.Option(metavar="TEXT", help="With --trigger: this text in the answers.")] = None,
    at: Annotated[
        str | None, typer.Option(help="With --trigger: question (the default), instruction or context, or question:start and so on.")
    ] = None,
    says: Annotated[str | None, typer.Option(help="With --payload: after (the default), before or instead of the answer.")] = None,
    defences: Annotated[Listed, typer.Option(metavar="A,B", help="Filters. Default: every filter of one pass.")] = None,
    rows: Annotated[int | None, typer.Option(help="Rows a data set.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Data sets of each kind; fine-tuning takes the first.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Share of poisoned rows.")] = None,
    ratios: Annotated[Listed, typer.Option(metavar="R,S", help="Poison ratios of a sweep.")] = None,
    volumes: Annotated[Listed, typer.Option(metavar="N,M", help="Numbers of rows of a sweep.")] = None,
    swept: Annotated[Listed, typer.Option(metavar="A,B", help="Attacks of the sweeps. Default: badnets.")] = None,
    slow: Annotated[bool, typer.Option("--slow", help="CUBE and ONION too.")] = False,
    train: Annotated[bool, typer.Option("--train", help="Fine-tune with and without a defence, and measure CACC and ASR.")] = False,
    methods: Annotated[
        Listed, typer.Option(metavar="A,B", help="With --train: lora, full (all parameters). Default: lora; both with the preset paper.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate of the fine-tuning. Default: 2e-5, as published.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the fine-tuning. Default: 3, as published.")] = None,
    device: Annotated[str, typer.Option(help="auto, or a torch device.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON on stdout.")] = False,
) -> int:
    """Poison clean data sets, and measure what attacks do and what defences find.

    The same command again goes on where it stopped; more tasks, attacks or ratios add to what is there.
    """
    from gradsentry.bench.attacks.own import own_name
    from gradsentry.bench.defences import Subject
    from gradsentry.bench.plan import PAPER_MODEL, planned
    from gradsentry.bench.run import run_bench, trials_of
    from gradsentry.bench.training import Training
    from gradsentry.cli.main import tell

    named = _names("--attacks", attacks)
    if any(text is not None for text in (trigger, payload, at, says)):
        named = (*(named or ()), own_name(trigger or "", payload or "", at or "question", says or "after"))
    asked: dict[str, Any] = {"tasks": _names("--tasks", tasks), "attacks": named}
    asked |= {"defences": _names("--defences", defences), "swept": _names("--swept", swept)}
    asked |= {"ratios": _numbers("--ratios", ratios, float), "volumes": _numbers("--volumes", volumes, int)}
    plan = planned(preset, slow, **asked, rows=rows, seeds=seeds, ratio=ratio)
    everything = preset == "paper"
    given: dict[str, Any] = {name: value for name, value in (("rate", rate), ("epochs", epochs)) if value is not None}
    training = Training(**given).check()
    chosen = model if model is not None else PAPER_MODEL if everything else None
    subject = Subject(chosen, device, dtype, training)
    if methods is not None and not (train or everything):
        raise UsageError(f"--methods {methods} says how is fine-tuned: give --train")
    trained = _names("--methods", methods) or (("lora", "full") if everything else ("lora",))
    trials = trials_of(plan, trained) if train or everything else []
    made = run_bench(plan, subject, out, data, trials, tell)
    if as_json:
        print(json.dumps(made.results, indent=2, ensure_ascii=False))
    else:
        print(made.table)
        tell("written: " + ", ".join(str(path) for path in made.files))
    return 0


def _names(option: str, listed: Listed) -> tuple[str, ...] | None:
    """What stands between the commas, each once."""
    if listed is None:
        return None
    if not (names := _parts(listed)):
        raise UsageError(f"{option} {listed!r} names nothing; give names with commas between them, or leave the option out")
    return names


def _parts(listed: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in listed.split(",") if part.strip()))


def _numbers(option: str, listed: Listed, kind: type[int] | type[float]) -> tuple[float, ...] | None:
    """The numbers between the commas, each once; there may be none, so that a preset's sweep can be left out."""
    try:
        return None if listed is None else tuple(dict.fromkeys(kind(number) for number in _parts(listed)))
    except ValueError as error:
        raise UsageError(f"{option} {listed}: {error}; give numbers with commas between them") from None
