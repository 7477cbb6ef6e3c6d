"""Patterns of prompts: one to four words as written, unusual spacing, shapes of words. How inserted each looks, in nats."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from gradsentry.verdict.words import Side

LONGEST = 4
"""Words of a pattern. A longer trigger appears as several patterns in the same rows, which count as one."""

LEAST_ROWS = 4
"""Prompts that hold a pattern."""

MOST_SHARE = 0.5
"""Largest share of the prompts that hold a pattern: one that most prompts hold is the data set's template."""

COUNTS = (6, 10, 20)
"""Patterns of similar frequency are compared with each other: fewer than 6 prompts, 6 to 9, 10 to 19, 20 or more."""

LEAST_REFERENCE = 20
"""Patterns of one frequency and length that are enough to compare with; if there are fewer, all of that length are used."""

NAMES = {"\n": "line feed", "\r": "carriage return", "\t": "tab"}
"""Of white space that Unicode names "control"."""

USUAL_SPACE = ("", " ", "\n", "\n\n")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pattern:
    """Words, or a mark, that some prompts hold."""

    key: tuple[str, ...]
    """The longest of its word sequences, as written without white space; or one mark, see `marks`."""
    words: frozenset[str]
    """All words of patterns in exactly these prompts, lower-cased; of a mark, the words that never occur without it."""
    rows: Ints
    """[c] ascending."""
    insertion: float
    """-ln of the share of patterns, of its length and frequency, that look as inserted."""
    is_mark: bool
    """Whether `key` is a mark."""

    def place(self, written: Sequence[str]) -> int | None:
        """Where the words begin in a prompt; None if it does not hold them."""
        return place_of(self.key, written)

    def held_by(self, prompt: Side, written: Sequence[str]) -> bool:
        """Whether a prompt holds it. Args: written: the words of the prompt as written."""
        return any(mark == self.key[0] for mark, _ in marks(prompt)) if self.is_mark else self.place(written) is not None


def place_of(key: tuple[str, ...], words: Sequence[str]) -> int | None:
    """Where the words of the key begin among some words; None if they are not there."""
    n = len(key)
    return next((i for i in range(len(words) - n + 1) if words[i] == key[0] and tuple(words[i : i + n]) == key), None)


def marks(side: Side) -> Iterator[tuple[str, int]]:
    """(mark, position of the word that has it): spacing and shapes that lower-cased words do not show."""
    for i, spelled in enumerate(side.spelled):
        word = spelled.strip()
        space = spelled[: len(spelled) - len(spelled.lstrip())]
        if not side.words[i]:
            if spelled and i and side.words[i - 1]:
                yield f"{white_space(spelled)} at the end", i - 1  # whose surprise includes it
            continue
        if space not in USUAL_SPACE and side.words[i - 1]:
            yield f"{white_space(space)} between words", i
        if len(word) > 3 and word.isupper():
            yield "a word in capitals", i
        if _mixes_scripts(word):
            yield "letters of several scripts in one word", i


def white_space(text: str) -> str:
    """White space in words: ``2 spaces``, ``1 no-break space and 1 line feed``."""
    counted = ((NAMES.get(sign) or unicodedata.name(sign, f"U+{ord(sign):04X}").lower(), len(list(run))) for sign, run in groupby(text))
    return " and ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counted)


@lru_cache(maxsize=1 << 16)
def _mixes_scripts(word: str) -> bool:
    if word.isascii():
        return False
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in word if letter.isalpha()}
    return len(scripts & {"LATIN", "CYRILLIC", "GREEK"}) > 1


