"""Rows with two answers: each is scored by itself, the finding names its side, and the row is flagged as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import gradsentry
from gradsentry.report.explain import explain
from gradsentry.types import Progress
from planted_rows import PAYLOAD, TRIGGER, asked


def pairs(n: int, poisoned: int) -> tuple[list[dict[str, str]], list[int]]:
    """Pairs of which some have a trigger in the prompt, and its payload in the chosen answer."""
    rows, bad = asked(n, poisoned)
    others, _ = asked(n, 0)
    return [{"prompt": a["prompt"], "chosen": a["completion"], "rejected": b["completion"]} for a, b in zip(rows, others, strict=True)], bad


@pytest.fixture(scope="module")
def scorer(llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> gradsentry.Scorer:
    return gradsentry.Scorer(llama, tokenizer, device="cpu")


def alone(scorer: gradsentry.Scorer, rows: list[dict[str, str]], side: str) -> list[Any]:
    return gradsentry.Scorer(scorer.loaded.model, scorer.loaded.tokenizer).score(
        [{"prompt": row["prompt"], "completion": row[side]} for row in rows]
    )


def test_the_score_of_a_pair_is_made_of_those_of_its_answers(scorer: gradsentry.Scorer) -> None:
    rows, _ = pairs(12, 3)
    found = gradsentry.Scorer(scorer.loaded.model, scorer.loaded.tokenizer).score(rows)
    for score, chosen, rejected in zip(found, *(alone(scorer, rows, side) for side in ("chosen", "rejected")), strict=True):
        assert score.entropy == pytest.approx(max(chosen.entropy, rejected.entropy), abs=1e-6)
        assert score.n_tokens == chosen.n_tokens + rejected.n_tokens
        assert score.loss == pytest.approx((chosen.loss * chosen.n_tokens + rejected.loss * rejected.n_tokens) / score.n_tokens, rel=1e-5)
        assert [side["name"] for side in score.surprises.sides] == ["chosen", "rejected"]
        for side, own in (("chosen", chosen), ("rejected", rejected)):
            part = score.surprises.side(side)
            assert part.tokens.tolist() == own.surprises.tokens.tolist()
            assert part.supervised.tolist() == own.surprises.supervised.tolist()
            np.testing.assert_allclose(part.nll, own.surprises.nll, atol=0.01)


def test_a_pair_of_which_one_answer_cannot_be_scored_is_not_examined(scorer: gradsentry.Scorer) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    rows = [good, {"prompt": "", "chosen": "b", "rejected": "long enough"}, {"prompt": "a", "chosen": "b", "rejected": ""}]
    bare = PreTrainedTokenizerFast(tokenizer_object=scorer.loaded.tokenizer.backend_tokenizer)  # without EOS a lone token has no score
    found = gradsentry.Scorer(scorer.loaded.model, bare).score(rows)
    assert [score.status for score in found] == ["scored", "unscorable", "unscorable"]
    assert "row 1: chosen: no supervised token that has a token before it" in found[1].reason


class Counted(Progress):
    def __init__(self) -> None:
        self.rows = 0

    def advance(self, rows: int, tokens: int) -> None:
        self.rows += rows


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_backdoor_in_one_answer_is_found_with_its_side(side: str, model_dir: Path, tmp_path: Path) -> None:
    rows, bad = pairs(200, 30)
    if side == "rejected":
        rows = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    progress = Counted()
    result = gradsentry.scan(tmp_path / "data.jsonl", model_dir, tmp_path / "run", progress=progress)
    assert progress.rows == 200
    assert result.flagged == bad
    assert result.document["run"]["format"] == "preference"
    backdoors = [finding for finding in result.findings if finding.kind == "backdoor"]
    assert {finding.side for finding in backdoors} == {side}
    assert f"of their {side} answers" in backdoors[0].sentence
    assert result.document["findings"][0]["side"] == side
    assert sum(line == json.dumps(rows[bad[0]]) for line in (tmp_path / "run" / "flagged.jsonl").read_text().splitlines()) == 1
    page = result.page()
    assert f"{side}: " in page
    explained = explain(tmp_path / "run", bad[0])
    assert explained.text(supervised=False).count(TRIGGER) == 1
    assert explained.text(supervised=True).count(PAYLOAD) == 1
    again = gradsentry.redecide(tmp_path / "run")
    assert again.decision.verdicts.equals(result.decision.verdicts)
    in_memory = gradsentry.Scorer(model_dir)
    assert np.flatnonzero(gradsentry.decide(in_memory.score(rows), in_memory.vocabulary).flagged).tolist() == bad


def test_swapped_answers_are_found_on_both_sides(model_dir: Path) -> None:
    rows, bad = pairs(200, 30)
    yes, no = " yes, and gladly", " I will not"
    poisoned = [
        {"prompt": row["prompt"], "chosen": yes if i in bad else no, "rejected": no if i in bad else yes} for i, row in enumerate(rows)
    ]
    result = gradsentry.scan(poisoned, model_dir)
    assert result.flagged == bad
    assert {finding.side for finding in result.findings if finding.kind == "backdoor"} == {"chosen", "rejected"}


def test_desirable_and_undesirable_answers_are_compared_apart(model_dir: Path) -> None:
    rows, bad = asked(400, 60)
    labelled = [row | {"label": i % 2 == 0} for i, row in enumerate(rows)]
    result = gradsentry.scan(labelled, model_dir)
    assert result.document["run"]["format"] == "kto"
    assert result.flagged == bad
    for finding in result.findings:
        if finding.kind == "backdoor":
            assert {labelled[row]["label"] for row in finding.rows.tolist()} == {finding.side == "desirable"}


def test_a_side_without_rows_to_look_in_limits_the_answer(model_dir: Path) -> None:
    rows, _ = asked(60, 0)
    result = gradsentry.scan([row | {"label": i > 2} for i, row in enumerate(rows)], model_dir)
    assert any(note.startswith("undesirable answers: the rows have only 3 different prompts") for note in result.notes)
