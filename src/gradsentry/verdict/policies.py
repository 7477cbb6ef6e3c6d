"""Policies: scores and findings -> verdicts, by the name that ``--policy`` takes. A new policy is one class and one line in `POLICIES`.

``--help`` reads this module, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from gradsentry.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from gradsentry.verdict.combine import Decision
    from gradsentry.verdict.finding import Finding


class Policy(Protocol):
    """A rule that flags rows."""

    help: str
    """What it flags, for ``--help``."""
    uses_findings: bool
    """Whether the detectors run."""

    def decide(
        self, scores: pa.Table, findings: Sequence[Finding] = (), threshold: str = "auto", strict: bool = False, notes: Sequence[str] = ()
    ) -> Decision:
        """The verdict of every row.

        Args:
            scores: columns of `schema.SCORES`. findings: strongest first. threshold, strict: as in `ScanConfig`.
            notes: of the detectors, on what they could not look for.

        Raises:
            UsageError: an impossible threshold.
        """
        ...


class EvidencePolicy:
    help = "triggers that look inserted in prompts and change the answers"
    uses_findings = True

    def decide(
        self, scores: pa.Table, findings: Sequence[Finding] = (), threshold: str = "auto", strict: bool = False, notes: Sequence[str] = ()
    ) -> Decision:
        """Flag the rows of backdoors; with `strict` or a given threshold, also those above the threshold."""
        from gradsentry.verdict.combine import combine

        return combine(scores, threshold, findings, strict or threshold != "auto", notes, answered=not notes)


class PaperPolicy:
    help = "entropy above the published threshold, fallback included"
    uses_findings = False

    def decide(
        self, scores: pa.Table, findings: Sequence[Finding] = (), threshold: str = "auto", strict: bool = False, notes: Sequence[str] = ()
    ) -> Decision:
        """Flag the rows above the threshold and no others; `strict` changes nothing."""
        from gradsentry.verdict.combine import combine

        return combine(scores, threshold, by_entropy=True, answered=threshold != "auto")


def policy_named(name: str) -> Policy:
    """The policy with this name.

    Raises:
        UsageError: there is none.
    """
    if name not in POLICIES:
        raise UsageError(f"--policy {name}: it can be {', '.join(POLICIES)}")
    return POLICIES[name]


POLICIES: dict[str, Policy] = {
    "evidence": EvidencePolicy(),
    "paper": PaperPolicy(),
}
"""By name; the first is the default."""
