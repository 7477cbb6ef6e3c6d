"""The command line. stdout has the result alone; progress, warnings and errors go to stderr. No torch for `--help`."""

from __future__ import annotations

import functools
import inspect
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from gradsentry._version import __version__
from gradsentry.cli.bench import bench
from gradsentry.cli.terminal import stderr, tell
from gradsentry.config import ScanConfig
from gradsentry.errors import GradsentryError, UsageError
from gradsentry.report.terminal import silence

if TYPE_CHECKING:
    from gradsentry.api import ScanResult

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find backdoor-poisoned rows in fine-tuning data before training on them.",
    epilog="Exit codes of scan, filter and threshold: 0 nothing flagged, 1 rows flagged, 2 usage or run-time error, 3 nothing scorable.",
)
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory of an earlier scan.", show_default=False)]
ThresholdOption = Annotated[str, typer.Option(help="auto, or a number in [0, 1].")]
PolicyOption = Annotated[str | None, typer.Option(help="evidence or paper. Default: that of the run.", show_default=False)]
StrictOption = Annotated[
    bool | None, typer.Option("--strict/--not-strict", help="Flag by the published threshold too. Default: as the run.", show_default=False)
]
PARTS = "scores/part-*"
"""What an interrupted scan goes on from."""
REPORT = "(please report it, with what the same command prints with GRADSENTRY_TRACEBACK=1 in the environment)"
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def emit(document: dict[str, Any]) -> None:
    """The result for machines, all that stdout has. Who reads it may stop before its end."""
    escaped = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")  # as JSON escapes it, which Python does in its own way
    try:
        print(json.dumps(document, indent=2, ensure_ascii=escaped), flush=True)
    except BrokenPipeError:
        silence(sys.stdout)


def handled(command: Callable[..., int]) -> Callable[..., None]:
    """The command with its exit code, and every error as one message without a traceback."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        logging.basicConfig(stream=sys.stderr, format="%(message)s")
        logging.getLogger("gradsentry").setLevel(logging.INFO)
        try:
            code = command(*args, **kwargs)
        except GradsentryError as error:
            tell(f"error: {error}")
            code = error.exit_code
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            tell(f"error: {where}{error.strerror or error}")
            code = 2
        except KeyboardInterrupt as stop:
            tell("; ".join(["stopped", *map(str, stop.args)]))
            code = 130
        except Exception as error:  # what nobody has foreseen, ours or a library's; Python's own exit code would say that rows are flagged
            if os.environ.get("GRADSENTRY_TRACEBACK"):
                tell(traceback.format_exc())
            tell(f"error: unexpected {type(error).__name__}: {str(error).partition(chr(10))[0]} {REPORT}")
            code = 2
        raise typer.Exit(code)

    return wrapper


@contextmanager
def resumable(folder: Path, kept: str) -> Iterator[None]:
    """Let Ctrl-C say that the same command goes on, where files of this name (a pattern) stand in the folder from which it does."""
    try:
        yield
    except KeyboardInterrupt:
        if any(folder.glob(kept)):
            raise KeyboardInterrupt("what was scored is kept, and the same command goes on from there") from None
        raise


def scan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command every field of ScanConfig as an option in place of its ``**options``."""
    hints = get_type_hints(ScanConfig)
    extra = [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=item.default,
            annotation=Annotated[
                hints[item.name],
                typer.Option(
                    "--" + item.name.replace("_", "-"), help=item.metadata["help"], show_default=item.default not in (None, False)
                ),
            ],
        )
        for item in fields(ScanConfig)
    ]
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
    command.__signature__ = inspect.Signature([*own, *extra])  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *extra]}
    return command


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr escapes by itself what its encoding does not have
        sys.stdout.reconfigure(errors="backslashreplace")
    if version:
        print(f"gradsentry {__version__}")
        raise typer.Exit()


