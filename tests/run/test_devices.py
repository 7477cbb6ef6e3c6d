"""Who gets which cores and CUDA devices, and who is refused."""

from __future__ import annotations

import pytest

from gradsentry import ScanConfig
from gradsentry.errors import UsageError
from gradsentry.run.devices import Slot, slots
from gradsentry.run.engines import make_engine


def test_one_worker_is_this_process_and_has_everything() -> None:
    assert slots(ScanConfig()) == [Slot()]


def test_on_the_cpu_each_worker_has_cores_and_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradsentry.run.devices.cores", lambda: [0, 2, 4, 6, 8])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads = {"OMP_NUM_THREADS": "2"}
    assert slots(ScanConfig(device="cpu", workers="2")) == [Slot(threads, (0, 2)), Slot(threads, (4, 6))]
    assert len(slots(ScanConfig(device="cpu", workers="auto"))) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert slots(ScanConfig(device="cpu", workers="5"))[0] == Slot({"OMP_NUM_THREADS": "7"}, (0,))
    monkeypatch.delenv("OMP_NUM_THREADS")
    shared = [slot.cores for slot in slots(ScanConfig(device="cpu", workers="7"))]
    assert shared == [(0,), (2,), (4,), (6,), (8,), (0,), (2,)]


def test_workers_that_share_cores_are_reported_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("gradsentry.run.engines.processes.cores", lambda: [0, 2])
    monkeypatch.setattr("gradsentry.run.devices.cores", lambda: [0, 2])
    make_engine(None, ScanConfig(device="cpu", workers="2"))
    assert not caplog.records
    make_engine(None, ScanConfig(device="cpu", workers="7"))
    assert caplog.messages == ["--workers 7: the workers share the 2 cores here; more workers than cores make nothing faster"]


def visible(config: ScanConfig) -> list[str]:
    return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots(config)]


def test_on_cuda_each_worker_sees_its_own_devices_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible(ScanConfig(workers="auto")) == ["0", "1", "2", "3"]
    assert visible(ScanConfig(workers="2")) == ["0", "1"]
    assert visible(ScanConfig(workers="auto", gpus_per_worker=2)) == ["0,1", "2,3"]
    assert visible(ScanConfig(workers="1", gpus_per_worker=3)) == ["0,1,2"]
    with pytest.raises(UsageError, match="--workers 5: it can be at most 4 here"):
        slots(ScanConfig(workers="5"))
    with pytest.raises(UsageError, match="--workers 3: it can be at most 2 here, for each worker uses 2 of the 4 devices alone"):
        slots(ScanConfig(workers="3", gpus_per_worker=2))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert visible(ScanConfig(workers="auto")) == ["5", "7"]


@pytest.mark.parametrize("spec", ["0", "-1", "two", "1.5", ""])
def test_a_number_of_workers_that_cannot_be_is_told(spec: str) -> None:
    with pytest.raises(UsageError, match="it can be auto or a number, at least 1"):
        ScanConfig(workers=spec)


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="--gpus-per-worker 2: it can be at most the number of CUDA devices here, 0"):
        slots(ScanConfig(device="cpu", gpus_per_worker=2))
    with pytest.raises(UsageError, match="--workers 2: it can be at most 1 here"):
        slots(ScanConfig(device="cuda:1", workers="2"))
