"""Which share of the shards a process of a scheduler scores, and on which devices."""

from __future__ import annotations

import os
from typing import Any

import pytest

from gradsentry import ScanConfig
from gradsentry.errors import UsageError
from gradsentry.run.engines import make_engine
from gradsentry.run.engines.rank import pin_devices, rank_of


def test_the_rank_comes_from_torchrun_or_the_array_or_both() -> None:
    array = {"SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_STEP": "2"}
    assert rank_of({"RANK": "3", "WORLD_SIZE": "8"}) == (3, 8)
    assert rank_of(array) == (2, 4)
    tasks = [array | {"SLURM_ARRAY_TASK_ID": str(task), "WORLD_SIZE": "3"} for task in (10, 12, 14, 16)]
    both = [rank_of(task | {"RANK": str(rank)}) for task in tasks for rank in range(3)]
    assert both == [(n, 12) for n in range(12)]


GAPS = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "3"}
"""What Slurm sets for ``sbatch --array=3,7``."""


@pytest.mark.parametrize(
    ("environment", "words"),
    [({}, "start it with torchrun"), ({"RANK": "x"}, "RANK is 'x'"), ({"RANK": "2", "WORLD_SIZE": "2"}, "process 2 of 2"),
     ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT is ''"),
     (GAPS | {"SLURM_ARRAY_TASK_ID": "7"}, "SLURM_ARRAY_TASK_ID 7 .* 2 tasks from 3 on .* gaps: --array=0-1"),
     (GAPS | {"SLURM_ARRAY_TASK_ID": "7", "RANK": "1", "WORLD_SIZE": "2"}, "SLURM_ARRAY_TASK_ID 7 .* gaps: --array=0-1"),
     (GAPS | {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_STEP": "4"}, "SLURM_ARRAY_TASK_ID 5 .* gaps: --array=0-1")],
)  # fmt: skip
def test_an_impossible_rank_is_refused(environment: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        rank_of(environment)


def test_processes_of_one_machine_get_separate_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def pinned(local: dict[str, str], **options: Any) -> str | None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
        pin_devices(ScanConfig(**options), local)
        return os.environ["CUDA_VISIBLE_DEVICES"]

    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert pinned({"LOCAL_RANK": "2"}) == "6"
    assert pinned({"LOCAL_RANK": "1"}, gpus_per_worker=2) == "6,7"
    assert pinned({}) == "4,5,6,7"
    with pytest.raises(UsageError, match="start fewer processes"):
        pinned({"LOCAL_RANK": "4"})


@pytest.mark.parametrize("options", [{"workers": "2"}, {"overwrite": True}])
def test_a_rank_has_no_workers_and_deletes_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="leave out --workers and --overwrite"):
        make_engine("rank", ScanConfig(**options))
