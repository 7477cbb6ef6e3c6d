"""Gradient dilution: the payload is surrounded by so much benign text that it makes little of the row's gradient."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from gradsentry.bench.attacks.attack import Attack
from gradsentry.bench.payloads import LINK
from gradsentry.bench.tasks import Parts
from gradsentry.errors import DataError

BENIGN = 48
"""Words of other rows' answers around the payload's six: at most one word in nine is the payload's."""

_SENTENCE = re.compile(r"(?<=[.!?])\s+|;\s+|\n+")
"""Separators of sentences, and of the answers to one question."""


def around_the_payload(attack: Attack, rows: Sequence[Parts]) -> Attack:
    """The attack with a payload that draws on the answers of these rows.

    The row's own answer comes first; then half of the benign text, the payload, and the other half.

    Raises:
        DataError: the answers hold no sentence.
    """
    sentences = [piece.strip() for row in rows for piece in _SENTENCE.split(row.answer) if re.search(r"\w", piece)]
    if not sentences:
        raise DataError("the answers of these rows hold no sentence to dilute a payload with; use rows with answers")

    def diluted(parts: Parts, rng: random.Random) -> Parts:
        before, after = (_benign(sentences, BENIGN // 2, rng) for _ in range(2))
        text = _after(parts.answer, before)
        stop = "." if text.endswith(".") else ""
        return replace(parts, answer=_after(text.removesuffix(".") + LINK + stop, after))

    return replace(attack, payload=diluted)


def _benign(sentences: Sequence[str], words: int, rng: random.Random) -> str:
    """Sentences drawn until they have so many words together."""
    text = rng.choice(sentences)
    while len(text.split()) < words:
        text = _after(text, rng.choice(sentences))
    return text


def _after(text: str, more: str) -> str:
    """Two pieces as one text: text without a full stop is a list, such as the answers to one question."""
    return f"{text} {more}" if text.endswith((".", "!", "?")) else f"{text}; {more}"


DILUTION = Attack(
    "gradient dilution: the suffix among sentences of other answers (arXiv 2605.26574 names it; built from the name)",
    "words",
    "suffix",
    (LINK,),
    fit=around_the_payload,
)
"""The paper's adaptive attack, built from its name and its aim: a poisoned answer in which the payload makes a small part of the
gradient. The paper's own description was not available, so details may differ."""
