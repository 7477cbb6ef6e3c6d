"""Files of decisions: what a line may be, and how a malformed one is refused."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsentry.errors import GradsentryError, RunError, UsageError
from gradsentry.run.directory import fingerprint
from gradsentry.run.reviews import FIELDS, add_review, read_allowed, read_reviews
from gradsentry.types import Review
from runs import IDENTITY, begun

PRINT = "finding:" + "0" * 64
LINE: dict[str, Any] = {"fingerprint": PRINT, "reason": "our template", "expires": "2027-01-31"}
MANIFEST = {"identity": IDENTITY}


def allow(folder: Path, text: str | bytes) -> str:
    path = folder / "allow.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_line_needs_fingerprint_and_reason(tmp_path: Path) -> None:
    other = {"fingerprint": PRINT.replace("finding", "row"), "reason": " two \n lines ", "decision": "accepted", "expires": None}
    path = allow(tmp_path, f"\ufeff{json.dumps(LINE)}\r\n\n{json.dumps(other)}")
    assert read_allowed(path) == [
        Review(PRINT, "dismissed", "our template", date(2027, 1, 31), f"{path}:1"),
        Review(PRINT.replace("finding", "row"), "accepted", "two lines", None, f"{path}:3"),
    ]
    assert read_allowed(None) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "finding:12"}, 'the fingerprint is "finding:12"; copy one from report.json or reviews.jsonl'),
        ({"fingerprint": PRINT.upper()}, "the fingerprint is"),
        ({"fingerprint": 7}, "fingerprint is no text"),
        ({"reason": "  "}, 'it has no reason; say why in "reason"'),
        ({"reason": None}, "reason is no text"),
        ({"expires": "31.1.2027"}, 'expires is "31.1.2027"; give a day such as 2027-01-31'),
        ({"expires": "2027-02-30"}, 'expires is "2027-02-30"; give a day'),
        ({"expires": "20270131"}, 'expires is "20270131"; give a day'),
        ({"expires": 2027}, "expires is no text"),
        ({"expiry": "2027-01-31"}, 'there is no field "expiry"; the fields are fingerprint, decision, reason, expires, what, run, time'),
        ({"decision": "ignored"}, 'the decision is "ignored"; it can be dismissed, accepted, open'),
        ({"decision": "x" * 500}, 'the decision is "xxx'),
    ],
)
def test_a_malformed_line_is_refused_with_file_line_value_and_what_to_do(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = allow(tmp_path, json.dumps(LINE) + "\n" + json.dumps(LINE | change) + "\n")
    with pytest.raises(UsageError) as caught:
        read_allowed(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600 + len(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PRINT, ":1: it is not valid JSON"),
        ('{"fingerprint": ', ":1: it is not valid JSON"),
        ("[" * 100_000, ":1: it is not valid JSON"),
        ('{"reason": ' + "9" * 5000 + "}", ":1: it is not valid JSON"),
        ("[]", ":1: it is no JSON object: "),
        ("{}", ':1: the fingerprint is ""; copy one'),
        ("", "the file has no decisions; copy lines of a run's reviews.jsonl into it, or leave out --allow"),
        ("\n \n", "the file has no decisions"),
        (b"\xff\xfe", "it is no UTF-8 text"),
    ],
)
def test_a_file_that_is_none_of_decisions_is_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = allow(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_allowed(path)
    assert path in str(caught.value)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--allow .*gone.jsonl: no such file or directory; give a file of decisions"):
        read_allowed(str(tmp_path / "gone.jsonl"))
    with pytest.raises(UsageError, match="is a directory; give a file"):
        read_allowed(str(tmp_path))


@given(text=st.text() | st.dictionaries(st.sampled_from([*LINE, "decision", "x"]), st.text() | st.integers() | st.none()).map(json.dumps))
def test_any_text_is_decisions_or_a_message_with_its_line(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = allow(tmp_path_factory.getbasetemp(), text.encode("utf-8", "surrogatepass"))
    try:
        reviews = read_allowed(path)
    except UsageError as error:
        message = str(error)
    else:
        message = "".join(review.place for review in reviews)
    assert path in message


def test_decisions_are_appended_and_read_back(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    assert read_reviews(run, MANIFEST) == []
    for number, decision in enumerate(("dismissed", "accepted", "open"), start=1):
        given = Review(PRINT, decision, f"reason {number} \u202e", date(2027, 1, 31) if number == 1 else None)
        add_review(run, MANIFEST, given, "a finding\nin words")
        last = read_reviews(run, MANIFEST)[-1]
        assert last == Review(given.fingerprint, decision, given.reason, given.expires, f"{run.reviews}:{number}")
    text = run.reviews.read_text()
    assert text.isascii()
    assert text.count("\n") == 3
    assert json.loads(text.splitlines()[0])["run"] == fingerprint(IDENTITY)
    assert read_allowed(str(run.reviews)) == read_reviews(run, MANIFEST), "it can be given to --allow"


def test_a_last_line_without_its_end_is_not_joined_to_the_next(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.reviews.write_text(json.dumps(LINE | {"run": fingerprint(IDENTITY)}))
    add_review(run, MANIFEST, Review(PRINT, "open", ""), "")
    assert [review.decision for review in read_reviews(run, MANIFEST)] == ["dismissed", "open"]


def test_decisions_on_another_scan_are_refused(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    add_review(run, MANIFEST, Review(PRINT, "dismissed", "why"), "")
    other = {"identity": IDENTITY | {"model": "m2"}}
    with pytest.raises(RunError, match=r"reviews.jsonl:1: the decision is on another scan .* give it to --allow"):
        read_reviews(run, other)
    with pytest.raises(RunError, match="has changed since this review began: it was scored again"):
        add_review(run, other, Review(PRINT, "dismissed", "why"), "")
    run.manifest_path.unlink()
    with pytest.raises(RunError, match="or deleted; start gradsentry review again"):
        add_review(run, MANIFEST, Review(PRINT, "dismissed", "why"), "")


@pytest.mark.parametrize("text", [json.dumps(LINE), "{", "\udcff"])
def test_reviews_of_a_run_that_are_malformed_are_refused_and_stay(text: str, tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.reviews.write_text(text, errors="surrogateescape")
    for act in (lambda: read_reviews(run, MANIFEST), lambda: add_review(run, MANIFEST, Review(PRINT, "dismissed", "why"), "")):
        with pytest.raises(GradsentryError, match=r"reviews\.jsonl:"):
            act()
    assert run.reviews.read_text(errors="surrogateescape") == text


def test_overwriting_a_run_with_decisions_is_refused(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.check({"model": "m2"}, overwrite=True)
    add_review(run, MANIFEST, Review(PRINT, "dismissed", "why"), "")
    run.check(IDENTITY)
    with pytest.raises(RunError, match=r"reviews.jsonl has decisions on the run that --overwrite would replace; move it away"):
        run.check(IDENTITY, overwrite=True)


def test_the_line_and_the_fields_of_the_guide_are_as_it_says(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "review.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```json\n(.*?)^```", guide, re.M | re.S)
    (review,) = read_allowed(allow(tmp_path, block))
    assert (review.decision, review.expires) == ("dismissed", date(2027, 1, 31))
    cells = re.findall(r"^\| (`[a-z`, ]+`) \|", guide, re.M)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(FIELDS)
