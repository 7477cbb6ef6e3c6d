"""The command line. stdout has the result alone; progress, warnings and errors go to stderr. ``--help`` does not import torch."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradsentry._version import __version__
from gradsentry.cli.bench import bench
from gradsentry.cli.options import scan_options
from gradsentry.cli.output import INTERRUPTED, GuardedGroup, print_json, print_message, resumable, stderr, with_exit_code
from gradsentry.cli.reports import Reports, report_options
from gradsentry.config import ScanConfig
from gradsentry.errors import UsageError
from gradsentry.run.engines import engine_help
from gradsentry.types import FailOn
from gradsentry.verdict.policies import POLICIES

if TYPE_CHECKING:
    from gradsentry.api import ScanResult

app = typer.Typer(
    cls=GuardedGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find backdoor-poisoned rows in fine-tuning data before training on them.",
    epilog="Exit codes of scan, check and filter: see their help. Other commands end with 0, or 2 for a usage or run-time error.",
)
EXIT_CODES = "\n\n".join(
    [
        "Exit codes:",
        "0 nothing found, and every row examined; also a filter --dry-run",
        "1 rows flagged",
        "2 usage or run-time error",
        "3 nothing scorable",
        "4 no row flagged, but suspects are listed, rows were not examined, or no rule can judge the rows",
    ]
)
NO_REPORTS = Reports()
WORST_FIRST = (1, 2, 4, 3)
"""Exit codes of which the first that occurs is that of several scans."""
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory of an earlier scan.", show_default=False)]
ThresholdOption = Annotated[str, typer.Option(help="auto, or a number in [0, 1].")]
PolicyOption = Annotated[str | None, typer.Option(help=f"{' or '.join(POLICIES)}. Default: the run's policy.", show_default=False)]
StrictOption = Annotated[
    bool | None,
    typer.Option("--strict/--not-strict", help="Flag by the published threshold too. Default: the run's.", show_default=False),
]
KeepOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-unexamined/--no-keep-unexamined",
        help="Put rows that were not examined into kept, not into unexamined.*. Default: the run's.",
        show_default=False,
    ),
]
AllowOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File of dismissed findings and rows, as for scan. Default: none.", show_default=False)
]
FailOption = Annotated[
    list[FailOn] | None,
    typer.Option(help="Repeatable: what the exit code is 1 or 4 for. Default: all three.", show_default=False),
]
ZeroOption = Annotated[bool, typer.Option("--exit-zero", help="Exit code 0 whatever was found; errors keep theirs.")]
PARTS = "scores/part-*"
"""Files from which an interrupted scan resumes."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"gradsentry {__version__}")
        raise typer.Exit()


@app.command(epilog=EXIT_CODES)
@scan_options
@with_exit_code
@report_options
def scan(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="JSONL, JSON, CSV or Parquet file, saved data set, or Hub id.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Run directory. Default: gradsentry-runs/NAME.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    fail_on: FailOption = None,
    exit_zero: ZeroOption = False,
    engine: Annotated[str | None, typer.Option(help=f"What scores the shards. {engine_help()}. Default: inline or processes.")] = None,
    engine_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the engine, repeatable: partition=gpu.")
    ] = None,
    reports: Reports = NO_REPORTS,
    **options: Any,
) -> int:
    """Score every row of DATA, flag the poisoned ones, and write kept, flagged and unexamined rows and a report to RUN."""
    config, failing = ScanConfig(**options), _failing(fail_on, exit_zero)
    if engine is None and engine_option:
        raise UsageError("--engine-option needs --engine")
    from gradsentry.api import scan as run_scan
    from gradsentry.api import scan_on
    from gradsentry.report.progress import show_progress

    target = out or _default_run(data)
    stopping = nullcontext() if config.overwrite else resumable(target, PARTS)  # with --overwrite the same command starts again
    with stopping, show_progress(stderr()) as progress:
        if engine is None:
            result = run_scan(data, out=target, config=config, progress=progress)
        else:
            result = scan_on(engine, data, target, config, engine_option or (), progress)
    if result is None:
        if reports:
            print_message("no report was written: give the same options to gradsentry filter when the other processes have ended")
        return 0
    return _finish(result, as_json, failing, reports)


@app.command(epilog=EXIT_CODES)
@scan_options
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="What scan takes, any number of them.", show_default=False)],
    fail_on: FailOption = None,
    exit_zero: ZeroOption = False,
    **options: Any,
) -> None:
    """Scan several files one after the other and keep no run directory, as a hook does. Exits with the code of the worst scan."""
    codes = [_exit_code_of(_check, file, fail_on, exit_zero, options) for file in files]
    raise typer.Exit(next((code for code in WORST_FIRST if code in codes), 0))


@with_exit_code
def _check(file: str, fail_on: list[FailOn] | None, exit_zero: bool, options: dict[str, Any]) -> int:
    """Scan one file and print its result below its name."""
    from gradsentry.api import scan as run_scan
    from gradsentry.report.console import print_name
    from gradsentry.report.progress import show_progress

    failing = _failing(fail_on, exit_zero)
    with show_progress(stderr()) as progress:
        result = run_scan(file, config=ScanConfig(**options), progress=progress)
    print_name(file)
    return _finish(result, False, failing)


def _exit_code_of(command: Callable[..., None], *arguments: Any) -> int:
    """How a command ends. Ctrl-C ends all of them."""
    try:
        command(*arguments)
    except typer.Exit as end:
        if end.exit_code == INTERRUPTED:
            raise
        return end.exit_code
    return 0


