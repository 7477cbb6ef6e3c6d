"""What each process may use when several share a machine: CUDA devices, or processor cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from gradsentry.config import ScanConfig, parse_workers
from gradsentry.errors import UsageError


@dataclass(frozen=True)
class Slot:
    """What only one worker uses."""

    environment: dict[str, str] = field(default_factory=dict)
    """Set before the worker starts: CUDA reads it once."""
    cores: tuple[int, ...] = ()
    """Processor cores; empty: all of them."""


def slots(config: ScanConfig) -> list[Slot]:
    """One slot a worker. On a CPU, more workers than cores share the cores, so that a run can resume on a smaller machine.

    Raises:
        UsageError: more workers than there are devices for.
    """
    wanted, each = parse_workers(config.workers), config.gpus_per_worker
    if wanted == each == 1:
        return [Slot()]
    own = devices(config.device)
    if each > max(1, len(own)):
        raise UsageError(f"--gpus-per-worker {each}: it can be at most the number of CUDA devices here, {len(own)}")
    most = len(own) // each if own else len(cores())
    count = wanted or (most if own else 1)
    if own:
        if count > most:
            what = f"{each} of the {len(own)} devices"
            raise UsageError(f"--workers {count}: it can be at most {most} here, for each worker uses {what} alone")
        return [Slot({"CUDA_VISIBLE_DEVICES": ",".join(own[i * each : (i + 1) * each])}) for i in range(count)]
    share = max(1, most // count)
    # The number of threads moves the last bits of a score; OMP_NUM_THREADS is how a user keeps it the same.
    threads = os.environ.get("OMP_NUM_THREADS", str(share))
    return [Slot({"OMP_NUM_THREADS": threads}, tuple(cores()[i % most * share :][:share])) for i in range(count)]


def cores() -> list[int]:
    """The processor cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def confine(own: Sequence[int]) -> None:
    """Keep this process to these cores, where the system can do that."""
    if own and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, own)


def devices(device: str) -> list[str]:
    """The devices to share out, as CUDA_VISIBLE_DEVICES names them; none where the CPU scores."""
    if device == "cpu":
        return []
    import torch

    count = torch.cuda.device_count()
    if device in ("auto", "cuda") and count:
        return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")[:count]
    return [] if device == "auto" and not torch.backends.mps.is_available() else [device]
