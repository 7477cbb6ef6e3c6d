"""What the page shows of rows and findings: texts cut around trigger and effect, and marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gradsentry.report.document import EXAMPLES, listed_rows
from gradsentry.report.locate import Span, effect_spans, trigger_spans, windows
from gradsentry.report.marked import MarkName, marked
from gradsentry.report.plots import evidence_parts
from gradsentry.report.rows import RowText, Shade, Turn, decoded, shades
from gradsentry.verdict.combine import Decision
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.words import RowWords

SHORT = 360
"""Characters of a text that a card shows whole."""
AROUND = 140
"""Characters that a card shows on both sides of a mark in a longer text."""
WHOLE_TEXTS = 4_000_000
"""Characters of whole texts on the page; rows after them have only what is around their marks."""


@dataclass(frozen=True)
class ShownTurn:
    """A turn of a row on the page."""

    role: str
    parts: Sequence[Markup]
    """In order; of a cut text, what is around its marks."""
    before: bool
    """Whether text before the first part is left out."""
    after: bool
    """Whether text after the last part is left out."""


@dataclass(frozen=True)
class ShownRow:
    """A row on the page."""

    row: int
    place: str
    numbers: str
    """Row number, verdict, entropy, tokens, loss, in words."""
    notes: Sequence[str]
    """The reason where no finding has it, what was cut, what is not marked."""
    turns: Sequence[ShownTurn]
    """Those with marks, the last of the prompt and the answer, cut around the marks."""
    whole: Sequence[ShownTurn]
    """All turns; empty where `turns` has everything, and on a page that is full."""
    summary: str
    """Of the whole text: characters and turns."""


@dataclass(frozen=True)
class ShownFinding:
    """A finding on the page."""

    number: int
    finding: Finding
    effect: str
    """What the answers do, as a text that may have unseen characters."""
    bar: Sequence[tuple[str, float, float]]
    """See `plots.evidence_parts`."""
    examples: Sequence[ShownRow]
    others: Sequence[ShownRow]


class Cards:
    """Makes what the page shows of rows, until its whole texts are `WHOLE_TEXTS` characters long."""

    def __init__(self, decision: Decision, texts: Mapping[int, RowText], words: Mapping[int, RowWords]) -> None:
        self._decision, self._texts, self._words = decision, texts, words
        self._left = WHOLE_TEXTS

    def finding(self, number: int, most: float) -> ShownFinding:
        """The finding with this number, from 1. Args: most: nats of a bar of full width."""
        finding = self._decision.findings[number - 1]
        rows = [self.row(row, finding, number) for row in listed_rows(finding) if row in self._texts]
        effect = f'say "{finding.payload}"' if finding.payload else finding.effect
        effect = f"{finding.side}: {effect}" if finding.side else effect
        return ShownFinding(number, finding, effect, evidence_parts(finding, most), rows[:EXAMPLES], rows[EXAMPLES:])

    def row(self, row: int, finding: Finding | None = None, number: int = 0) -> ShownRow:
        """A row, as a row of a finding or by itself."""
        text, words = self._texts[row], self._words.get(row)
        text = decoded(text, words)
        spans = _spans(text, finding)
        shaded = shades(text, words)
        every = list(zip(text.turns, spans, shaded, strict=True))
        chosen = [i for i, (turn, own, _) in enumerate(every) if own or turn.is_answer]
        asked = range(next((i for i, turn in enumerate(text.turns) if turn.is_answer), len(text.turns)))
        if asked and not any(spans[i] for i in asked):
            chosen = sorted({*chosen, asked[-1]})
        turns = [_turn(*every[i], SHORT) for i in chosen]
        size = sum(len(turn.text) for turn in text.turns)
        cut = len(turns) < len(every) or any(turn.before or turn.after or len(turn.parts) > 1 for turn in turns)
        whole: list[ShownTurn] = []
        if cut and size <= self._left:
            self._left -= size
            whole = [_turn(*one, len(one[0].text)) for one in every]
        notes = [*self._reason(row, finding), *_unmarked(text, finding, spans)]
        if cut and not whole:
            notes.append("The whole text is not on this page, which is full.")
        if beyond := sum(turn.beyond for turn in text.turns):
            notes.append(f"{beyond:,} more characters of this row are not on this page.")
        summary = f"Whole text: {size:,} characters in {len(every)} {'turn' if len(every) == 1 else 'turns'}"
        return ShownRow(row, text.place, self._numbers(row, number), notes, turns, whole, summary)

    def _numbers(self, row: int, number: int) -> str:
        verdict = self._decision.verdicts.slice(row, 1).to_pylist()[0]
        beyond = self._decision.evidence["beyond_length"][row].as_py()
        decided = ("flagged" if verdict["flagged"] else "kept") + (f", finding {number}" if number else "")
        usual = "" if beyond is None else f" ({beyond:+.1f} standard deviations for its length)"
        loss = "" if verdict["loss"] is None else f", loss {verdict['loss']:.2f} nats a token"
        cut = f", {verdict['n_cut']:,} tokens cut" if verdict["n_cut"] else ""
        entropy = f"entropy {verdict['entropy']:.4f}{usual}, {verdict['n_tokens']:,} supervised tokens{loss}{cut}"
        return f"row {row}, {decided}; {entropy}"

    def _reason(self, row: int, finding: Finding | None) -> list[str]:
        """Why the row is flagged or kept, as far as its finding does not say so."""
        reason = self._decision.verdicts["reason"][row].as_py()
        other = reason.removeprefix(finding.reason).removeprefix("; ") if finding else reason
        return [other] if other else []


def _spans(text: RowText, finding: Finding | None) -> list[list[Span]]:
    """What to mark in each turn of a row."""
    if finding is None:
        return [[] for _ in text.turns]
    asked = iter(trigger_spans(finding, [turn.text for turn in text.turns if not turn.is_answer]))
    answers = [turn.text if finding.side in ("", turn.role) else "" for turn in text.turns if turn.is_answer]
    answered = iter(effect_spans(finding, answers))
    return [next(answered if turn.is_answer else asked) for turn in text.turns]


def _unmarked(text: RowText, finding: Finding | None, spans: Sequence[Sequence[Span]]) -> list[str]:
    """What of the finding this row does not show."""
    if finding is None:
        return []
    notes = []
    if finding.triggers and not any(own for turn, own in zip(text.turns, spans, strict=True) if not turn.is_answer):
        notes.append("No trigger is marked: this row writes it in another way, or beyond what this page has.")
    if (finding.payload or finding.effect) and not any(own for turn, own in zip(text.turns, spans, strict=True) if turn.is_answer):
        notes.append("This answer does not show the effect.")
    return notes


def _turn(turn: Turn, spans: Sequence[Span], shaded: Sequence[Shade], most: int) -> ShownTurn:
    """A turn, cut around its marks if it has more than `most` characters."""
    mark: MarkName = "effect" if turn.is_answer else "trigger"
    shown = windows(turn.text, spans, most, AROUND)
    parts = [marked(turn.text, window, spans, mark, shaded) for window in shown]
    role = turn.role or ("completion" if turn.is_answer else "prompt")
    return ShownTurn(role, parts, shown[0].start > 0, shown[-1].end < len(turn.text))
