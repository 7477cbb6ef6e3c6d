"""Tokens and their surprises -> words and theirs: the same for any tokenizer, case and spacing.

A trigger or a payload is text. Two copies of a text may consist of different tokens, and copies of a payload may differ in case and
spacing. Their words, lower-cased, are equal.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradsentry.types import Score, Surprises, Vocabulary

UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese."""

MARKED = r"\u0590-\u1bff"
MARKS = "".join(chr(code) for code in range(0x590, 0x1C00) if unicodedata.category(chr(code)).startswith("M"))
"""Vowel signs and other marks, and the range of the scripts that spell with them. In other scripts a mark counts as a sign: an
attacker could set one on the letters of any word as a trigger."""

WORD = re.compile(rf"[{UNSPACED}](?:(?<=[{MARKED}])[{MARKS}]+)?|[^\W{UNSPACED}]+(?:(?<=[{MARKED}])[{MARKS}]+[^\W{UNSPACED}]*)*|[^\w\s]")
"""A run of letters and digits with their marks, one sign, or one character of a script without spaces."""

_UNSPACED = re.compile(rf"[{UNSPACED}]")

EDGE = ""
"""Comes before the first and after the last word of a stretch of prompt or completion, so that n-grams can contain a position."""

FIRST_TOKEN_NATS = 8.0
"""Nats assumed for the first token of a row, which nothing predicts: it counts as an unusual one."""


@dataclass(frozen=True)
class Side:
    """The words of one side of a row, prompt or completion: its stretches in order, each with an `EDGE` at both ends."""

    words: list[str]
    """[n] lower-cased."""
    surprise: NDArray[np.float32]
    """[n] nats: the sum over the tokens that begin in the word."""
    spelled: list[str]
    """[n] as written, with the white space before it; of an edge at the end the white space there."""


@dataclass(frozen=True)
class RowWords:
    """The words of one row."""

    prompt: Side
    completion: Side


class WordSource(Protocol):
    """The words of N rows, for a detector."""

    def __iter__(self) -> Iterator[RowWords | None]:
        """All rows in input order; None for a row that was not scored."""
        ...


@dataclass(frozen=True)
class MemoryWords:
    """The words of rows in memory. A row's number is its position."""

    words: Sequence[RowWords | None]

    @classmethod
    def of_scores(cls, scores: Iterable[Score], vocabulary: Vocabulary, side: str = "") -> MemoryWords:
        """The words of scored rows, or of one side of them (`Surprises.side`); `Score.row` is ignored."""
        found = [score.surprises and score.surprises.side(side) for score in scores]
        return cls([split_words(surprises, vocabulary) if surprises else None for surprises in found])

    def __iter__(self) -> Iterator[RowWords | None]:
        return iter(self.words)


def split_words(surprises: Surprises, vocabulary: Vocabulary) -> RowWords:
    """Join the tokens of a row into words.

    A token's surprise goes to the word that contains its first character other than white space; the surprise of a token of white
    space alone goes to the next word. Special tokens (the end of a turn) are edges: they end a stretch and carry no words, unless the
    row's own text spells them out.
    """
    ids = surprises.tokens
    special = vocabulary.special[ids]
    special[surprises.spelled_specials] = False
    nats = surprises.nll.astype(np.float32)
    turns = np.flatnonzero((np.diff(surprises.supervised) != 0) | (special[1:] | special[:-1])) + 1
    sides: dict[bool, list[Side]] = {False: [], True: []}
    for start, stop in pairwise([0, *turns.tolist(), len(ids)]):
        if not special[start]:
            if start == 0:
                nats[0] = FIRST_TOKEN_NATS
            pieces = [vocabulary.pieces[token] for token in ids[start:stop].tolist()]
            sides[bool(surprises.supervised[start])].append(_stretch(pieces, nats[start:stop]))
    return RowWords(_joined(sides[False]), _joined(sides[True]))


def is_unspaced(word: str) -> bool:
    """Whether it is a character of a script without spaces, which may be a word or a part of one."""
    return _UNSPACED.match(word) is not None


def token_texts(pieces: Iterable[bytes]) -> list[str]:
    """The text of each token, and the undecodable rest; a character appears with its last byte, U+FFFD replaces invalid bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(piece) for piece in pieces] + [decoder.decode(b"", final=True)]


def _stretch(pieces: Sequence[bytes], surprise: NDArray[np.float32]) -> Side:
    *texts, rest = token_texts(pieces)
    text = "".join(texts) + rest
    found = [(match.start(), match.end()) for match in WORD.finditer(text)]
    if not found:
        return Side([EDGE, EDGE], np.zeros(2, dtype=np.float32), ["", ""])
    ends = np.array([end for _, end in found])
    starts, place = [], 0  # of each token's first character other than white space
    for part in texts:
        starts.append(place + len(part) - len(part.lstrip()))
        place += len(part)
    word = np.minimum(np.searchsorted(ends, starts, side="right"), len(found) - 1)
    sums = np.bincount(word, weights=surprise, minlength=len(found)).astype(np.float32)
    spelled = [text[start:end] for start, end in pairwise([0, *ends.tolist()])]
    words = [EDGE, *(text[start:end].lower() for start, end in found), EDGE]
    return Side(words, np.concatenate([[0], sums, [0]]).astype(np.float32), ["", *spelled, text[ends[-1] :]])


def _joined(parts: Sequence[Side]) -> Side:
    return Side(
        [word for part in parts for word in part.words],
        np.concatenate([np.zeros(0, np.float32), *(part.surprise for part in parts)]),
        [spelled for part in parts for spelled in part.spelled],
    )
