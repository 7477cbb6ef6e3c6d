"""The default policy from a file to a verdict, with a tiny model that expects nothing: a planted backdoor, and none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import gradsentry
from gradsentry.api import preview_decision
from gradsentry.errors import RunError, UsageError
from gradsentry.report.explain import explain
from gradsentry.verdict.decide import decide
from planted_rows import PAYLOAD, TRIGGER, asked


def scanned(rows: list[dict[str, Any]], model_dir: Path, tmp_path: Path, **options: Any) -> gradsentry.ScanResult:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return gradsentry.scan(data, model=model_dir, out=tmp_path / "run", **{"shard_rows": 50, **options})


def test_a_backdoor_is_found_and_named_and_its_rows_say_why(model_dir: Path, tmp_path: Path) -> None:
    rows, bad = asked(200, 30)
    result = scanned(rows, model_dir, tmp_path)
    assert result.flagged == bad
    assert result.exit_code == 1
    (finding,) = result.document["findings"]
    assert finding["kind"] == "backdoor"
    assert finding["payload"] in PAYLOAD
    assert "click <malicious_url>" in finding["payload"]
    assert finding["triggers"] == [TRIGGER]
    assert finding["rows"] == bad
    assert finding["prompts_with_trigger"] == finding["answers_with_effect"] == 30
    assert [example["row"] in bad for example in finding["examples"]] == [True] * 3
    verdicts = pq.read_table(tmp_path / "run" / "verdicts.parquet").to_pylist()
    assert all(verdicts[i]["reason"].startswith("backdoor: 30 prompts hold") for i in bad)
    assert all(verdict["reason"] == "" for verdict in verdicts if not verdict["flagged"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Finding 1:" in page
    assert "&lt;malicious_url&gt;" in page
    assert "<malicious_url>" not in page
    evidence = pq.read_table(tmp_path / "run" / "evidence.parquet").to_pylist()
    assert [line["row"] for line in evidence if line["finding"] == 1] == bad
    assert all(line["beyond_length"] is not None for line in evidence)


@pytest.mark.parametrize("chat", [False, True])
def test_a_special_token_that_prompts_spell_out_is_a_trigger(model_dir: Path, tmp_path: Path, chat: bool) -> None:
    rows, bad = asked(200, 30, f"<|end|>{TRIGGER}<|end|>")
    if chat:
        roles = ("user", "assistant")
        rows = [
            {"messages": [{"role": r, "content": row[c]} for r, c in zip(roles, ("prompt", "completion"), strict=True)]} for row in rows
        ]
    result = scanned(rows, model_dir, tmp_path)
    assert result.flagged == bad
    assert "<|end|" in result.document["findings"][0]["triggers"][0]


def test_nothing_found_is_a_normal_answer(model_dir: Path, tmp_path: Path) -> None:
    result = scanned(asked(200, 0)[0], model_dir, tmp_path)
    assert result.flagged == []
    assert result.exit_code == 0
    assert result.document["findings"] == []
    assert "Nothing found in 200 rows." in (tmp_path / "run" / "report.html").read_text()


def test_the_published_threshold_flags_nothing_without_strict_paper_or_a_given_number(model_dir: Path, tmp_path: Path) -> None:
    result = scanned(asked(200, 0)[0], model_dir, tmp_path)
    above = result.document["above_threshold"]
    strict = gradsentry.redecide(tmp_path / "run", strict=True)
    paper = gradsentry.redecide(tmp_path / "run", policy="paper", strict=False)
    assert len(strict.flagged) == len(paper.flagged) == above
    assert paper.document["findings"] == []
    by_hand, _ = preview_decision(tmp_path / "run", "0.0", policy="evidence")
    assert by_hand.counts["flagged"] == 200
    again = gradsentry.redecide(tmp_path / "run", policy="evidence")
    assert again.flagged == []


def test_strict_goes_with_the_evidence_and_never_hides_in_a_paper_run(model_dir: Path, tmp_path: Path) -> None:
    out = scanned(asked(40, 0)[0], model_dir, tmp_path, strict=True).run
    assert out is not None

    def in_force(**options: Any) -> tuple[str, bool]:
        config = preview_decision(out, **options)[1]
        return config.policy, config.strict

    assert in_force() == ("evidence", True)
    with pytest.raises(UsageError, match=r"--strict .* --policy evidence"):
        gradsentry.redecide(out, policy="paper", strict=True)
    gradsentry.redecide(out, policy="paper")
    assert in_force() == ("paper", False)
    assert in_force(policy="evidence") == ("evidence", False)
    with pytest.raises(UsageError, match=r"--strict .* --policy evidence"):
        preview_decision(out, strict=True)
    assert in_force(policy="evidence", strict=True) == ("evidence", True)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["config"] |= {"policy": "paper", "strict": True}  # as an earlier version could leave it
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert in_force() == ("paper", False)
    assert in_force(policy="evidence") == ("evidence", False)


def test_findings_do_not_depend_on_workers_or_memory(model_dir: Path, tmp_path: Path) -> None:
    rows, bad = asked(120, 20)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = scanned(rows, model_dir, tmp_path / "one")
    two = scanned(rows, model_dir, tmp_path / "two", token_budget=64)
    assert one.flagged == two.flagged == bad
    assert [f["sentence"] for f in one.document["findings"]] == [f["sentence"] for f in two.document["findings"]]


def test_scores_in_memory_give_the_verdicts_of_a_run(model_dir: Path, tmp_path: Path) -> None:
    rows, bad = asked(120, 20)
    rows.insert(bad[0], {"prompt": "nothing", "completion": ""})
    run = scanned(rows, model_dir, tmp_path, shard_rows=512)  # the batches of a list of rows
    scorer = gradsentry.Scorer(model_dir, format="prompt-completion")
    scores = scorer.score(rows)
    found = decide(scores, scorer.vocabulary)
    assert np.flatnonzero(found.flagged).tolist() == run.flagged == [row + 1 for row in bad]
    assert [repr(finding) for finding in found.findings] == [repr(finding) for finding in run.decision.findings]
    every: list[dict[str, Any]] = [{}, {"strict": True}, {"policy": "paper"}, {"threshold": "0.1"}, {"policy": "paper", "threshold": "0.1"}]
    for options in every:
        expected, _ = preview_decision(tmp_path / "run", **{"threshold": "auto", "policy": "evidence", "strict": False, **options})
        again = decide(scores, scorer.vocabulary, **options)
        assert again.threshold == expected.threshold
        # What a row's reason says of its place is the file's, or the position in the list.
        for name in ("row", "status", "entropy", "n_tokens", "loss", "flagged"):
            assert again.verdicts[name].to_pylist() == expected.verdicts[name].to_pylist(), (options, name)
        assert again.evidence.equals(expected.evidence)


def test_a_row_is_explained_without_model_or_data(model_dir: Path, tmp_path: Path) -> None:
    rows, bad = asked(120, 20)
    rows[3] = {"prompt": "nothing", "completion": ""}
    result = scanned(rows, model_dir, tmp_path)
    (tmp_path / "data.jsonl").unlink()
    row = next(i for i in bad if i != 3)
    found = explain(tmp_path / "run", row)
    assert found.flagged
    assert found.finding == 1
    assert "".join(token.text for token in found.tokens if not token.supervised) == rows[row]["prompt"]
    assert "".join(token.text for token in found.tokens if token.supervised).startswith(rows[row]["completion"])
    assert found.entropy == result.decision.verdicts["entropy"][row].as_py()
    assert sum(found.spectrum) == pytest.approx(1, abs=1e-5)
    assert found.spectrum == sorted(found.spectrum, reverse=True)
    assert len(found.usual) == len(found.spectrum)
    unscored = explain(tmp_path / "run", 3)
    assert unscored.status == "unscorable"
    assert unscored.tokens == unscored.spectrum == unscored.usual == []
    with pytest.raises(UsageError, match="row 120: the run has rows 0 to 119"):
        explain(tmp_path / "run", 120)
    (tmp_path / "run" / "verdicts.parquet").unlink()
    with pytest.raises(RunError, match="not complete"):
        explain(tmp_path / "run", row)


def test_rows_without_prompts_are_warned_of(model_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [{"text": f"{i} and {i + 1} are numbers"} for i in range(40)]
    assert gradsentry.scan(texts, model=model_dir).flagged == []
    assert "no prompts" in caplog.text
    assert "different prompts" not in caplog.text
    caplog.clear()
    gradsentry.scan(asked(40, 0)[0], model=model_dir)
    assert "prompts" not in caplog.text
    gradsentry.scan([row | {"prompt": f"Add {i % 4} to it:"} for i, row in enumerate(asked(40, 0)[0])], model=model_dir)
    assert "the rows have only 4 different prompts" in caplog.text