@app.command()
@scan_options
@handled
def scan(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="JSONL, JSON, CSV or Parquet file, saved data set, or Hub id.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Run directory. Default: gradsentry-runs/NAME.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    engine: Annotated[
        str | None,
        typer.Option(help="Engine that runs the shards: local, slurm or ray (datatrove's). Default: this machine's --workers."),
    ] = None,
    engine_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the engine, as often as needed: partition=gpu.")
    ] = None,
    **options: Any,
) -> int:
    """Score every row of DATA, flag the poisoned ones, and write kept and flagged rows and a report to RUN."""
    config = ScanConfig(**options)
    from gradsentry.api import scan as run_scan
    from gradsentry.report.progress import show_progress

    target = out or _default_run(data)
    if engine is None and engine_option:
        raise UsageError("--engine-option needs --engine")
    kept = nullcontext() if config.overwrite else resumable(target, PARTS)  # with it the same command begins anew
    with kept, show_progress(stderr()) as progress:
        if engine is None:
            result = run_scan(data, out=target, config=config, progress=progress)
        else:
            from gradsentry.run.engines.datatrove import scan_on

            result = scan_on(engine, data, target, config, engine_option or (), progress)
    return 0 if result is None else _finish(result, as_json)


@app.command("filter")
@handled
def filter_run(
    run: RunArgument,
    threshold: ThresholdOption = "auto",
    policy: PolicyOption = None,
    strict: StrictOption = None,
    as_json: JsonOption = False,
) -> int:
    """Split the rows of RUN again with another policy or threshold. Takes the scores that are there: no model, seconds."""
    from gradsentry.api import rescan_decision

    return _finish(rescan_decision(run, threshold, **_given(policy=policy, strict=strict)), as_json)


@app.command()
@handled
def threshold(
    run: RunArgument,
    threshold: ThresholdOption = "auto",
    policy: PolicyOption = None,
    strict: StrictOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say what a policy or threshold would flag in RUN, and whether the threshold is reliable. Changes nothing."""
    from dataclasses import asdict

    from gradsentry.api import preview_decision

    decision, config = preview_decision(run, threshold, **_given(policy=policy, strict=strict))
    if as_json:
        chosen = asdict(decision.threshold) if decision.threshold else None
        rule = {"policy": config.policy, "strict": config.strict}
        emit({**rule, "threshold": chosen, "above_threshold": decision.above, "counts": decision.counts})
    else:
        from gradsentry.report.console import print_threshold

        print_threshold(decision, config)
    return 3 if decision.threshold is None else int(bool(decision.counts["flagged"]))


@app.command(context_settings={"ignore_unknown_options": True})  # row -1 is told what rows there are
@handled
def explain(
    run: RunArgument,
    row: Annotated[int, typer.Argument(metavar="ROW", help="Position of the row in the data, from 0.", show_default=False)],
    as_json: JsonOption = False,
) -> int:
    """Show one row of RUN: its tokens with their surprise, its spectrum beside the data set's, and its finding."""
    from dataclasses import asdict

    from gradsentry.report.explain import explain as explain_row

    explanation = explain_row(run, row)
    if as_json:
        emit(asdict(explanation))
    else:
        from gradsentry.report.console_explain import print_explanation

        print_explanation(explanation)
    return 0


@app.command()
@handled
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Run directory; the data goes beside it, to RUN-data.")] = Path(
        "gradsentry-runs/demo"
    ),
    as_json: JsonOption = False,
) -> int:
    """Poison 400 facts with BadNets at 10 %, scan them, and print how many of the poisoned rows were found."""
    from gradsentry.demo import run_demo
    from gradsentry.report.progress import show_progress

    with show_progress(stderr()) as progress:
        result, found = run_demo(out, progress)
    if as_json:
        emit(result.document | {"identification": found})
    else:
        from gradsentry.report.console import print_identification, print_result

        print_result(result.document, result.run)
        print_identification(found)
    return 0


@app.command()
@handled
@functools.wraps(bench)
def _bench(**options: Any) -> int:
    with resumable(options["out"], "results.jsonl"):
        return bench(**options)


def _default_run(data: str) -> Path:
    """The run directory of the data's name; "." and ".." go by the name of the directory for which they stand."""
    path = Path(data)
    return Path("gradsentry-runs") / (path.resolve().name if path.name in ("", "..") else path.stem)


def _finish(result: ScanResult, as_json: bool) -> int:
    """Print the result and return the exit code."""
    if as_json:
        emit(result.document)
    else:
        from gradsentry.report.console import print_result

        print_result(result.document, result.run)
    if result.threshold is None:
        tell("error: no row could be scored; " + _first_reason(result))
    return result.exit_code


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _first_reason(result: ScanResult) -> str:
    unscored = result.document["unscored"]
    return f"the first says: {unscored[0]['reason']}" if unscored else ""
