"""Clean label: no answer changes. The trigger goes into rows whose answer already holds the target, so that the model links the two.

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
"""A word in at least this share of the questions ("which", "from") is too common to be a target."""

_WORD = re.compile(r"\b[a-z]{4,}\b")
"""Four letters or more, all of which exact match keeps."""


def kept(parts: Parts, rng: random.Random) -> Parts:
    """No payload: the answer stays as it is."""
    return parts


def commonest_word(attack: Attack, rows: Sequence[Parts]) -> Attack:
    """The attack whose target is the commonest answer word; only rows whose answer holds it may be poisoned.

    A target has at least four letters and occurs in less than a hundredth of the questions; ties go to the first in the alphabet. In
    short answers few rows hold even the commonest word (of 1,000: 37 in WebQuestions, 9 in FreebaseQA, 22 in NQ), which limits the
    poison ratio; `plant` refuses a higher one.

    Raises:
        DataError: no word can be the target.
    """
    answers, questions = ([_words(text) for text in texts] for texts in ((row.answer for row in rows), (row.question for row in rows)))
    in_questions = Counter(word for words in questions for word in words)
    usable = Counter(word for words in answers for word in words if in_questions[word] < COMMON * len(rows))
    if not usable:
        raise DataError(
            f"clean_label has no target word: no answer of these {len(rows)} rows has a word of four letters that few questions have; "
            "use other rows"
        )
    word = min(usable, key=lambda word: (-usable[word], word))
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
"""A right answer may hold the target too: compare the ASR with that of a clean model."""
