"""What a scan found, for a script or a notebook."""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gradsentry.config import ScanConfig
from gradsentry.data.sources.select import selected
from gradsentry.report.document import Previews
from gradsentry.report.rows import RowText
from gradsentry.report.sentences import verdict_line
from gradsentry.types import FailOn, Level, Record, Threshold
from gradsentry.verdict.combine import Decision
from gradsentry.verdict.finding import Finding

if TYPE_CHECKING:
    import pandas

Rows = TypeVar("Rows")


@dataclass(frozen=True, repr=False)
class ScanResult:
    """What a scan found."""

    decision: Decision
    """Threshold, verdict of every row, counts."""
    document: dict[str, Any]
    """The content of ``report.json``."""
    run: Path | None
    """The run directory; None if the scan wrote none."""
    config: ScanConfig
    """The options, with the format that was detected."""
    texts: Mapping[int, RowText] = field(compare=False)
    """The rows that the report shows, by number."""
    page: Callable[[], str] = field(compare=False)
    """Renders the content of ``report.html``."""

    def __repr__(self) -> str:
        where = "" if self.run is None else f" run={str(self.run)!r}"
        return f"<ScanResult: {verdict_line(self.document)}{where}>"

    def _repr_html_(self) -> str:
        """The report, for a notebook: in a frame of its own, so that neither its style nor what the data holds reaches the notebook."""
        page = html.escape(self.page(), quote=True)
        return f'<iframe sandbox srcdoc="{page}" title="gradsentry report" style="width: 100%; height: 640px; border: 0"></iframe>'

    @property
    def threshold(self) -> Threshold | None:
        """None when no row could be scored."""
        return self.decision.threshold

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by what happened to them: rows, scored, unscorable, error, flagged, suspected, unexamined, kept."""
        return self.decision.counts

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Strongest first: backdoors, then suspects, then what looked like a backdoor. Each has `rows`, `triggers` and a `sentence`."""
        return self.decision.findings

    @property
    def flagged(self) -> list[int]:
        """Positions of the flagged rows, in input order."""
        return np.flatnonzero(self.decision.flagged).tolist()

    @property
    def kept(self) -> list[int]:
        """Positions of the rows to train on: ``dataset.select(result.kept)``. Suspects are among them, for a person to look at."""
        return np.flatnonzero(self.decision.kept).tolist()

    @property
    def suspects(self) -> list[int]:
        """Positions of the rows of suspects that are not flagged."""
        return np.flatnonzero(self.decision.suspected).tolist()

    @property
    def unexamined(self) -> list[int]:
        """Positions of the rows that were not scored, and so not examined. They are among `kept` with `keep_unexamined` only."""
        return np.flatnonzero(self.decision.unexamined).tolist()

    @property
    def level(self) -> Level:
        """The verdict in a word."""
        return self.decision.level

    @property
    def notes(self) -> list[str]:
        """What limits the verdict, a sentence each: what could not be looked for, rows that were cut. Empty if nothing does."""
        return self.document["notes"]

    @property
    def exit_code(self) -> int:
        """0 nothing found and everything examined, 1 rows flagged, 3 nothing scorable, 4 no row flagged but not everything is clear."""
        return self.exit_code_for(tuple(FailOn))

    def exit_code_for(self, fail_on: Collection[str]) -> int:
        """As `exit_code`, but 0 for whatever is not in `fail_on` (see `types.FailOn`). Where nothing was scorable it is 3 all the same."""
        if self.threshold is None:
            return 3
        if self.flagged and "flagged" in fail_on:
            return 1
        if "suspect" in fail_on and self.suspects:
            return 4
        return 4 if "unexamined" in fail_on and (self.unexamined or not self.decision.answered) else 0

    def clean(self, data: Rows) -> Rows:
        """The rows of `data` to train on, those of `kept`, as the same kind of object.

        Args:
            data: what was scanned, in the order in which it was scanned: a `datasets.Dataset`, `DatasetDict` or `IterableDataset`, a
                pandas DataFrame, a pyarrow Table or a list. It may have more columns. An `IterableDataset` is checked while it is read.

        Raises:
            UsageError: it is no such object.
            DataError: it has another number of rows, or flagged rows have another text.
        """
        return selected(data, self.decision.kept, self._texts_of_flagged(), self._text)

    def to_pandas(self) -> pandas.DataFrame:
        """A line for each row, in input order: the columns of ``verdicts.parquet`` and ``evidence.parquet``, and kept, suspected."""
        table = self.decision.verdicts.to_pandas()
        evidence = self.decision.evidence.drop_columns("row").to_pandas()
        evidence["finding"] = evidence["finding"].astype("Int32")
        return table.join(evidence).assign(kept=self.decision.kept, suspected=self.decision.suspected)

    def _texts_of_flagged(self) -> dict[int, str]:
        """The texts of the flagged rows that the report shows."""
        return {row: _joined(text) for row, text in self.texts.items() if self.decision.flagged[row]}

    def _text(self, row: int, value: Any) -> str:
        """The text of a row of data, to compare with that of the scanned one."""
        previews = Previews([row], self.config)
        previews.add(Record(row, "", value))
        return _joined(previews.rows[row])


def _joined(text: RowText) -> str:
    return "\n".join(turn.line for turn in text.turns)
