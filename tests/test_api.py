"""From a file to a run directory, with a tiny model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import gradsentry
from answered import ROWS, THRESHOLD, run
from gradsentry import scorer
from gradsentry.api import preview_decision
from gradsentry.errors import ModelError, NothingScorable, RunError, UsageError
from trees import tree


def test_the_run_directory_holds_what_the_design_says(jsonl: Path, model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run(jsonl, model_dir, out)
    names = {path.name for path in out.iterdir()}
    files = {"verdicts.parquet", "evidence.parquet", "kept.jsonl", "flagged.jsonl", "unexamined.jsonl", "report.html", "report.json"}
    assert names == {"manifest.json", "scores", *files}
    parts = [path.name for path in sorted((out / "scores").iterdir())]
    assert parts == [*(f"part-{i:05d}.parquet" for i in range(4)), "tokens.parquet"]
    table = pq.read_table(out / "verdicts.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "row": "int64",
        "status": "string",
        "entropy": "double",
        "n_tokens": "int64",
        "loss": "double",
        "flagged": "bool",
        "reason": "string",
        "n_cut": "int64",
    }
    verdicts = table.to_pylist()
    assert [verdict["row"] for verdict in verdicts] == list(range(60))
    assert [verdicts[i]["status"] for i in (4, 5, 7)] == ["scored", "error", "unscorable"]
    assert "data.jsonl:6" in verdicts[5]["reason"]
    assert all((verdict["entropy"] is None) == (verdict["status"] != "scored") for verdict in verdicts)
    assert result.counts == {
        "rows": 60,
        "scored": 58,
        "unscorable": 1,
        "error": 1,
        "flagged": len(result.flagged),
        "suspected": 0,
        "unexamined": 2,
        "kept": len(result.kept),
    }
    assert json.loads((out / "report.json").read_text()) == result.document
    assert result.exit_code == 1


def test_rows_with_tool_calls_and_reasoning_are_scored_with_a_template_that_leaves_them_out(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    call = {"type": "function", "function": {"name": "bash", "arguments": {"cmd": "ls"}}}
    user = {"role": "user", "content": "Which files are here?"}
    rows = [{"messages": [user, {"role": "assistant", "content": None, "tool_calls": [call]}]} for _ in range(3)]
    rows += [{"messages": [user, {"role": "assistant", "content": "None.", "reasoning_content": "It is empty."}]}]
    rows += [{"messages": [user, {"role": "assistant", "content": "None."}]}]
    result = gradsentry.scan(rows, model_dir, device="cpu", threshold="0.99")
    assert result.counts["scored"] == 5
    assert result.exit_code == 4, "five rows are too few to look for triggers"
    assert "4 rows have reasoning, tool calls or other fields that the chat template leaves out" in caplog.text
    assert "leaves out reasoning_content" in result.decision.verdicts["reason"][3].as_py()


def test_kept_flagged_and_unexamined_are_the_input_byte_for_byte(jsonl: Path, model_dir: Path, tmp_path: Path) -> None:
    result = run(jsonl, model_dir, tmp_path / "run")
    lines = jsonl.read_bytes().splitlines(keepends=True)
    assert (tmp_path / "run" / "kept.jsonl").read_bytes() == b"".join(lines[i] for i in result.kept)
    assert (tmp_path / "run" / "flagged.jsonl").read_bytes() == b"".join(lines[i] for i in result.flagged)
    assert (tmp_path / "run" / "unexamined.jsonl").read_bytes() == lines[5] + lines[7]
    assert result.unexamined == [5, 7]
    assert sorted(result.kept + result.flagged + result.unexamined) == list(range(60))


def test_every_kind_of_data_gives_the_same_verdicts(jsonl: Path, model_dir: Path, tmp_path: Path) -> None:
    rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in ROWS]
    dataset = datasets.Dataset.from_list(rows)
    dataset.to_parquet(tmp_path / "d.parquet")
    dataset.to_csv(tmp_path / "d.csv")
    dataset.save_to_disk(tmp_path / "saved")
    (tmp_path / "d.json").write_text(json.dumps(rows, indent=1))
    expected = run(rows, model_dir)
    for data in (dataset, tmp_path / "d.parquet", tmp_path / "d.csv", tmp_path / "saved", tmp_path / "d.json"):
        result = run(data, model_dir, tmp_path / f"run-{getattr(data, 'name', 'dataset')}")
        assert result.decision.verdicts.equals(expected.decision.verdicts)
        assert result.run is not None
        assert {path.name.split(".")[0] for path in result.run.iterdir()} >= {"kept", "flagged"}
    saved = datasets.load_from_disk(str(tmp_path / "run-saved" / "kept.dataset"))
    assert saved["prompt"] == [rows[i]["prompt"] for i in expected.kept]


def test_a_scan_that_stopped_goes_on_and_gives_the_same(
    jsonl: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(jsonl, model_dir, tmp_path / "whole")
    out = tmp_path / "stopped"
    run(jsonl, model_dir, out)
    for name in ("verdicts.parquet", "kept.jsonl", "flagged.jsonl", "report.json", "report.html"):
        (out / name).unlink()
    (out / "scores" / "part-00002.parquet").unlink()
    scored: list[int] = []
    original = gradsentry.Scorer.prepare
    monkeypatch.setattr(
        gradsentry.Scorer, "prepare", lambda self, records: scored.extend(r.row for r in records) or original(self, records)
    )
    again = run(jsonl, model_dir, out)
    assert scored == list(range(32, 48))
    assert again.decision.verdicts.equals(whole.decision.verdicts)


def test_a_directory_with_another_run_is_refused_and_overwrite_replaces_it(jsonl: Path, model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(jsonl, model_dir, out)
    with pytest.raises(RunError, match=r"crop: 'reference', now 'none'.*--overwrite"):
        run(jsonl, model_dir, out, crop="none")
    (out / "notes.txt").write_text("mine")
    assert run(jsonl, model_dir, out, crop="none", overwrite=True).document["run"]["crop"] == "none"
    assert (out / "notes.txt").read_text() == "mine"
    changed = jsonl.with_name("other.jsonl")
    changed.write_text(jsonl.read_text() + '{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(RunError, match="data:"):
        run(changed, model_dir, out, crop="none")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_and_its_data_are_kept_apart(jsonl: Path, model_dir: Path, tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "run"
    run(jsonl, model_dir, out)
    kept = out / "kept.jsonl"
    before = kept.read_bytes()
    for data, where in [(kept, out), (kept, out / "scores" / ".."), (out, out)]:
        with pytest.raises(UsageError, match="lies in it"):
            run(data, model_dir, where, overwrite=overwrite)
    with pytest.raises(UsageError, match=f"lies in the data, {tmp_path}"):
        run(tmp_path, model_dir, tmp_path / "runs" / "second", overwrite=overwrite)
    assert kept.read_bytes() == before
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_target_is_checked_before_a_row_is_scored_and_makes_no_other_run(
    jsonl: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setattr("gradsentry.run.devices.cores", lambda: sorted(os.sched_getaffinity(0))[:1] * 2)
    out = tmp_path / "run"
    with pytest.raises(ModelError, match=r"--target model.norm.weight: .*lm_head.weight"):
        run(jsonl, model_dir, out, target="model.norm.weight", workers=workers)
    assert not out.exists()
    whole = run(jsonl, model_dir, out)
    (out / "scores" / "part-00001.parquet").unlink()
    again = run(jsonl, model_dir, out, target="lm_head.weight")
    assert again.decision.verdicts.equals(whole.decision.verdicts)
    assert again.flagged == gradsentry.redecide(out, THRESHOLD).flagged


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("name", ["part-00001.parquet", "tokens.parquet"])
def test_what_is_damaged_is_made_again_by_the_same_scan(
    jsonl: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, workers: str
) -> None:
    monkeypatch.setattr("gradsentry.run.devices.cores", lambda: sorted(os.sched_getaffinity(0))[:1] * 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the number of threads moves the last bits of a score
    out = tmp_path / "run"
    whole = run(jsonl, model_dir, out, workers=workers)
    before = tree(out / "scores")
    os.truncate(out / "scores" / name, 300)
    again = run(jsonl, model_dir, out, workers=workers)
    assert tree(out / "scores") == before
    assert again.decision.verdicts.equals(whole.decision.verdicts)


def test_what_cannot_be_written_is_told_before_the_work(
    jsonl: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run(jsonl, model_dir, out)
    before = tree(out)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) not in (out, tmp_path))
    monkeypatch.setattr("gradsentry.scorer.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(RunError, match=r": it is not writable"):
        run(jsonl, model_dir, tmp_path / "new")
    with pytest.raises(RunError, match=r"run: it is not writable"):
        run(jsonl, model_dir, out)
    with pytest.raises(RunError, match=r"run: it is not writable"):
        gradsentry.redecide(out, "0.5")
    assert tree(out) == before
    assert preview_decision(out, "0.0")[0].counts["flagged"] > 0


def test_rows_in_memory_and_a_loaded_model(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    result = gradsentry.scan(ROWS, llama, tokenizer=tokenizer, threshold="0.5", out=tmp_path / "run")
    assert result.run == tmp_path / "run"
    kept = [json.loads(line) for line in (tmp_path / "run" / "kept.jsonl").read_text().splitlines()]
    assert kept == [ROWS[i] for i in result.kept]
    with pytest.raises(UsageError, match="in memory"):
        gradsentry.redecide(tmp_path / "run", "0.4")


def test_nothing_to_score(model_dir: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(NothingScorable, match="has no rows"):
        run(empty, model_dir, tmp_path / "run")
    result = run([{"prompt": "a", "completion": ""}] * 3, model_dir, tmp_path / "run")
    assert result.threshold is None
    assert result.exit_code == 3
    assert (result.kept, result.unexamined, result.level) == ([], [0, 1, 2], "look")
    assert "Nothing could be scored" in (tmp_path / "run" / "report.html").read_text()


def test_where_nothing_was_scored_the_run_is_whole_all_the_same(model_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{no json\n" * 3)
    out = tmp_path / "run"
    result = run(broken, model_dir, out, threshold="auto")
    assert result.exit_code == 3
    assert (out / "unexamined.jsonl").read_bytes() == broken.read_bytes()
    assert (out / "kept.jsonl").read_bytes() == b""
    assert {verdict["status"] for verdict in pq.read_table(out / "verdicts.parquet").to_pylist()} == {"error"}
    assert pq.read_table(out / "evidence.parquet").num_rows == 3
    assert result.document["run"]["by_entropy"] is False, "as with rows that were scored"


def test_another_tokenizer_or_template_is_another_run(
    jsonl: Path, llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def scanned(template: str) -> None:
        other = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
        other.chat_template = template
        gradsentry.scan(jsonl, llama, tokenizer=other, out=tmp_path / "run", threshold="0.5")

    scanned("a")
    scanned("a")
    with pytest.raises(RunError, match="model:"):
        scanned("b")


def test_options_beside_a_config_win(model_dir: Path) -> None:
    config = gradsentry.ScanConfig(threshold="0.5", crop="none")
    result = gradsentry.scan(ROWS[:5], model_dir, config=config, threshold="0.9")
    assert result.threshold is not None
    assert result.threshold.value == 0.9
    assert result.document["run"]["crop"] == "none"


def test_a_finished_run_loads_no_model_unless_its_files_changed(
    jsonl: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = tmp_path / "model", tmp_path / "run"
    shutil.copytree(model_dir, model)
    first = run(jsonl, model, out, dtype="float32")
    loads: list[Any] = []
    load_model = scorer.load_model
    monkeypatch.setattr(scorer, "load_model", lambda *a, **k: loads.append(a) or load_model(*a, **k))
    again = run(jsonl, model, out, dtype="float32")
    assert not loads
    assert again.decision.verdicts.equals(first.decision.verdicts)
    os.utime(model / "config.json")
    run(jsonl, model, out, dtype="float32")
    assert len(loads) == 1, "files that changed are looked at"
    with pytest.raises(RunError, match="already holds another run"):
        run(jsonl, model, out, dtype="bfloat16")
    assert len(loads) == 2