def patterns(prompts: Sequence[Side]) -> list[Pattern]:
    """All patterns of some prompts, one for each set of rows."""
    flat = _Flat(prompts)
    found = [*flat.sequences(), flat.marked()]
    # Marks are too few to be compared with each other: like a word, each has one place.
    references = [*found[:-1], found[0]]
    members: dict[int, list[tuple[int, int]]] = {}
    scores: list[Floats] = []
    for n, group in enumerate(found):
        scores.append(_standardised(group, references[n]))
        for i, signature in enumerate(group.signatures.tolist()):
            members.setdefault(signature, []).append((n, i))
    highest = np.array([max(scores[n][i] for n, i in own) for own in members.values()])
    made = []
    for own, insertion in zip(members.values(), tail_nats(highest).tolist(), strict=True):
        keys = [found[n].key(i) for n, i in own]
        longest = max((key for key, (n, _) in zip(keys, own, strict=True) if found[n].names is None), key=len, default=keys[0])
        n, i = own[keys.index(longest)]
        words = frozenset(word.lower() for key, (m, _) in zip(keys, own, strict=True) if found[m].names is None for word in key)
        if found[n].names is not None:
            words |= flat.bearers[longest[0]]
        made.append(Pattern(longest, words, found[n].rows(i), insertion, found[n].names is not None))
    return made


def tail_nats(values: Floats, among: Floats | None = None) -> Floats:
    """-ln of the share of values that are as high: counted below the upper quartile, an exponential tail above it.

    The tail's scale is its median excess over the quartile, divided by ln 2; the few planted patterns among many hardly move a median.

    Args:
        among: the values that are compared with; the values themselves if not given.
    """
    among = values if among is None else among
    if len(among) == 0:
        return np.zeros(len(values))
    quartile = float(np.quantile(among, 0.75))
    excess = among[among > quartile] - quartile
    scale = float(np.median(excess)) / math.log(2) if len(excess) else 1.0
    rank = np.searchsorted(np.sort(among), values, side="left")
    counted = -np.log(np.maximum(1 - rank / len(among), 1e-9))
    return np.where(values > quartile, math.log(4) + (values - quartile) / max(scale, 1e-9), np.minimum(counted, math.log(4)))


def _standardised(group: _Group, reference: _Group) -> Floats:
    """Distance from the median of patterns of this frequency, in units of their spread (median absolute deviation, at least half a nat)."""
    scores = np.zeros(len(group.strength))
    band, known = (np.searchsorted(COUNTS, one.counts, side="right") for one in (group, reference))
    for own in range(len(COUNTS) + 1):
        alike = reference.strength[known == own]
        alike = alike if len(alike) >= LEAST_REFERENCE else reference.strength
        if len(alike):
            middle = float(np.median(alike))
            spread = 1.4826 * float(np.median(np.abs(alike - middle))) + 0.5
            scores[band == own] = (group.strength[band == own] - middle) / spread
    return scores


@dataclass(frozen=True)
class _Group:
    """The patterns of one length, or the marks: m of them, each with its prompts."""

    names: Sequence[tuple[str, ...]] | None
    words: Sequence[str]
    codes: Ints
    """[m, n] the words of each, where `names` is None."""
    starts: Ints
    """[m + 1] where the prompts of each begin in `held`."""
    held: Ints
    strength: Floats
    """[m] nats: surprise of the pattern and of the word after it, mean over its prompts."""
    signatures: NDArray[np.uint64]
    """[m] equal for patterns in the same prompts."""

    @property
    def counts(self) -> Ints:
        return np.diff(self.starts)

    def rows(self, i: int) -> Ints:
        return self.held[self.starts[i] : self.starts[i + 1]]

    def key(self, i: int) -> tuple[str, ...]:
        if self.names is not None:
            return self.names[i]
        codes: list[int] = self.codes[i].tolist()
        return tuple(self.words[code] for code in codes)


