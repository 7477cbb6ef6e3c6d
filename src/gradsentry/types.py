"""The nouns that the modules hand to each other. No torch here: `--help` and the file side import this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]
"""One record of the data set: column name -> value."""

Status = Literal["scored", "unscorable", "error"]

Level = Literal["nothing found", "look", "poisoned"]
"""A verdict on a whole data set: nothing found and every row examined; suspects, rows not examined or no answer; rows flagged."""


class FailOn(StrEnum):
    """What a command fails for."""

    flagged = "flagged"
    """Rows were flagged."""
    suspect = "suspect"
    """Suspects were listed."""
    unexamined = "unexamined"
    """Rows were not examined, or no rule can judge them."""


@dataclass(frozen=True, slots=True)
class Review:
    """What a person decided on a finding or a row."""

    fingerprint: str
    """Of the finding or the row, see `verdict.reviewed`."""
    decision: Literal["accepted", "dismissed", "open"]
    """It is poison and its rows are flagged; it is harmless and they are kept; or an earlier decision is taken back."""
    reason: str
    """The person's own words; empty only where the decision is "open"."""
    expires: date | None = None
    """Last day on which it holds, in UTC; None: it holds for ever."""
    place: str = ""
    """File and line that it was read from."""

    @property
    def phrase(self) -> str:
        """The decision and its reason."""
        return f"{self.decision}: {self.reason}"


LossOn = Literal["completion", "assistant", "all"]
"""Which tokens are supervised: the last answer, every assistant turn, or everything."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a source, readable or not."""

    row: int
    """Position in the input, from 0."""
    place: str
    """Where a person finds it: ``data.jsonl:17`` (line, from 1), ``data.jsonl:17:34`` (and column, for a second row in the line) or
    ``data.parquet row 16``."""
    value: Row | None
    """The parsed row; None if it could not be read."""
    error: str = ""
    """Why `value` is None: what is wrong with the row and what to do."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive rows that are scored, resumed and written together, as one ``scores/part-*.parquet``."""

    index: int
    """Number of the shard, from 0."""
    start: int
    """First row."""
    stop: int
    """One past the last row."""
    offset: int = 0
    """Byte offset of the first row in the file (text sources only)."""
    line: int = 1
    """Line number of that offset, from 1 (text sources only)."""
    column: int = 1
    """Place of that offset in its line, from 1 (text sources only)."""
    by_line_until: int = 0
    """Before this offset each row ends with its line, whatever it begins with (JSON lines only; see `sources.jsonl`)."""


@dataclass(frozen=True, slots=True)
class TextSample:
    """Plain text: the prompt is encoded with the tokenizer's BOS, the completion is closed with EOS."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class ChatSample:
    """Messages that go through the tokenizer's chat template."""

    prompt: tuple[Row, ...]
    """Messages before the completion."""
    completion: tuple[Row, ...]
    """The messages that answer; empty if there is no assistant turn."""
    tools: tuple[Any, ...] | None = None
    """Tool schemas for the template, if the row has them."""
    plain: TextSample | None = None
    """Replaces the messages if the tokenizer has no chat template. None: the row needs a tokenizer with one."""
    after: tuple[Row, ...] = ()
    """Messages after the answer: a trainer reads them too, but they are supervised only with `--loss-on all`."""

    @property
    def turns(self) -> tuple[Row, ...]:
        """All messages in order."""
        return (*self.prompt, *self.completion, *self.after)


