"""Files of what people decided: ``reviews.jsonl`` of a run, and the file of ``--allow``. Each line is a JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from gradsentry.errors import RunError, UsageError
from gradsentry.escape import one_line
from gradsentry.run.atomic import atomic_write
from gradsentry.run.directory import RunDirectory, fingerprint
from gradsentry.types import Review

FIELDS = ("fingerprint", "decision", "reason", "expires", "what", "run", "time")
"""Of a line. `what` and `time` are for people; `run` identifies the scan that the person looked at."""
DECISIONS = ("dismissed", "accepted", "open")
FINGERPRINT = re.compile(r"(?:finding|row):[0-9a-f]{64}")
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
SHOWN = 80
"""Characters of a value in an error."""


def read_allowed(path: str | None) -> list[Review]:
    """The decisions in the file of ``--allow``; none without a file.

    Raises:
        UsageError: the file is missing or empty, or a line is malformed: file, line, value, and what to do.
    """
    if path is None:
        return []
    try:
        text = _text(Path(path))
    except OSError as error:
        raise UsageError(f"--allow {path}: {(error.strerror or str(error)).lower()}; give a file of decisions (docs/review.md)") from None
    except ValueError as error:
        raise UsageError(f"--allow {path}: it is no UTF-8 text ({error}); give a file of decisions (docs/review.md)") from None
    reviews = [review for review, _ in _reviews(path, text, UsageError)]
    if not reviews:
        raise UsageError(f"--allow {path}: the file has no decisions; copy lines of a run's reviews.jsonl into it, or leave out --allow")
    return reviews


def read_reviews(run: RunDirectory, manifest: dict[str, Any]) -> list[Review]:
    """The decisions of a run; none where there is no ``reviews.jsonl``.

    Raises:
        RunError: a line is malformed, or was written for another scan than the one that the run now holds.
    """
    path, own = run.reviews, fingerprint(manifest["identity"])
    try:
        text = _text(path)
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise RunError(f"{path}: it is no UTF-8 text ({error}); mend it or delete it") from None
    reviews = []
    for review, held in _reviews(str(path), text, RunError):
        if held != own:
            raise RunError(
                f"{review.place}: the decision is on another scan ({held or 'which the line does not name'}; the run now has {own}): its "
                "data, model or options have changed; move the file away, and give it to --allow to use its decisions here"
            )
        reviews.append(review)
    return reviews


def add_review(run: RunDirectory, manifest: dict[str, Any], review: Review, what: str) -> None:
    """Append a decision to the run's ``reviews.jsonl``.

    Args:
        what: the finding or the row in words, for people who read the file.

    Raises:
        RunError: as for `read_reviews`, or the run on disk is not the one of this manifest.
    """
    held = run.manifest()
    if held is None or held["identity"] != manifest["identity"]:
        raise RunError(f"{run.path} has changed since this review began: it was scored again, or deleted; start gradsentry review again")
    read_reviews(run, manifest)
    line = {
        "fingerprint": review.fingerprint,
        "decision": review.decision,
        "reason": review.reason,
        "expires": review.expires and review.expires.isoformat(),
        "what": what,
        "run": fingerprint(manifest["identity"]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    before = _text(run.reviews) if run.reviews.exists() else ""
    with atomic_write(run.reviews) as part:
        part.write_text(before + "\n" * (bool(before) and not before.endswith("\n")) + json.dumps(line) + "\n", encoding="utf-8")


def parse_day(text: str) -> date:
    """The day YYYY-MM-DD.

    Raises:
        ValueError: it is none.
    """
    if not DAY.fullmatch(text):
        raise ValueError(f"{text!r} is no day such as 2027-01-31")
    return date.fromisoformat(text)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _reviews(path: str, text: str, error: Callable[[str], Exception]) -> list[tuple[Review, str | None]]:
    """The decisions of the lines that are not blank, each with the run that its line names."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append(_review(line, f"{one_line(path)}:{number}"))
            except ValueError as problem:
                raise error(f"{path}:{number}: {problem}") from None
    return found


def _review(line: str, place: str) -> tuple[Review, str | None]:
    """One line, and the run that it names. Raises ValueError: what is wrong with it and what to do."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = str(error) if isinstance(error, json.JSONDecodeError) else "it is nested too deeply, or has too many digits"
        raise ValueError(f"it is not valid JSON ({problem}): {_shown(line)}; each line is a JSON object, as in reviews.jsonl") from None
    if not isinstance(values, dict):
        raise ValueError(f"it is no JSON object: {_shown(line)}; each line is one, as in reviews.jsonl")
    for name, value in values.items():
        if name not in FIELDS:
            raise ValueError(f"there is no field {_shown(name)}; the fields are {', '.join(FIELDS)}")
        if not isinstance(value, str) and not (value is None and name in ("expires", "run")):
            raise ValueError(f"{name} is no text: {_shown(line)}; give one in quotes")
    given: str = values.get("fingerprint", "")
    if not FINGERPRINT.fullmatch(given):
        raise ValueError(f"the fingerprint is {_shown(given)}; copy one from report.json or reviews.jsonl: finding: or row:, and 64 digits")
    decision = values.get("decision", "dismissed")
    if decision not in DECISIONS:
        raise ValueError(f"the decision is {_shown(decision)}; it can be {', '.join(DECISIONS)}")
    reason = " ".join(values.get("reason", "").split())
    if not reason and decision != "open":
        raise ValueError('it has no reason; say why in "reason"')
    try:
        expires = parse_day(values["expires"]) if values.get("expires") is not None else None
    except ValueError:
        raise ValueError(f"expires is {_shown(values['expires'])}; give a day such as 2027-01-31, or leave it out") from None
    return Review(given, decision, reason, expires, place), values.get("run")


def _shown(value: str) -> str:
    return json.dumps(value if len(value) <= SHOWN else value[: SHOWN - 1] + "\u2026", ensure_ascii=False)