@app.command("filter", epilog=EXIT_CODES)
@with_exit_code
@report_options
def filter_run(
    run: RunArgument,
    threshold: ThresholdOption = "auto",
    policy: PolicyOption = None,
    strict: StrictOption = None,
    keep_unexamined: KeepOption = None,
    allow: AllowOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be flagged and change nothing; exit code 0.")] = False,
    as_json: JsonOption = False,
    fail_on: FailOption = None,
    exit_zero: ZeroOption = False,
    reports: Reports = NO_REPORTS,
) -> int:
    """Split the rows of RUN again: after a review, or with another policy or threshold. Uses the scores in RUN: no model, seconds."""
    failing = _failing(fail_on, exit_zero)
    changes = {"policy": policy, "strict": strict, "keep_unexamined": keep_unexamined, "allow": allow and str(allow)}
    options = {name: value for name, value in changes.items() if value is not None}
    if dry_run:
        if reports:
            raise UsageError("--dry-run makes no report; leave it out, or the options of the report")
        return _preview(run, threshold, as_json, options)
    from gradsentry.api import redecide

    return _finish(redecide(run, threshold, **options), as_json, failing, reports)


@app.command()
@with_exit_code
def review(
    run: RunArgument,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page on this machine; 0 is a free one.")] = 0,
) -> int:
    """Decide on the findings and rows of RUN on a local page, until Ctrl-C. The decisions go to RUN/reviews.jsonl, which filter obeys."""
    from gradsentry.review.desk import Desk
    from gradsentry.review.server import ReviewServer

    with ReviewServer(desk := Desk(run), port) as server:
        print(server.url, flush=True)
        print_message("open this address in a browser on this machine; Ctrl-C ends the review")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    print_message(f"{desk.decided} decisions are in {run / 'reviews.jsonl'}; split the rows by them: {desk.next_command}")
    return 0


@app.command("threshold", hidden=True)
@with_exit_code
def threshold_of_run(
    run: RunArgument,
    threshold: ThresholdOption = "auto",
    policy: PolicyOption = None,
    strict: StrictOption = None,
    as_json: JsonOption = False,
) -> int:
    """The old name of ``filter --dry-run``, for one version."""
    options = {name: value for name, value in (("policy", policy), ("strict", strict)) if value is not None}
    print_message("gradsentry threshold is deprecated: use gradsentry filter --dry-run")
    return _preview(run, threshold, as_json, options)


def _preview(run: Path, threshold: str, as_json: bool, options: dict[str, Any]) -> int:
    """Print what a decision would flag, and whether the threshold is reliable."""
    from gradsentry.api import preview_decision
    from gradsentry.escape import visible

    decision, config = preview_decision(run, threshold, **options)
    if as_json:
        chosen = asdict(decision.threshold) if decision.threshold else None
        rule = {"policy": config.policy, "strict": config.strict, "verdict": decision.level}
        notes = [visible(note) for note in decision.notes]
        print_json({**rule, "threshold": chosen, "above_threshold": decision.above, "counts": decision.counts, "notes": notes})
    else:
        from gradsentry.report.console import print_threshold

        print_threshold(decision, config)
    return 3 if decision.threshold is None else 0


@app.command(context_settings={"ignore_unknown_options": True})  # so that row -1 gets our message about the rows that exist
@with_exit_code
def explain(
    run: RunArgument,
    row: Annotated[str, typer.Argument(metavar="ROW", help="Its number, from 0, or its place: data.jsonl:37.", show_default=False)],
    as_json: JsonOption = False,
) -> int:
    """Show one row of RUN: its text with trigger and effect marked, the surprise of its words, and its finding."""
    from gradsentry.report.explain import explain as explain_row

    if re.fullmatch(r"-?\d{1,18}", row, re.ASCII):
        number = int(row)
    else:
        from gradsentry.api import row_at

        number = row_at(run, row)
    explanation = explain_row(run, number)
    if as_json:
        print_json(asdict(explanation))
    else:
        from gradsentry.report.console import print_explanation

        print_explanation(explanation)
    return 0


@app.command()
@with_exit_code
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
        print_json(result.document | {"identification": found})
    else:
        from gradsentry.report.console import print_identification, print_result

        print_result(result.document, result.run)
        print_identification(found)
    return 0


@app.command()
@with_exit_code
@functools.wraps(bench)
def _bench(**options: Any) -> int:
    with resumable(options["out"], "results.jsonl"):
        return bench(**options)


def _default_run(data: str) -> Path:
    """The run directory named after the data; "." and ".." take the name of their directory."""
    path = Path(data)
    return Path("gradsentry-runs") / (path.resolve().name if path.name in ("", "..") else path.stem)


def _failing(fail_on: list[FailOn] | None, exit_zero: bool) -> tuple[FailOn, ...]:
    """What the exit code is not 0 for."""
    if exit_zero and fail_on:
        raise UsageError("--exit-zero fails for nothing that is found, and --fail-on for some of it; leave out one of them")
    return () if exit_zero else tuple(fail_on or FailOn)


def _finish(result: ScanResult, as_json: bool, failing: Sequence[FailOn], reports: Reports = NO_REPORTS) -> int:
    """Print the result, make the reports, and return the exit code."""
    if as_json:
        print_json(result.document)
    else:
        from gradsentry.report.console import print_result

        print_result(result.document, result.run)
    reports.make(result.document)
    if result.threshold is None:
        unscored = result.document["unscored"]
        print_message("error: no row could be scored; " + (f"the first says: {unscored[0]['reason']}" if unscored else ""))
    return result.exit_code_for(failing)