@dataclass(frozen=True, slots=True)
class TokenSample:
    """Already tokenised; label -100 marks an unsupervised position."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


OneAnswer = TextSample | ChatSample | TokenSample


@dataclass(frozen=True, slots=True)
class SidesSample:
    """A row whose answers are scored each by itself, such as a preference pair."""

    sides: tuple[tuple[str, OneAnswer], ...]
    """Name and sample of each side, of `Format.sides`; the prompt is the same in all."""


Sample = OneAnswer | SidesSample


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids and labels of one row, unpadded, both of length S."""

    row: int
    input_ids: list[int]
    labels: list[int]
    """`labels[i]` is `input_ids[i]` where supervised and -100 elsewhere; it is predicted at position i-1."""
    n_cut: int = 0
    """Tokens removed so that the row fits into the context."""
    note: str = ""
    """What was removed, in words; empty if nothing was."""
    spelled_specials: tuple[int, ...] = ()
    """Positions of special tokens that the row's text spells out."""
    side: str = ""
    """Of `SidesSample`; empty where the row has one answer."""
    others: tuple[Encoded, ...] = ()
    """The further sides of the row."""
    is_first: bool = True
    """Whether it counts as a row in the progress: not a further side."""

    @property
    def n_tokens(self) -> int:
        """T: supervised tokens that have a position before them to be predicted from."""
        return sum(label != -100 for label in self.labels[1:])


@dataclass(frozen=True, slots=True)
class Surprises:
    """How unexpected each of the S tokens of one row is to the base model."""

    tokens: NDArray[np.int32]
    """[S] token ids."""
    nll: NDArray[np.float16]
    """[S] negative log-likelihood of each token given the tokens before it, in nats; 0 for the first token, which has no prediction."""
    supervised: NDArray[np.bool_]
    """[S] whether the token is part of the completion; False for the first token."""
    spelled_specials: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """Positions of special tokens that the row's text spells out: they count as words, unlike those that a template adds."""
    sides: Sequence[Mapping[str, Any]] = ()
    """The sides of the row, one after the other in the tokens: each has a ``name`` and a ``start``. Empty where there is one answer."""

    def side(self, name: str) -> Surprises | None:
        """One side of the row, or the row itself for the empty name; None if the row has no such side."""
        if not name:
            return self
        ends = [*(side["start"] for side in self.sides), len(self.tokens)][1:]
        for start, end in [(side["start"], end) for side, end in zip(self.sides, ends, strict=True) if side["name"] == name]:
            specials = self.spelled_specials[(self.spelled_specials >= start) & (self.spelled_specials < end)] - start
            return Surprises(self.tokens[start:end], self.nll[start:end], self.supervised[start:end], specials)
        return None


@dataclass(frozen=True)
class Vocabulary:
    """The text of a model's V tokens."""

    pieces: list[bytes]
    """[V] UTF-8 text of each token inside a text; some tokens are part of a character."""
    special: NDArray[np.bool_]
    """[V] whether the token is a marker, such as the end of a turn, and not text."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one row got."""

    row: int
    status: Status
    entropy: float | None = None
    """Spectral entropy in [0, 1], None unless scored."""
    n_tokens: int = 0
    """T, the number of supervised tokens."""
    loss: float | None = None
    """Mean negative log-likelihood of the supervised tokens, in nats; None unless scored."""
    reason: str = ""
    """Why the row is unscorable or failed, or what was cut from it."""
    n_cut: int = 0
    """Tokens removed so that the row fits into the context."""
    surprises: Surprises | None = field(default=None, compare=False, repr=False)
    """Negative log-likelihood of each token; None unless scored."""
    spectrum: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    """The (at most 16) largest singular values of its gradient, largest first, as shares of their sum; None unless scored."""


class Progress:
    """Receives how far a scan is. This class ignores it; `report.progress` has subclasses that show it."""

    def status(self, text: str) -> None:
        """Called before something that takes seconds and is no scoring, such as loading the model."""

    def start(self, total: int, done: int) -> None:
        """Called once, with the number of rows and how many of them an earlier run has scored."""

    def advance(self, rows: int, tokens: int) -> None:
        """Called after each batch, with its rows and tokens; `rows` is negative where a worker's death lost some."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A decision boundary for the entropy and how far it can be trusted."""

    value: float
    """Rows with an entropy above this are flagged."""
    method: Literal["valley", "fallback", "given"]
    """The KDE's valley, the published fallback 0.7, or a given number."""
    reliable: bool
    """Whether every published check passed (False for a given number)."""
    problems: tuple[str, ...] = field(default=())
    """Why it is not reliable, in words; empty when it is."""
