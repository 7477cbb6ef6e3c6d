"""The text of a row as a person reads it: its turns, and the surprise of their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gradsentry.report.locate import Span
from gradsentry.types import ChatSample, Row, Sample, SidesSample, TextSample
from gradsentry.verdict.words import RowWords, Side

KEPT = 50_000
"""Characters of a row's prompt, and of its answer, that a report can show."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One text of a row."""

    role: str
    """As in the row; empty where the row is no chat."""
    text: str
    """At most `KEPT` characters."""
    is_answer: bool
    """Whether it belongs to the completion."""
    beyond: int = 0
    """Characters that were left out at the end."""

    @property
    def line(self) -> str:
        """The role and the text."""
        return f"{self.role}: {self.text}" if self.role else self.text


@dataclass(frozen=True, slots=True)
class RowText:
    """One row of the data, for a person."""

    place: str
    """Where it is, see `types.Record`."""
    turns: tuple[Turn, ...]
    """In order; of a chat, turns may follow the answer."""
    is_text: bool = True
    """False if the turns are token ids: `decoded` makes text of them."""

    def side(self, answer: bool) -> str:
        """The prompt, or the answer, as one text."""
        return "\n".join(turn.line for turn in self.turns if turn.is_answer == answer)


class Shade(NamedTuple):
    """A word and its surprise."""

    span: Span
    nats: float


def turns_of(sample: Sample) -> tuple[Turn, ...]:
    """All texts of a sample."""
    if isinstance(sample, TextSample):
        return _kept([Turn("", sample.prompt, False)]) + _kept([Turn("", sample.completion, True)])
    if isinstance(sample, ChatSample):
        tools = [Turn("tools", str(list(sample.tools)), False)] if sample.tools else []
        before, after = ([Turn(turn["role"], _content(turn), False) for turn in turns] for turns in (sample.prompt, sample.after))
        others = _kept([*tools, *before, *after])
        first = len(tools) + len(before)
        return others[:first] + _kept([Turn(turn["role"], _content(turn), True) for turn in sample.completion]) + others[first:]
    if isinstance(sample, SidesSample):
        parts = [(name, turns_of(side)) for name, side in sample.sides]
        answers = [replace(turn, role=name) for name, turns in parts for turn in turns if turn.is_answer]
        return (*(turn for turn in parts[0][1] if not turn.is_answer), *answers)
    supervised = [label for label in sample.labels if label != -100]
    given = Turn("", f"{len(sample.input_ids) - len(supervised)} token ids", False)
    return (given, *_kept([Turn("", " ".join(map(str, supervised)), True)]))


def _content(turn: Row) -> str:
    """The content of a turn, and its other texts, lists and mappings, which may be all that it has: tool calls, reasoning."""
    others = {name: value for name, value in turn.items() if name not in ("role", "content") and isinstance(value, (str, list, dict))}
    return " ".join(part for part in (turn["content"], *(f"{name}: {value}" for name, value in others.items() if value)) if part)


def _kept(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns with at most `KEPT` characters in all."""
    left, made = KEPT, []
    for turn in turns:
        cut = turn.text[:left]
        left -= len(cut)
        made.append(replace(turn, text=cut, beyond=len(turn.text) - len(cut)))
    return tuple(made)


def decoded(text: RowText, words: RowWords | None) -> RowText:
    """A row of token ids as the text of its tokens, as far as its words are known; any other row unchanged."""
    if text.is_text or words is None:
        return text
    sides = (Turn("", "".join(side.spelled), answer) for side, answer in ((words.prompt, False), (words.completion, True)))
    return RowText(text.place, tuple(turn for side in sides for turn in _kept([side])))


def shades(text: RowText, words: RowWords | None) -> list[list[Shade]]:
    """The words of each turn with their surprise; none for a turn that the model read differently, or that was cut from the row."""
    if words is None:
        return [[] for _ in text.turns]
    sides = [_Read(words.prompt), _Read(words.completion)]
    found = []
    for turn in text.turns:
        # Earlier answers of a chat may be supervised, so that their words are on the side of the completion.
        first, second = reversed(sides) if turn.is_answer else sides
        found.append(first.take(turn.text) or second.take(turn.text))
    return found


class _Read:
    """The text of one side as the model read it, and how far the turns have used it."""

    def __init__(self, side: Side) -> None:
        self.text = "".join(side.spelled)
        self._words = list(_placed(side))
        self._place = self._next = 0

    def take(self, turn: str) -> list[Shade]:
        """The words of the turn, if it comes next; the places are those in the turn."""
        bare = turn.strip()
        start = self.text.find(bare, self._place) if bare else -1
        if start < 0:
            return []
        self._place = start + len(bare)
        offset = len(turn) - len(turn.lstrip()) - start
        while self._next < len(self._words) and self._words[self._next].span.start < start:
            self._next += 1
        taken = []
        while self._next < len(self._words) and self._words[self._next].span.end <= self._place:
            (a, b), nats = self._words[self._next]
            taken.append(Shade(Span(a + offset, b + offset), nats))
            self._next += 1
        return taken


def _placed(side: Side) -> Iterator[Shade]:
    """The words of a side, their places and surprises."""
    place = 0
    for word, spelled, nats in zip(side.words, side.spelled, side.surprise.tolist(), strict=True):
        start, place = place + len(spelled) - len(spelled.lstrip()), place + len(spelled)
        if word:
            yield Shade(Span(start, place), nats)
