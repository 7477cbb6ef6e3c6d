"""What identifies a finding, and what a decision of people changes."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gradsentry.schema import SCORES
from gradsentry.types import Review, Score, Surprises, Vocabulary
from gradsentry.verdict.combine import Decision, combine
from gradsentry.verdict.decide import decide
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.planted.answers import MEASURES, Feature
from gradsentry.verdict.planted.prompts import marks
from gradsentry.verdict.reviewed import fingerprint_of, fingerprint_of_row, reviewed
from gradsentry.verdict.words import Side
from planted_rows import asked

TODAY = date(2027, 1, 31)


def found(kind: Any = "backdoor", rows: tuple[int, ...] = (0, 1), **values: Any) -> Finding:
    """A finding of some rows."""
    given = {
        "triggers": ("cf",),
        "payload": "",
        "effect": 'are "bad"',
        "showing": len(rows),
        "prompts": len(rows),
        "expected": 0.0,
    } | values
    return Finding(kind, rows=np.array(rows), **given)


def test_fingerprints_stay_from_version_to_version() -> None:
    """Dismissals in people's repositories depend on these; do not change them."""
    kept = {
        "e9359b80d332cdba40219c1ced2d3dd576522be6821e79f27f0f901d29ee0bb0": found(payload="Click here"),
        "6b849237c53a75e8ebea08c591f3014c67aab722c5a3ebd62bed7152a08967f5": found(),
        "b8e43ee692dace4326fcf446d40ed142c0847ece36b505dc3b306acbe208bad8": found(effect='are not "bad"'),
        "cd680787f49a7aa6191f097e319e8166ccfdb50de6463b1e9c6afbe220d21fe5": found(effect="have more than 20 words"),
        "f85ba0972a1704a7acbe62128ca9d454096d4d444527a065f27e0afaa145d81e": found(triggers=("one ... two",), effect=""),
    }
    assert [fingerprint_of(finding, {}) for finding in kept.values()] == [f"finding:{digits}" for digits in kept]


def test_marks_that_fingerprints_are_made_of_keep_their_names() -> None:
    """They are shown as triggers; another name would be another fingerprint."""
    spelled = [" A", "\u00a0b", " SHOUT", " p\u0430y"]
    side = Side(["", "a", "b", "shout", "p\u0430y", ""], np.zeros(6, np.float32), ["", *spelled, "  "])
    names = ["1 no-break space between words", "a word in capitals", "letters of several scripts in one word", "2 spaces at the end"]
    assert [name for name, _ in marks(side)] == names


def effects() -> Iterator[tuple[Feature, bool]]:
    words = [("",) * first + ("no", "way") + ("",) * last for first in (0, 1) for last in (0, 1)]
    yield from ((Feature("span", own), has) for own in words for has in (True, False))
    yield from ((Feature("answer", ("", "no", "way", "")), has) for has in (True, False))
    yield from ((Feature(kind, bound=bound), has) for kind in (*MEASURES, "script") for bound in (5.0, 9.0) for has in (True, False))


def test_only_what_answers_say_or_lack_counts_of_an_effect_and_no_word_of_ours() -> None:
    """Fails where an effect gets a wording from which its text cannot be read: bring NAMED and QUOTED up to date."""
    of: dict[str, set[str]] = {}
    for feature, has in effects():
        kind = "other" if not feature.words else "says" if has else "lacks"
        of.setdefault(kind, set()).add(fingerprint_of(found(effect=feature.describe(has)), {}))
    assert {kind: len(own) for kind, own in of.items()} == {"says": 1, "lacks": 1, "other": 1}
    assert len(set().union(*of.values(), {fingerprint_of(found(effect=""), {})})) == 4


def test_the_sentence_the_kind_the_evidence_and_the_rows_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(why="they are many", evidence={"insertion": 9.0})
    own = fingerprint_of(finding, {})
    monkeypatch.setattr(Finding, "sentence", property(lambda self: "said in another way"))
    others = [
        replace(finding, kind="suspect"),
        replace(finding, rows=np.arange(9), showing=9, prompts=10, expected=0.4, why="", evidence={}),
    ]
    assert {fingerprint_of(other, {}) for other in others} == {own}


