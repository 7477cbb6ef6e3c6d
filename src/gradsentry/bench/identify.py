"""Which rows the filters flag, cell by cell: what data sets have in common is measured once, what is known is not measured again."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from gradsentry.bench.defences import Defence, Subject, Verdicts, defence
from gradsentry.bench.metrics import auroc, best_f1, identification
from gradsentry.bench.plan import Cell, groups, key
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.results import Result, Results

Told = Callable[[str], None]
"""Called with what is about to be done."""

EVERY = 0.02
"""Seconds between two looks at the memory."""
FEW = 4
"""Rows on which a filter is tried before it is timed."""


@dataclass
class Cost:
    """What some work took."""

    seconds: float = 0.0
    memory: float = 0.0
    """MiB of the process at the peak beyond what it had at the start, and, where there is a GPU, of the GPU."""


@contextmanager
def watched() -> Iterator[Cost]:
    """Time and memory of what is done inside."""
    gpu = _release()
    held = gpu.memory_allocated() if gpu else 0
    process, cost, stop = psutil.Process(), Cost(), threading.Event()
    before, started = process.memory_info().rss, time.perf_counter()

    def look() -> None:
        while True:
            cost.memory = max(cost.memory, (process.memory_info().rss - before) / 2**20)
            if stop.wait(EVERY):
                return

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield cost
    finally:
        stop.set()
        watcher.join()
        cost.memory += (gpu.max_memory_allocated() - held) / 2**20 if gpu else 0.0
        cost.seconds = time.perf_counter() - started


def _release() -> Any:
    """Give back what earlier work has freed and an allocator kept: later work would take it and seem to need nothing.

    Returns:
        ``torch.cuda``, its peak set back, where there is a GPU.
    """
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
    gpu = getattr(sys.modules.get("torch"), "cuda", None)  # only where torch is in use
    if not gpu or not gpu.is_available():
        return None
    gpu.empty_cache()
    gpu.reset_peak_memory_stats()
    return gpu


def identify(cells: Sequence[Cell], names: Sequence[str], subject: Subject, data: Path | None, results: Results, told: Told) -> None:
    """Add what is not known yet to the results: every defence on every cell.

    Time and memory are each filter's own work on a model that is loaded: loading it is nobody's, and memory is what is taken beyond it.
    A filter of one pass is tried on a few rows first, so that what a first call takes (imports, buffers) is nobody's either; one that
    fine-tunes loads a model of its own for it, and that is its work.

    Args:
        names: of defences. data: as for `Cell.make`.

    Raises:
        UsageError: an unknown defence. DataError: a task's files are not there.
    """
    chosen = {name: defence(name) for name in names}
    for (task, seed), own in groups(cells):
        missing = [(cell, name) for cell in own for name in names if key(cell, name) not in results.found]
        if missing:
            # Of all cells, known ones too: what stands beside a row moves its last bits, and a bench that was interrupted
            # is to end as one that was not.
            made = {cell: cell.make(data) for cell in own}
            places, rows = _union(made)
            told(f"{task}, seed {seed}: {len(missing)} results, {len(rows)} different rows")
            _measure_shared({n: d for n, d in chosen.items() if d.alone}, missing, made, places, rows, subject, results, told)
            for cell, name in missing:
                if not chosen[name].alone:
                    told(f"{task}, {cell.attack or 'clean'}: {name}")
                    _measure_whole(cell, name, chosen[name], made[cell], subject, results)


def _union(made: dict[Cell, Poisoned]) -> tuple[dict[Cell, NDArray[np.int64]], list[dict[str, Any]]]:
    """The different rows of some data sets, and where among them each data set's rows are.

    Rows with the same prompt stand together: a pass computes what neighbours have in common once.
    """
    known = {(row["prompt"], row["completion"]): row for poisoned in made.values() for row in poisoned.rows}
    order = {pair: i for i, pair in enumerate(sorted(known))}
    places = {cell: np.array([order[row["prompt"], row["completion"]] for row in poisoned.rows]) for cell, poisoned in made.items()}
    return places, [known[pair] for pair in order]


def _measure_shared(
    chosen: dict[str, Defence],
    missing: Sequence[tuple[Cell, str]],
    made: dict[Cell, Poisoned],
    places: dict[Cell, NDArray[np.int64]],
    rows: list[dict[str, Any]],
    subject: Subject,
    results: Results,
    told: Told,
) -> None:
    """Defences that look at each row by itself: one pass for all that share it."""
    wanted = {name for _, name in missing if name in chosen}
    for measure in dict.fromkeys(chosen[name].measure for name in chosen if name in wanted):
        own = [name for name in chosen if name in wanted and chosen[name].measure is measure]
        told(f"  {', '.join(own)}")
        _try([chosen[name] for name in own], subject, rows[:FEW])
        with watched() as cost:
            measured = measure(subject, rows)
        for cell, name in missing:
            if name in own:
                with watched() as deciding:
                    verdicts = chosen[name].decide(measured, places[cell], made[cell].rows, cell.seed)
                each = 1000 * (cost.seconds / len(rows) + deciding.seconds / cell.rows)
                taken = {"ms_a_row": round(each, 2), "memory_mib": round(max(cost.memory, deciding.memory)), "measured_rows": len(rows)}
                results.add(key(cell, name), _result(cell, name, verdicts, made[cell]) | taken)


def _try(own: Sequence[Defence], subject: Subject, rows: list[dict[str, Any]]) -> None:
    """Defences of one measure on a few rows: their model is loaded if they have one, and all that comes with a first call has come."""
    measured = own[0].measure(subject, rows)
    for one in own:
        one.decide(measured, np.arange(len(rows)), rows, 0)


def _measure_whole(cell: Cell, name: str, chosen: Defence, made: Poisoned, subject: Subject, results: Results) -> None:
    """A defence that looks at the data set as a whole."""
    subject.load()  # memory is counted from there, as it is for the others
    with watched() as cost:
        measured = chosen.measure(subject, made.rows)
        verdicts = chosen.decide(measured, np.arange(len(made.rows)), made.rows, cell.seed)
    taken = {"ms_a_row": round(1000 * cost.seconds / cell.rows, 2), "memory_mib": round(cost.memory), "measured_rows": cell.rows}
    results.add(key(cell, name), _result(cell, name, verdicts, made) | taken)


def _result(cell: Cell, name: str, verdicts: Verdicts, made: Poisoned) -> Result:
    """Counts and rates of one defence on one cell."""
    found = identification(verdicts.flagged.tolist(), made.labels)
    rates = {rate: round(getattr(found, rate), 4) for rate in ("recall", "precision", "f1", "accuracy")}
    ranked = {}
    if verdicts.scores is not None and 0 < sum(made.labels) < len(made.labels):
        scores = verdicts.scores.tolist()
        ranked = {"auroc": round(auroc(scores, made.labels), 4), "best_f1": round(best_f1(scores, made.labels), 4)}
    return asdict(cell) | {"defence": name} | asdict(found) | rates | ranked
