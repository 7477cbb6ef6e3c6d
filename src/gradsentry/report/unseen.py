"""Characters that a reader cannot see, and letters that look like other letters: where they are in a text, and their names."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple

from gradsentry import escape
from gradsentry.escape import LIKE_LATIN, SCRIPTS

CONTROLS = {"\r": "carriage return", "\x00": "null", "\x07": "bell", "\x08": "backspace", "\x1b": "escape", "\x7f": "delete"}
"""Names of controls, of which Unicode has none."""

STYLED = ("FULLWIDTH", "MATHEMATICAL")
"""First words of the names of letters that are ASCII letters in another form."""

_BEYOND_ASCII = re.compile(r"[^\x20-\x7e\n\t]+")
_LETTERS = re.compile(r"[^\W\d_]+")


class Piece(NamedTuple):
    """A part of a text."""

    kind: Literal["plain", "unseen", "alike"]
    text: str
    name: str
    """Of what is not plain; runs of one character have one name: ``3 × zero width space``."""


def is_unseen(char: str) -> bool:
    """Whether a character is drawn as nothing, as a space that is none, or as whatever the font makes of it; a tab is none of these."""
    return char != "\t" and escape.is_unseen(char)


def pieces(text: str, start: int = 0, stop: int | None = None) -> Iterator[Piece]:
    """A part of a text in order, cut where it holds characters that are unseen or look like others, which the whole text decides."""
    stop = len(text) if stop is None else stop
    alike = look_alikes(text)
    place = start
    for found in _BEYOND_ASCII.finditer(text, start, stop):
        for kind, run in groupby(range(*found.span()), key=lambda i: "alike" if i in alike else _kind(text[i])):
            own = list(run)
            if kind == "plain":
                continue
            if own[0] > place:
                yield Piece("plain", text[place : own[0]], "")
            place = own[-1] + 1
            chars = text[own[0] : place]
            yield Piece("alike" if kind == "alike" else "unseen", chars, _names(kind, chars))
    if place < stop:
        yield Piece("plain", text[place:stop], "")


def named(text: str) -> str:
    """The text with the names of unseen characters in their place, and those of look-alike letters behind them, in brackets."""
    return "".join(text if kind == "plain" else f"{text * (kind == 'alike')}[{name}]" for kind, text, name in pieces(text))


@lru_cache(maxsize=64)
def look_alikes(text: str) -> frozenset[int]:
    """Places of letters that look like letters of the script in which most of the text is written, and of styled ASCII letters."""
    if text.isascii():
        return frozenset()
    letters = Counter(_script(char) for char in text if char.isalpha())
    home = max(SCRIPTS, key=lambda script: letters[script])
    found: set[int] = set()
    for word in _LETTERS.finditer(text):
        if word[0].isascii():
            continue
        scripts = [_script(char) for char in word[0]]
        mixed = len(set(scripts) & set(SCRIPTS)) > 1
        disguised = home == "LATIN" and LIKE_LATIN.issuperset(word[0])
        for offset, script in enumerate(scripts):
            if script in STYLED or disguised or (mixed and script in SCRIPTS and script != home):
                found.add(word.start() + offset)
    return frozenset(found)


@lru_cache(maxsize=1 << 14)
def _script(char: str) -> str:
    """The first word of a letter's name, mostly its script."""
    first = unicodedata.name(char, "").partition(" ")[0]
    plain = unicodedata.normalize("NFKC", char)
    return "" if first in STYLED and not (plain.isascii() and plain.isalpha()) else first


@lru_cache(maxsize=1 << 14)
def _kind(char: str) -> str:
    """What runs are made of: tags and variation selectors can spell a message, of others one character repeats."""
    if not is_unseen(char):
        return "plain"
    return "tags" if "\U000e0000" <= char <= "\U000e007f" else "selectors" if _is_selector(char) else char


def _is_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _names(kind: str, chars: str) -> str:
    if kind == "tags":
        spelled = "".join(chr(ord(char) - 0xE0000) for char in chars if "\U000e0020" <= char <= "\U000e007e")
        return f"{len(chars)} tag character{'s' if len(chars) > 1 else ''}" + (f" that spell “{spelled}”" if spelled else "")
    if kind == "selectors":
        numbers = [unicodedata.name(char).rpartition("-")[2] for char in chars]
        return f"variation selector{'s' if len(chars) > 1 else ''} {' '.join(numbers)}"
    if kind == "alike":
        return ", ".join(_name(char) for char in chars)
    return (f"{len(chars)} × " if len(chars) > 1 else "") + _name(chars[0])


def _name(char: str) -> str:
    code = f"U+{ord(char):04X}"
    known = CONTROLS.get(char) or unicodedata.name(char, "").lower()
    return f"{known} {code}" if known else code