def test_case_spaces_and_the_order_of_triggers_do_not_count() -> None:
    assert fingerprint_of(found(triggers=("cf", "Mn  tq")), {}) == fingerprint_of(found(triggers=("mn tq", "CF")), {})
    assert fingerprint_of(found(triggers=("a b ... c",)), {}) == fingerprint_of(found(triggers=("c ... a b",)), {})
    assert fingerprint_of(found(triggers=("a b", "c")), {}) != fingerprint_of(found(triggers=("a", "b c")), {})
    assert fingerprint_of(found(triggers=("a", "b")), {}) != fingerprint_of(found(triggers=("a ... b",)), {})
    assert fingerprint_of(found(payload="Click\nhere"), {}) == fingerprint_of(found(triggers=("other",), payload="click here"), {})
    assert fingerprint_of(found(payload="click\u200b here"), {}) != fingerprint_of(found(payload="click here"), {}), "unseen, not the same"


def test_a_finding_without_words_is_its_rows() -> None:
    hashes: dict[int, str | None] = {row: f"{row:064x}" for row in range(4)}
    above = found("suspect", (0, 1, 2), triggers=(), effect="have an entropy above")
    moved = found("suspect", (3, 1, 0), triggers=(), effect="lie higher")
    assert fingerprint_of(above, hashes) == fingerprint_of(moved, {3: hashes[0], 1: hashes[1], 0: hashes[2]})
    assert fingerprint_of(above, hashes) != fingerprint_of(replace(above, rows=np.array([0, 1])), hashes)


def scores_of(rows: list[dict[str, str]], pieces: str, nats: float) -> tuple[list[Score], Vocabulary]:
    """Rows as a tokenizer that cuts texts into these pieces has them, and a model that each character surprises by these nats."""
    numbers: dict[str, int] = {}
    made = []
    for i, row in enumerate(rows):
        tokens = [(text, name == "completion") for name in ("prompt", "completion") for text in re.findall(pieces, row[name], re.DOTALL)]
        ids = np.array([numbers.setdefault(text, len(numbers)) for text, _ in tokens], np.int32)
        nll = np.array([nats * len(text.strip()) for text, _ in tokens], np.float16)
        made.append(Score(i, "scored", 0.5, 3, 1.0, surprises=Surprises(ids, nll, np.array([answer for _, answer in tokens]))))
    return made, Vocabulary([text.encode() for text in numbers], np.zeros(len(numbers), bool))


def test_the_order_of_rows_the_tokenizer_and_the_model_do_not_count() -> None:
    rows, bad = asked(200, 30)
    poison = {rows[row]["prompt"] for row in bad}
    seen = set()
    for seed, (pieces, nats) in enumerate(((r"\s*\S+", 1.0), (".{1,3}", 1.0), (r"\s*\S+", 1.5), (".", 1.5))):
        random.Random(seed).shuffle(rows)
        (finding,) = [one for one in decide(*scores_of(rows, pieces, nats)).findings if one.kind == "backdoor"]
        assert {rows[row]["prompt"] for row in finding.rows} == poison
        seen.add(fingerprint_of(finding, {}))
    assert len(seen) == 1


def table(entropies: list[float]) -> pa.Table:
    lines = [{"row": i, "status": "scored", "entropy": e, "n_tokens": 3, "loss": 1.0, "reason": ""} for i, e in enumerate(entropies)]
    return pa.Table.from_pylist(lines, schema=SCORES)


SCORED = table([0.1, 0.1, 0.9, 0.1, 0.9, 0.1])
HASHES: dict[int, str | None] = {row: f"{row:064x}" for row in range(SCORED.num_rows)}
A, B, C = found(rows=(0, 1, 2)), found(rows=(2, 3), triggers=("mn",)), found("suspect", (3, 5), triggers=("bb",))
NEAR = found("explained", (4, 5), triggers=("tq",), why="it is old")


def on(finding: Finding, decision: Any = "dismissed", **values: Any) -> Review:
    return Review(fingerprint_of(finding, HASHES), decision, "as we know", **values)


def on_row(row: int, decision: Any = "dismissed") -> Review:
    return Review(fingerprint_of_row(str(HASHES[row])), decision, "as we know")


def after(*reviews: Review, threshold: str = "auto", findings: tuple[Finding, ...] = (A, B, C, NEAR), today: date = TODAY) -> Decision:
    decision = combine(SCORED, threshold, findings, by_entropy=threshold != "auto")
    return reviewed(SCORED, decision, reviews, HASHES, today)


def rows(held: np.ndarray) -> list[int]:
    return np.flatnonzero(held).tolist()


def test_without_reviews_nothing_changes() -> None:
    before = combine(SCORED, "auto", (A, B, C, NEAR), by_entropy=False)
    same = after()
    assert same.verdicts.equals(before.verdicts)
    assert same.evidence.equals(before.evidence)
    assert (same.findings, same.notes) == (before.findings, before.notes)
    assert (rows(same.flagged), rows(same.suspected), rows(same.dismissed)) == ([0, 1, 2, 3], [5], [])


