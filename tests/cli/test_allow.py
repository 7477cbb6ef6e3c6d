"""Decisions as a user and a CI job meet them: what passes, what fails, and what is printed and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import gradsentry
from gradsentry.report.formats import sarif
from planted_rows import PAYLOAD, asked
from typed import clean
from typed import gradsentry as typed

ROWS, BAD = asked(200, 30)
SCHEMA = json.loads((Path(gradsentry.__file__).parent / "report" / "report.schema.json").read_text(encoding="utf-8"))
SARIF_SCHEMA = json.loads((Path(__file__).parents[1] / "report" / "formats" / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
WHY = "our own <b>template</b>"


@pytest.fixture(scope="module")
def scanned(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with poisoned data and a run."""
    folder = tmp_path_factory.mktemp("allowed")
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert typed("scan", "data.jsonl", "--model", model_dir, "--out", "run", cwd=folder).returncode == 1
    return folder


def document(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run" / "report.json").read_text())


def allow(folder: Path, *lines: dict[str, Any], name: str = "allow.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps({"reason": WHY} | line) + "\n" for line in lines))
    return name


def the_finding(folder: Path) -> str:
    (finding,) = document(folder)["findings"]
    return finding["fingerprint"]


def test_a_dismissed_finding_passes_and_is_shown_as_dismissed(scanned: Path) -> None:
    own = the_finding(scanned)
    result = typed("filter", "run", "--allow", allow(scanned, {"fingerprint": own}), "--sarif", "out.sarif", cwd=scanned)
    assert result.returncode == 0, clean(result)
    assert "Nothing found in 200 rows beyond 30 rows that were dismissed." in result.stdout
    assert f"not flagged (dismissed: {WHY}): 30 prompts hold" in result.stdout
    assert (scanned / "run" / "kept.jsonl").read_text() == (scanned / "data.jsonl").read_text()
    written = document(scanned)
    jsonschema.Draft202012Validator(SCHEMA).validate(written)
    review = {"decision": "dismissed", "reason": WHY, "expires": None}
    (finding,) = written["findings"]
    assert (finding["kind"], finding["found_as"], finding["fingerprint"], finding["review"]) == ("dismissed", "backdoor", own, review)
    assert [(row["row"], row["flagged"], row["finding"], row["review"]) for row in written["rows"]] == [(n, False, 1, review) for n in BAD]
    page = (scanned / "run" / "report.html").read_text()
    assert "dismissed: our own &lt;b&gt;template&lt;/b&gt;" in page
    assert 'class="card dismissed"' in page
    log = json.loads((scanned / "out.sarif").read_text())
    jsonschema.Draft4Validator(SARIF_SCHEMA).validate(log)
    results = log["runs"][0]["results"]
    assert [one["ruleId"] for one in results] == ["backdoor"] * 30
    assert all(one["suppressions"] == [{"kind": "external", "status": "accepted", "justification": WHY}] for one in results)
    explained = typed("explain", "run", BAD[0], cwd=scanned)
    assert f"dismissed: {WHY} (backdoor: 30 prompts hold" in explained.stdout
    assert "^" in explained.stdout, "the trigger is marked as before"
    dry = typed("filter", "run", "--allow", "allow.jsonl", "--dry-run", cwd=scanned)
    assert "flags 0 of 200 rows" in dry.stdout
    again = typed("filter", "run", cwd=scanned)
    assert again.returncode == 1, "filter does not take the file over"


def test_a_dismissed_finding_is_found_again_in_other_data(scanned: Path, model_dir: Path) -> None:
    """The rows in another order and file format, with clean rows more, and by another command."""
    path = allow(scanned, {"fingerprint": the_finding(scanned)})
    more, _ = asked(300, 0)
    moved = [*more[:100], *reversed(ROWS)]
    (scanned / "moved.json").write_text(json.dumps([{"completion": row["completion"], "prompt": row["prompt"]} for row in moved]))
    result = typed("check", "moved.json", "--model", model_dir, "--allow", path, cwd=scanned)
    assert result.returncode == 0, result.stdout
    assert "dismissed" in result.stdout
    poisoned = [row | {"completion": row["completion"].replace(PAYLOAD, " buy gold now at once")} for row in ROWS]
    (scanned / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in poisoned))
    other = typed("check", "other.jsonl", "--model", model_dir, "--allow", path, cwd=scanned)
    assert other.returncode == 1, "the same trigger with another payload is another finding"
    assert "1 of 1 decisions match no finding and no row of this scan (allow.jsonl:1)" in clean(other)


def test_an_expired_dismissal_fails_and_says_so(scanned: Path) -> None:
    path = allow(scanned, {"fingerprint": the_finding(scanned), "expires": "2020-01-31"})
    result = typed("filter", "run", "--allow", path, cwd=scanned)
    assert result.returncode == 1
    note = "allow.jsonl:1: the decision expired on 2020-01-31; look again, then give a new date or delete the line"
    assert note in clean(result)
    assert note in document(scanned)["notes"]


def test_rows_are_dismissed_one_by_one(scanned: Path) -> None:
    typed("filter", "run", cwd=scanned)
    hashes = {row["row"]: row["sha256"] for row in document(scanned)["rows"]}
    path = allow(scanned, *({"fingerprint": f"row:{hashes[row]}"} for row in BAD[:8]), {"fingerprint": "row:" + "0" * 64})
    result = typed("filter", "run", "--allow", path, "--annotate", "github", cwd=scanned)
    assert result.returncode == 1
    assert "22 of 200 rows (11.0 %) look poisoned." in result.stdout
    assert f"row {BAD[0]}, data.jsonl:{BAD[0] + 1}: dismissed: {WHY}" in result.stdout
    assert "... and 3 more rows that are dismissed" in result.stdout
    assert "error 0, dismissed 8" in result.stdout
    assert "1 of 9 decisions match no finding and no row of this scan (allow.jsonl:9)" in clean(result)
    annotated = [line for line in result.stderr.splitlines() if line.startswith("::")]
    assert annotated[0].startswith(f"::error file=data.jsonl,line={BAD[8] + 1},")
    assert [row["flagged"] for row in document(scanned)["rows"]] == [False] * 8 + [True] * 22
    assert "Rows that a person decided on alone" in (scanned / "run" / "report.html").read_text()
    every = allow(scanned, *({"fingerprint": f"row:{hashes[row]}"} for row in BAD))
    assert typed("filter", "run", "--allow", every, cwd=scanned).returncode == 0


def test_an_accepted_suspect_is_flagged(model_dir: Path, tmp_path: Path) -> None:
    plain = [row | {"completion": row["completion"].partition(",")[0]} for row in ROWS]
    first = gradsentry.scan(plain, model=model_dir)
    (suspect,) = [finding for finding in first.document["findings"] if finding["kind"] == "suspect"]
    path = tmp_path / allow(tmp_path, {"fingerprint": suspect["fingerprint"], "decision": "accepted"})
    result = gradsentry.scan(plain, model=model_dir, allow=str(path))
    assert (result.flagged, result.exit_code) == (BAD, 1)
    (finding,) = [finding for finding in result.document["findings"] if finding["review"]]
    assert (finding["kind"], finding["found_as"]) == ("backdoor", "suspect")
    assert {reported["ruleId"] for reported in sarif.sarif(result.document)["runs"][0]["results"]} == {"backdoor"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "--allow allow.jsonl: no such file or directory; give a file of decisions"),
        ("", "--allow allow.jsonl: the file has no decisions"),
        ('{"fingerprint": "finding:1"}\n', 'allow.jsonl:1: the fingerprint is "finding:1"; copy one from report.json'),
        ("\u202e\x1b[2J\n", "allow.jsonl:1: it is not valid JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_before_anything_is_scored(
    text: str | None, message: str, scanned: Path, model_dir: Path
) -> None:
    (scanned / "allow.jsonl").unlink(missing_ok=True)
    if text is not None:
        (scanned / "allow.jsonl").write_text(text)
    before = {path: path.stat().st_mtime_ns for path in (scanned / "run").iterdir()}
    for command in (
        ["filter", "run"],
        ["filter", "run", "--dry-run"],
        ["scan", "data.jsonl", "--model", model_dir, "--out", "new"],
        ["check", "data.jsonl", "--model", model_dir],
    ):
        result = typed(*command, "--allow", "allow.jsonl", cwd=scanned)
        assert (result.returncode, result.stdout) == (2, "")
        assert message in clean(result)
        assert "\x1b" not in result.stderr
    assert not (scanned / "new").exists()
    assert {path: path.stat().st_mtime_ns for path in (scanned / "run").iterdir()} == before
