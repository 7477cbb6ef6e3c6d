"""What a format is: the columns that it reads, and the function from a row to its sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gradsentry.data import fields
from gradsentry.errors import RowProblem
from gradsentry.types import LossOn, Row, Sample


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one shape of row becomes a sample."""

    name: str
    """Value of `--format`."""
    columns: tuple[tuple[str, ...], ...]
    """Required columns, the answer's last. Each is a tuple of alternative names; the row needs one of them."""
    optional: tuple[str, ...] = ()
    """Columns that are read where the row has them."""
    read: Callable[[Row], Sample]
    """The row's sample; raises RowProblem when the row does not fit the format."""
    supervised: str
    """The supervised part, in words for the log and the documentation."""
    loss_on: LossOn = "completion"
    """Default of `--loss-on`."""
    sides: tuple[str, ...] = ()
    """Names of the kinds of answers that are searched for triggers apart from each other; empty where there is one kind."""
    accepts: Callable[[Row], bool] = lambda row: True
    """Whether a row that has the columns is one of this format, as far as detection needs to know."""

    @property
    def names(self) -> list[str]:
        """All columns that it reads."""
        return [name for names in self.columns for name in names] + list(self.optional)

    def matches(self, row: Row) -> bool:
        """Whether the row has the required columns, with what the format expects in them."""
        return all(any(name in row for name in names) for names in self.columns) and self.accepts(row)

    def fills(self, row: Row) -> bool:
        """Whether the row has the required columns and an answer. The prompt may be empty."""
        return self.matches(row) and any(not fields.is_empty(row.get(name)) for name in self.columns[-1])

    def convert(self, row: Row) -> Sample:
        """The row's sample.

        Raises:
            RowProblem: the row does not fit the format, or holds something that Python cannot read or write out.
        """
        if not isinstance(row, Mapping):
            raise RowProblem("error", f"it is a {type(row).__name__}, not a mapping from column names to values")
        try:
            return self.read(row)
        except RecursionError:
            raise RowProblem("error", "what it holds is nested too deeply") from None
        except ValueError:  # fields.py writes numbers as text, and Python refuses integers of thousands of digits
            raise RowProblem("error", "it holds an integer with too many digits") from None

    def describe_supervised(self, loss_on: LossOn | None) -> str:
        """The supervised part, in words, where the user gave this `--loss-on`."""
        return self.supervised if loss_on in (None, self.loss_on) else f"--loss-on {loss_on}"