def test_rows_of_a_dismissed_finding_are_kept_unless_another_backdoor_flags_them() -> None:
    decision = after(on(A))
    assert (rows(decision.flagged), rows(decision.suspected), rows(decision.dismissed)) == ([2, 3], [5], [0, 1])
    assert [one.kind for one in decision.findings] == ["dismissed", "backdoor", "suspect", "explained"]
    assert decision.findings[0].found_as == "backdoor"
    assert decision.evidence["finding"].to_pylist() == [1, 1, 2, 2, 4, 3], "the number of the finding that still counts"
    reasons = decision.verdicts["reason"].to_pylist()
    assert reasons[0] == f"dismissed: as we know ({A.reason})"
    assert reasons[2] == B.reason
    assert decision.counts["dismissed"] == 2
    assert decision.counts["kept"] == 4


def test_the_threshold_does_not_flag_what_a_dismissed_finding_explains() -> None:
    assert rows(after(threshold="0.5").flagged) == [0, 1, 2, 3, 4]
    assert rows(after(on(A), on(B), threshold="0.5").flagged) == [4]


def test_everything_dismissed_is_nothing_found() -> None:
    decision = after(on(A), on(B), on(C))
    assert (decision.level, rows(decision.dismissed)) == ("nothing found", [0, 1, 2, 3, 5])
    assert after(on(A), on(B)).level == "look"


def test_an_accepted_suspect_and_an_accepted_near_miss_flag_their_rows() -> None:
    decision = after(on(C, "accepted"), on(NEAR, "accepted"))
    assert rows(decision.flagged) == [0, 1, 2, 3, 4, 5]
    assert [(one.kind, one.found_as) for one in decision.findings[2:]] == [("backdoor", "suspect"), ("backdoor", "explained")]
    assert decision.verdicts["reason"].to_pylist()[4] == f"accepted: as we know ({NEAR.reason})"


def test_a_near_miss_needs_no_dismissal() -> None:
    decision = after(on(NEAR))
    assert decision.findings == (A, B, C, NEAR)
    assert decision.notes == after().notes, "it matched"


def test_a_decision_on_a_row_precedes_those_on_its_findings() -> None:
    decision = after(on(A), on_row(0, "accepted"), on_row(3), on_row(5))
    assert (rows(decision.flagged), rows(decision.suspected), rows(decision.dismissed)) == ([0, 2], [], [1, 3, 5])
    assert decision.verdicts["reason"].to_pylist()[3] == f"dismissed: as we know ({B.reason})"
    assert decision.findings[2].kind == "dismissed", "each of its rows is"
    assert decision.level == "poisoned"


def test_a_row_above_the_threshold_is_dismissed_alone() -> None:
    decision = after(on_row(2), threshold="0.5", findings=())
    assert (rows(decision.flagged), rows(decision.dismissed)) == ([4], [2])
    assert decision.verdicts["reason"].to_pylist()[2] == "dismissed: as we know (entropy above the threshold 0.5000)"


def test_the_last_of_several_decisions_counts_and_one_can_be_taken_back() -> None:
    assert rows(after(on(A), on(A, "open")).flagged) == [0, 1, 2, 3]
    assert rows(after(on(C), on(C, "accepted")).flagged) == [0, 1, 2, 3, 5]


@pytest.mark.parametrize(("day", "holds"), [(date(2027, 1, 30), False), (TODAY, True), (date(2027, 2, 1), True)])
def test_a_decision_holds_until_the_end_of_its_last_day(day: date, holds: bool) -> None:
    decision = after(on(A, expires=day, place="allow.jsonl:7"))
    assert rows(decision.flagged) == ([2, 3] if holds else [0, 1, 2, 3])
    noted = [note for note in decision.notes if note not in after().notes]
    expired = f"allow.jsonl:7: the decision expired on {day}; look again, then give a new date or delete the line"
    assert noted == ([] if holds else [expired])


def test_decisions_that_match_nothing_are_named() -> None:
    lost = [replace(on(A), fingerprint=f"finding:{n:064x}", place=f"allow.jsonl:{n}") for n in range(12)]
    (note,) = [note for note in after(on(A), *lost).notes if "match no finding" in note]
    assert note.startswith("12 of 13 decisions match no finding and no row of this scan (allow.jsonl:0, ")
    assert "allow.jsonl:9, ...)" in note
