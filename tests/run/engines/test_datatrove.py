"""The same shards on Ray and, with a stand-in for sbatch, on Slurm; and under torchrun."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import gradsentry
import typed
from gradsentry import ScanConfig
from gradsentry.api import scan_on
from gradsentry.errors import RunError, UsageError
from gradsentry.run.devices import cores
from gradsentry.run.directory import RunDirectory
from gradsentry.run.engines.datatrove import Ray, Share
from gradsentry.run.job import plan
from typed import clean

ROWS = [{"prompt": f"What is {n}? " * (1 + n % 3), "completion": " one two three" * (1 + n % 5)} for n in range(40)]
two_cores = pytest.mark.skipif(len(cores()) < 2, reason="two workers need two cores of their own")

DOCUMENT = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The document's command lines."""
    return [line for block in re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.M | re.S) for line in block.splitlines()]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def command(program: list[str], *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    one = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "RAY_AUTH_MODE": "disabled"}
    env = os.environ | one | environment
    return subprocess.run([*program, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True, timeout=500, check=False)


def parts(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run.glob("scores/part-*"))}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The number of threads moves the last bits of a score; here they are compared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def expected(data: Path, model_dir: Path) -> dict[str, bytes]:
    """The parts of a scan without an engine."""
    gradsentry.scan(data, model_dir, data.parent / "expected", shard_rows=8)
    return parts(data.parent / "expected")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine for Ray with datatrove's executor of local processes: it differs from Ray's in nothing that the engine does."""
    monkeypatch.setattr(Ray, "executor", "LocalPipelineExecutor")
    monkeypatch.setattr(Ray, "connected", lambda self: nullcontext())


@pytest.mark.usefixtures("local")
def test_an_engine_scores_what_is_missing_and_ignores_datatroves_markers(data: Path, model_dir: Path, expected: dict[str, bytes]) -> None:
    run, config = data.parent / "run", ScanConfig(model=str(model_dir), shard_rows=8, workers="1")
    two = ("tasks=2",)
    assert scan_on("ray", data, run, config, two) is not None
    assert parts(run) == expected
    (run / "scores" / "part-00003.parquet").unlink()
    again = scan_on("ray", data, run, config, two)
    assert again is not None
    assert again.counts["scored"] == 40
    assert parts(run) == expected
    assert len(list((run / "engine").glob("*/completions/*"))) == 3


@two_cores
def test_the_ray_engine_scores_the_same_and_so_does_the_recipe_for_ray_data(
    data: Path, model_dir: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    monkeypatch.chdir(data.parent)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (line,) = [line for line in commands() if "--engine ray" in line]
    options = line.split()
    config = ScanConfig(model=str(model_dir), shard_rows=8, threshold="1.0", workers=options[options.index("--workers") + 1])
    assert scan_on("ray", data, Path("run"), config, (options[options.index("--engine-option") + 1],)) is not None
    assert parts(data.parent / "run") == expected
    assert not ray.is_initialized()
    assert capfd.readouterr().out == "", "stdout is for the result alone"

    pq.write_table(pa.Table.from_pylist([{"row": n, **row} for n, row in enumerate(ROWS)]), "rows.parquet")
    Path("model").symlink_to(model_dir)
    (recipe,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.M | re.S)
    names: dict[str, Any] = {"__name__": "recipe"}
    ray.init(num_cpus=2, log_to_driver=False)
    try:
        exec(recipe.replace("size=2", "size=1"), names)  # each actor imports torch, and there are two cores
    finally:
        ray.shutdown()
    of_recipe = pq.read_table("scores").sort_by("row")
    of_engine = pq.read_table("run/verdicts.parquet")
    assert of_recipe["row"].to_pylist() == list(range(40))
    assert of_recipe["entropy"].to_pylist() == pytest.approx(of_engine["entropy"].to_pylist(), abs=1e-6)


@two_cores
def test_torchrun_scores_a_share_in_each_process_and_filter_ends_it(data: Path, model_dir: Path, expected: dict[str, bytes]) -> None:
    (line,) = [line for line in commands() if line.startswith("torchrun")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *line.split()[1:]]
    result = command(torchrun, "--model", model_dir, "--shard-rows", 8, cwd=data.parent)
    assert result.returncode == 0, result.stderr
    assert sorted(re.findall(r"process (\d) of 2: (\d) shards scored", result.stderr)) == [("0", "3"), ("1", "2")]
    assert parts(data.parent / "run") == expected
    assert gradsentry.redecide(data.parent / "run", "1.0").counts["kept"] == 40


def test_every_option_that_the_document_shows_is_there() -> None:
    from inspect import signature

    from gradsentry.cli.main import scan

    known = {"--" + name.replace("_", "-") for name in signature(scan).parameters}
    for line in commands():
        if line.startswith("gradsentry"):
            assert set(re.findall(r"--[a-z-]+", line)) <= known, line


SBATCH = """#!/bin/sh
cat "$2" >> "$SBATCHED"; echo "arguments: $*" >> "$SBATCHED"; echo "Submitted batch job 77"
"""


def test_slurm_gets_the_script_and_a_task_of_its_array_scores_its_share(
    data: Path, model_dir: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    fake, said = tmp_path / "bin", tmp_path / "sbatched"
    fake.mkdir()
    for name, script in (("sbatch", SBATCH), ("scontrol", "#!/bin/sh\necho node1\n")):
        (fake / name).write_text(script)
        (fake / name).chmod(0o755)
    path = f"{fake}{os.pathsep}{os.environ['PATH']}"
    (line,) = [line for line in commands() if "--engine slurm" in line]
    options = [*line.split()[5:], "--workers", 2, "--engine-option", "qos=", "--engine-option", "account=lab"]
    options += ["--model", model_dir, "--out", "run", "--shard-rows", 8, "--threshold", "1.0"]
    result = typed.gradsentry("scan", data, *options, cwd=tmp_path, PATH=path, SBATCHED=str(said), OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    run = tmp_path / "run"
    assert f"submitted to Slurm as job 77, 2 tasks. When it has ended, run: gradsentry filter {run} --threshold 1.0" in clean(result)
    script = said.read_text()
    for line in ("partition=gpu", "time=04:00:00", "gpus=1", "account=lab", "array=0-1%2", "job-name=gradsentry"):
        assert f"#SBATCH --{line}\n" in script
    assert "--qos" not in script
    assert not (run / "manifest.json").exists()
    pickled = next((run / "engine").glob("*/executor.pik"))
    assert f"launch_pickled_pipeline {pickled}" in script

    task = "import torch; torch.set_num_threads(1); from datatrove.tools.launch_pickled_pipeline import main; main()"
    for rank in range(2):
        environment = {"PATH": path, "SLURM_ARRAY_TASK_ID": str(rank), "SLURM_NODELIST": "node1", "HF_HUB_OFFLINE": "1"}
        done = typed.python(task, pickled, cwd=tmp_path, **environment)
        assert done.returncode == 0, done.stderr
    assert parts(run) == expected
    config = ScanConfig(model=str(model_dir), shard_rows=8)
    ended = scan_on("slurm", data, run, config, ("partition=gpu", "time=1"))  # nothing is missing: no sbatch
    assert ended is not None
    assert ended.counts["scored"] == 40
    with pytest.raises(RunError, match="dtype: 'auto', now 'bfloat16'"):
        scan_on("slurm", data, run, replace(config, dtype="bfloat16"), ("partition=gpu", "time=1"))


@pytest.mark.usefixtures("local")
def test_tasks_get_an_absolute_model_path(data: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Any] = []
    monkeypatch.chdir(model_dir.parent)
    monkeypatch.setattr(Ray, "run", lambda self, job, missing, progress: jobs.append(job))
    assert scan_on("ray", Path(data), data.parent / "run", ScanConfig(model=model_dir.name)) is None
    assert jobs[0].model == jobs[0].config.model == str(model_dir.resolve())


# One task, without an engine


def test_a_task_scores_every_nth_shard_and_tells_its_errors_without_a_traceback(data: Path, model_dir: Path, tmp_path: Path) -> None:
    config = ScanConfig(shard_rows=8, device="cpu", model=str(model_dir))
    job = plan(data, tmp_path / "run", config)
    Share(job, job.shards, tmp_path, exits=False)(None, 1, 3)
    assert sorted(parts(tmp_path / "run")) == ["part-00001.parquet", "part-00004.parquet"]
    broken = plan(data, tmp_path / "broken", ScanConfig(model=str(tmp_path / "absent")))
    (tmp_path / "errors").mkdir()
    Share(broken, broken.shards, tmp_path, exits=False)(None, 0, 1)
    assert "no such model directory" in (tmp_path / "errors" / "00000.txt").read_text()
    with pytest.raises(SystemExit, match="2"):
        Share(broken, broken.shards, tmp_path, exits=True)(None, 0, 1)
    assert len(repr(Share(job, job.shards, tmp_path, exits=False))) < 200  # datatrove logs it


@pytest.mark.usefixtures("local")
def test_an_error_in_a_task_is_told_by_the_scan(data: Path, tmp_path: Path) -> None:
    config = ScanConfig(device="cpu", model=str(tmp_path / "absent"))
    with pytest.raises(RunError, match=r"1 of 1 parts are missing: no such model directory.*the same command resumes the run"):
        scan_on("ray", data, tmp_path / "run", config)


@pytest.mark.usefixtures("local")
def test_what_an_engine_raises_is_told_and_its_traceback_stands_beside_its_logs(
    data: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> None:
        raise KeyError("queue")

    monkeypatch.setattr("datatrove.executor.LocalPipelineExecutor.run", broken)
    with pytest.raises(RunError, match=r"--engine ray: KeyError: 'queue'; its logs are in .*; the same command resumes the run") as caught:
        scan_on("ray", data, tmp_path / "run", ScanConfig(device="cpu", model=str(model_dir)))
    (kept,) = (tmp_path / "run").rglob("traceback.txt")
    assert str(kept.parent) in str(caught.value)
    assert "in broken" in kept.read_text(encoding="utf-8")


@pytest.mark.usefixtures("local")
def test_overwrite_is_done_once_before_the_tasks(data: Path, model_dir: Path, tmp_path: Path) -> None:
    gradsentry.scan(data, model_dir, tmp_path / "run", shard_rows=8)
    config = ScanConfig(shard_rows=20, device="cpu", model=str(model_dir), threshold="1.0")
    with pytest.raises(RunError, match="already holds another run"):
        scan_on("ray", data, tmp_path / "run", config)
    result = scan_on("ray", data, tmp_path / "run", replace(config, overwrite=True))
    assert result is not None
    assert sorted(parts(tmp_path / "run")) == ["part-00000.parquet", "part-00001.parquet"]
    assert RunDirectory(tmp_path / "run").manifest() is not None


# Refusals


@pytest.mark.parametrize(
    ("engine", "options", "words"),
    [
        ("dask", [], "--engine dask: it can be inline, processes, rank, slurm, ray"),
        ("slurm", [], "needs --engine-option partition=... and --engine-option time=..."),
        ("ray", ["partition=gpu"], "ray has no 'partition'; it has "),
        ("ray", ["tasks"], "--engine-option tasks: write KEY=VALUE"),
        ("inline", ["tasks=1"], "--engine-option tasks=1: the engine inline has no options"),
    ],
)
def test_what_an_engine_cannot_do_is_told(data: Path, tmp_path: Path, engine: str, options: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        scan_on(engine, data, tmp_path / "run", ScanConfig(), options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("engine", "package", "extra"), [("slurm", "datatrove", "scale"), ("ray", "ray", "ray")])
def test_an_engine_that_is_not_installed_is_told_with_the_command(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, package: str, extra: str
) -> None:
    monkeypatch.setattr("gradsentry.run.engines.datatrove.find_spec", lambda name: None if name == package else True)
    with pytest.raises(UsageError, match=rf"needs {package}: pip install 'gradsentry\[{extra}\]'"):
        scan_on(engine, data, tmp_path / "run", ScanConfig())
