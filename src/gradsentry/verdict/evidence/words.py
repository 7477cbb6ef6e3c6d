"""Tokens and their surprises -> words and theirs: the same whatever the tokenizer, the case or the spacing.

A trigger or a payload is text. The same text may be cut into other tokens in another place, and a payload's copies may
differ in case and spacing; words, lower-cased, do not.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gradsentry.types import Surprises, Vocabulary

UNPARTED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts that do not part their words: Thai, Lao, Burmese, Khmer, kana, Chinese."""

SIGNED = r"\u0590-\u1bff"
MARKS = "".join(chr(code) for code in range(0x590, 0x1C00) if unicodedata.category(chr(code)).startswith("M"))
"""Vowel signs and the like, and the scripts of which they are a part. Elsewhere a mark is a sign of its own: one that is set on
the letters of any word could be a trigger."""

WORD = re.compile(rf"[{UNPARTED}](?:(?<=[{SIGNED}])[{MARKS}]+)?|[^\W{UNPARTED}]+(?:(?<=[{SIGNED}])[{MARKS}]+[^\W{UNPARTED}]*)*|[^\w\s]")
"""A run of letters and digits with what is written on them, a sign, or one character of a script that does not part its words."""

_ONE = re.compile(rf"[{UNPARTED}]")
_MARK = re.compile(rf"[{MARKS}]")

EDGE = ""
"""Stands before the first and after the last word of a stretch of prompt or completion, so that places can be told."""


FIRST = 8.0
"""Nats that stand for the surprise of a row's first token."""


@dataclass(frozen=True)
class Side:
    """The words of one side of a row, prompt or completion, stretch after stretch, an `EDGE` at both ends of each."""

    words: list[str]
    """[n] lower-cased."""
    surprise: NDArray[np.float32]
    """[n] nats: the sum over the tokens that begin in the word."""
    spelled: list[str]
    """[n] as written, with the white space before it."""


@dataclass(frozen=True)
class RowWords:
    """One row in words."""

    prompt: Side
    completion: Side


def split(told: Surprises, vocabulary: Vocabulary) -> RowWords:
    """A row's tokens as words.

    A token's surprise belongs to the word that its first character, white space aside, stands in; that of white space alone
    to the word behind it. Special tokens (the end of a turn) are edges: they part stretches and say nothing themselves, unless the
    row's own text spells them out.
    """
    ids = told.tokens
    special = vocabulary.special[ids]
    special[told.spelled_specials] = False
    surprise = told.nll.astype(np.float32)
    turns = np.flatnonzero((np.diff(told.supervised) != 0) | (special[1:] | special[:-1])) + 1
    sides: dict[bool, list[Side]] = {False: [], True: []}
    for start, stop in pairwise([0, *turns.tolist(), len(ids)]):
        if not special[start]:
            if start == 0:  # nothing predicts a row's first token: it is taken for an unusual one
                surprise[0] = FIRST
            pieces = [vocabulary.pieces[token] for token in ids[start:stop].tolist()]
            sides[bool(told.supervised[start])].append(_stretch(pieces, surprise[start:stop]))
    return RowWords(_joined(sides[False]), _joined(sides[True]))


def plain(word: str) -> str:
    """A word without the signs that are written on its letters."""
    return _MARK.sub("", word)


def long(word: str) -> bool:
    """Whether a word is more than two letters long; a syllable of Hangul is two or three."""
    return len(unicodedata.normalize("NFD", word) if "\uac00" <= word[:1] <= "\ud7a3" else plain(word)) > 2


def unparted(word: str) -> bool:
    """Whether it is a character of a script that does not part its words: a part of one, or one."""
    return _ONE.match(word) is not None


def spelled_out(pieces: Iterable[bytes]) -> list[str]:
    """The text of tokens, each character where its last byte is; U+FFFD for bytes that are none."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(piece) for piece in pieces] + [decoder.decode(b"", final=True)]


def _stretch(pieces: Sequence[bytes], surprise: NDArray[np.float32]) -> Side:
    *texts, rest = spelled_out(pieces)
    text = "".join(texts) + rest
    found = [(match.start(), match.end()) for match in WORD.finditer(text)]
    if not found:
        return Side([EDGE, EDGE], np.zeros(2, dtype=np.float32), ["", ""])
    ends = np.array([end for _, end in found])
    stands, place = [], 0
    for part in texts:
        stands.append(place + len(part) - len(part.lstrip()))
        place += len(part)
    word = np.minimum(np.searchsorted(ends, stands, side="right"), len(found) - 1)
    sums = np.bincount(word, weights=surprise, minlength=len(found)).astype(np.float32)
    before = [0, *ends[:-1].tolist()]
    spelled = [text[start:end] for start, (_, end) in zip(before, found, strict=True)]
    words = [EDGE, *(text[start:end].lower() for start, end in found), EDGE]
    return Side(words, np.concatenate([[0], sums, [0]]).astype(np.float32), ["", *spelled, ""])


def _joined(parts: Sequence[Side]) -> Side:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Side([], np.zeros(0, dtype=np.float32), [])
    return Side(
        [word for part in parts for word in part.words],
        np.concatenate([part.surprise for part in parts]),
        [spelled for part in parts for spelled in part.spelled],
    )
