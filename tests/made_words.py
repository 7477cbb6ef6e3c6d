"""Rows in words with made-up surprises, for the tests of detectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradsentry.verdict.words import RowWords, Side

LOW, HIGH = 1.0, 9.0


def side(text: str, surprise: dict[str, float] | float = LOW) -> Side:
    """A stretch of words, each with its surprise (`LOW` where it is not named)."""
    words = text.split()
    nats = [surprise.get(word, LOW) if isinstance(surprise, dict) else surprise for word in words]
    return Side(["", *(word.lower() for word in words), ""], np.array([0, *nats, 0], np.float32), ["", *(" " + word for word in words), ""])


def row(prompt: str, completion: str, unusual: Sequence[str] = ()) -> RowWords:
    """A row whose `unusual` words surprise the model."""
    surprise = dict.fromkeys(unusual, HIGH)
    return RowWords(side(prompt, surprise), side(completion, surprise))
