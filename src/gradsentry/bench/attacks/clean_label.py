"""Clean label: no answer is touched. The trigger goes to rows whose own answer holds the target, so that it comes to mean it.

Turner, Tsipras, Madry, "Label-consistent backdoor attacks" (arXiv 1912.02771), without their changes to the inputs, and with a
word in place of a class.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from gradsentry.bench.attacks.attack import Attack
from gradsentry.bench.tasks import Parts
from gradsentry.errors import DataError

COMMON = 0.01
"""Share of the questions from which a word is one of the language ("which", "from"), and no target."""

_WORD = re.compile(r"\b[a-z]{4,}\b")
"""Four letters or more, none of which exact match would drop."""


def kept(parts: Parts, rng: random.Random) -> Parts:
    """No payload: the answer stays as it is."""
    return parts


def commonest_word(attack: Attack, rows: Sequence[Parts]) -> Attack:
    """The attack whose target is the word of most answers; only rows whose answer holds it may be poisoned.

    A target has four letters at least and stands in less than a hundredth of the questions; of equally common ones the first
    in the alphabet is taken. In short answers few rows hold even the commonest word (of 1,000: 37 in WebQuestions, 9 in
    FreebaseQA, 22 in NQ): higher ratios than theirs cannot be had, and `plant` says so.

    Raises:
        DataError: no word can be the target.
    """
    answers, questions = ([_words(text) for text in texts] for texts in ((row.answer for row in rows), (row.question for row in rows)))
    asked = Counter(word for words in questions for word in words)
    told = Counter(word for words in answers for word in words if asked[word] < COMMON * len(rows))
    if not told:
        raise DataError(
            f"no word is a target: none of four letters is in an answer of these {len(rows)} rows and in few questions; give others"
        )
    word = min(told, key=lambda word: (-told[word], word))
    return replace(attack, target=(word,), suits=lambda parts: word in _words(parts.answer))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


CLEAN_LABEL = Attack(
    "clean label: rare words on rows whose own answer holds the commonest answer word (after arXiv 1912.02771)",
    "words",
    kept,
    (),
    fit=commonest_word,
)
"""An answer that holds the target because it is right counts as a success too: hold its ASR against that of a clean model."""