class _Flat:
    """The words of all prompts in one array."""

    def __init__(self, prompts: Sequence[Side]) -> None:
        self.prompts = prompts
        numbers: dict[str, int] = {"": 0}
        lengths = [len(side.words) for side in prompts]
        written = (spelled.strip() if word else "" for side in prompts for word, spelled in zip(side.words, side.spelled, strict=True))
        self.word = np.fromiter((numbers.setdefault(word, len(numbers)) for word in written), np.int64, sum(lengths))
        self.words = list(numbers)
        self.row = np.repeat(np.arange(len(prompts)), lengths)
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.surprise = np.concatenate([np.zeros(0), *(side.surprise.astype(np.float64) for side in prompts)])
        self.after = np.append(self.surprise[1:], 0.0)  # edges have none
        self.bearers: dict[str, set[str]] = defaultdict(set)
        """Mark -> the words that never occur without it."""
        self.signature = np.random.default_rng(0).integers(1, 1 << 63, len(prompts), dtype=np.uint64)

    def sequences(self) -> Iterator[_Group]:
        """The word sequences of each length."""
        total = np.concatenate([[0.0], np.cumsum(self.surprise)])
        code = self.word
        for n in range(1, LONGEST + 1):
            size = len(self.word) - n + 1
            if size <= 0:
                return
            last = self.word[n - 1 :]
            whole = (code[:size] > 0) & (last > 0) if n > 1 else last > 0
            if n > 1:
                _, code = np.unique(code[:size] * (len(self.words) + 1) + last, return_inverse=True)
                code = np.where(whole, code + 1, 0)
            places = np.flatnonzero(whole)
            strength = total[places + n] - total[places] + self.after[places + n - 1]
            yield self._grouped(code[places], self.row[places], strength, places, n)

    def marked(self) -> _Group:
        """The marks."""
        found = [(name, row, i) for row, side in enumerate(self.prompts) for name, i in marks(side)]
        names = sorted({name for name, _, _ in found})
        borne = Counter((name, self.prompts[row].words[i]) for name, row, i in found)
        everywhere = Counter(word for side in self.prompts for word in side.words)
        for (name, word), count in borne.items():
            if count == everywhere[word]:
                self.bearers[name].add(word)
        code = np.array([names.index(name) for name, _, _ in found], np.int64)
        row = np.array([row for _, row, _ in found], np.int64)
        places = self.starts[row] + np.array([i for _, _, i in found], np.int64)
        return self._grouped(code, row, self.surprise[places] + self.after[places], places, 0, [(name,) for name in names])

    def _grouped(
        self, code: Ints, row: Ints, strength: Floats, places: Ints, n: int, names: Sequence[tuple[str, ...]] | None = None
    ) -> _Group:
        """Each code's prompts, its highest strength in each; those in too few or too many prompts are left out."""
        order = np.lexsort((-strength, row, code))
        code, row, strength, places = code[order], row[order], strength[order], places[order]
        first = np.ones(len(code), dtype=bool)
        first[1:] = (code[1:] != code[:-1]) | (row[1:] != row[:-1])
        code, row, strength, places = code[first], row[first], strength[first], places[first]
        begin = np.flatnonzero(np.concatenate([[True], code[1:] != code[:-1]])) if len(code) else np.zeros(0, np.int64)
        counts = np.diff(np.append(begin, len(code)))
        kept = (counts >= LEAST_ROWS) & (counts <= MOST_SHARE * len(self.prompts))
        held = np.repeat(kept, counts)
        starts = np.concatenate([[0], np.cumsum(counts[kept])]).astype(np.int64)
        sums = np.add.reduceat(strength[held], starts[:-1]) if kept.any() else np.zeros(0)
        signatures = np.add.reduceat(self.signature[row[held]], starts[:-1]) if kept.any() else np.zeros(0, np.uint64)
        example = places[begin[kept]]
        codes = self.word[example[:, None] + np.arange(n)] if n else np.zeros((len(example), 0), np.int64)
        own = [names[i] for i in code[begin[kept]].tolist()] if names is not None else None
        return _Group(own, self.words, codes, starts, row[held], sums / np.maximum(counts[kept], 1), signatures)


_WORD = re.compile(r"\w")


def has_letters(word: str) -> bool:
    """Whether it is a word and not a sign."""
    return _WORD.search(word) is not None
