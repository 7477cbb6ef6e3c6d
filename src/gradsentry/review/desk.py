"""The findings and rows of a run that a person can decide on, as a page with forms."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from gradsentry.api import reopen, sides_of
from gradsentry.errors import UsageError
from gradsentry.report.document import LISTED_BY_ENTROPY, Previews, entropy_alone, rows_to_show
from gradsentry.report.html import environment, split_command
from gradsentry.report.marked import LEVELS
from gradsentry.report.page import Cards
from gradsentry.report.places import RowPlaces, Visitors
from gradsentry.run.reviews import DECISIONS, add_review, parse_day, read_allowed, read_reviews
from gradsentry.run.words import RunWords, words_of_rows
from gradsentry.types import Review
from gradsentry.verdict.decide import decide_table
from gradsentry.verdict.reviewed import fingerprint_of, fingerprint_of_row, last_of, reviewed

MEANINGS = {
    "backdoor": "backdoor, rows flagged",
    "suspect": "suspect, rows kept",
    "explained": "near miss, rows kept",
    "dismissed": "dismissed, rows kept",
}
"""Of the kinds of findings."""


@dataclass(frozen=True)
class Target:
    """What a form decides on."""

    fingerprint: str
    what: str
    """In words."""
    review: Review | None
    """The last decision on it."""


class Desk:
    """A run under review.

    Raises:
        RunError: there is no finished run. UsageError, DataError: its data cannot be read again, or have changed.
    """

    def __init__(self, run_path: str | os.PathLike[str]) -> None:
        self._opened = reopen(run_path)
        run, shards = self._opened.run, self._opened.shards
        self._scores = run.read_scores(shards)
        self._decision = decide_table(self._scores, partial(RunWords, run, shards), self._opened.config, sides_of(self._opened.config))
        previews, places = Previews(rows_to_show(self._decision), self._opened.config), RowPlaces(self._decision)
        Visitors(previews, places).read(self._opened.source, shards)
        self._texts, self._sha256 = previews.rows, places.sha256
        self._words = words_of_rows(run, shards, previews.wanted) if run.has_vocabulary else {}
        self._reviews()  # errors before anybody has typed a reason

    @property
    def decided(self) -> int:
        """Number of decisions that the run's ``reviews.jsonl`` has, without those that were taken back."""
        return len(last_of(read_reviews(self._opened.run, self._opened.manifest)))

    @property
    def next_command(self) -> str:
        """What splits the rows by the decisions."""
        return split_command(self._opened.manifest, self._opened.run.path)

    def page(self) -> str:
        """The page, with the decisions so far.

        Raises:
            RunError: ``reviews.jsonl`` is malformed, or of another scan.
        """
        reviews = self._reviews()
        decision = reviewed(self._scores, self._decision, reviews, self._sha256)
        cards = Cards(decision, self._texts, self._words)
        findings, rows = self._targets(last_of(reviews))
        alone = entropy_alone(self._decision)
        return (
            environment()
            .get_template("review.html.j2")
            .render(
                data=self._opened.manifest["data"]["name"],
                notes=decision.notes[len(self._decision.notes) :],
                counts=decision.counts,
                command=self.next_command,
                findings=[cards.finding(number, 1.0) for number in findings],
                meanings=MEANINGS,
                alone=[cards.row(row) for row in alone[:LISTED_BY_ENTROPY].tolist()],
                alone_rows=len(alone),
                finding_targets=findings,
                row_targets=rows,
                levels=LEVELS,
            )
        )

    def decide(self, fingerprint: str, decision: str, reason: str, expires: str) -> None:
        """Add a decision to the run's ``reviews.jsonl``.

        Args:
            expires: a day, or empty.

        Raises:
            UsageError: no such finding or row is on the page, or a value is impossible.
            RunError: the run has changed since it was opened, or its ``reviews.jsonl`` is malformed.
        """
        findings, rows = self._targets({})
        what = {target.fingerprint: target.what for target in (*findings.values(), *rows.values())}
        if fingerprint not in what:
            raise UsageError("no such finding or row is in this review; go back and load the page again")
        if decision not in DECISIONS:
            raise UsageError(f"the decision can be {', '.join(DECISIONS)}; go back and choose one of the buttons")
        reason = " ".join(reason.split())
        if not reason and decision != "open":
            raise UsageError("the decision has no reason; go back and say why")
        try:
            day = parse_day(expires) if expires else None
        except ValueError as error:
            raise UsageError(f"{error}; go back and give another") from None
        review = Review(fingerprint, decision, reason, day)  # pyright: ignore[reportArgumentType]
        add_review(self._opened.run, self._opened.manifest, review, what[fingerprint])

    def _reviews(self) -> list[Review]:
        return [*read_allowed(self._opened.config.allow), *read_reviews(self._opened.run, self._opened.manifest)]

    def _targets(self, last: Mapping[str, Review]) -> tuple[dict[int, Target], dict[int, Target]]:
        """By number of the finding, and by row: what can be decided on. Args: last: fingerprint -> the decision that holds."""

        def target(fingerprint: str, what: str) -> Target:
            return Target(fingerprint, what, last.get(fingerprint))

        findings = {
            number: target(fingerprint_of(finding, self._sha256), finding.sentence)
            for number, finding in enumerate(self._decision.findings, start=1)
        }
        rows = {
            row: target(fingerprint_of_row(sha256), self._texts[row].place if row in self._texts else f"row {row}")
            for row, sha256 in self._sha256.items()
            if sha256
        }
        return findings, rows
