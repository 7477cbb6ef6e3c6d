"""Makes texts from data, file names, models and libraries harmless: they cannot steer a terminal or a page, or hide from a reader."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Any

BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the writing direction, which can make a text look like another one."""

BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters, marks and symbols that are drawn as nothing: Hangul fillers, the empty Braille pattern, Khmer and Mongolian signs."""

UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp")
"""Unicode's categories of characters without a shape of their own: controls, formats, halves of pairs, private or unassigned, spaces."""

LIKE_LATIN = frozenset("аеорсухіјѕһԁԛԝӏАВЕКМНОРСТУХІЈЅοΑΒΕΖΗΙΚΜΝΟΡΤΥΧ")
"""Cyrillic and Greek letters that look like Latin ones."""

SCRIPTS = ("LATIN", "CYRILLIC", "GREEK")
"""First words of the names of the letters that can be mistaken for each other."""

RUNNER_COMMAND = re.compile(r"##(?=\[|vso\[|teamcity\[)")
"""GitHub's runner, Azure Pipelines and TeamCity obey such commands anywhere in a line."""

_PLAIN = re.compile(r"[ -~\n]*")
_WORD = re.compile(r"\\u[0-9a-f]{4,6}|[^\W\d_]+")
"""A word, or an escape, whose letters belong to no word."""


def visible(text: str, width: int | None = None) -> str:
    """The text with what a reader cannot see, or would take for something else, as escapes, cut to `width` characters.

    Escaped are controls (a tab too), bidi characters, variation selectors, tags, unassigned characters, all spaces but the ordinary
    one, and in a word that mixes scripts the look-alike letters of the rarer one: ``p\\u0430ypal``. Line feeds stay. A text that is
    cut ends in an ellipsis. What is escaped already stays as it is.
    """
    if width is not None and len(text) > width:
        text = text[: width - 1] + "\u2026"
    return text if _PLAIN.fullmatch(text) else "".join(shown_characters(text))


def shown_characters(text: str) -> list[str]:
    """Each character of the text as `visible` shows it."""
    shown = [_escaped(char) if is_unseen(char) else char for char in text]
    for word in _WORD.finditer(text):
        for place in _mistakable(word[0]):
            shown[word.start() + place] = _escaped(word[0][place])
    return shown


def one_line(text: str, width: int | None = None) -> str:
    """As `visible`, with line feeds escaped too: for the name of a file, a column or a model inside a line."""
    return visible(text, width).replace("\n", "\\n")


def indented(text: str) -> str:
    """As `visible`, with all lines but the first indented, so that no text begins a line that looks like one of ours."""
    return visible(text).replace("\n", "\n    ")


def visible_values(value: Any) -> Any:
    """A JSON value whose texts, names of fields too, are `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(name): visible_values(item) for name, item in value.items()}
    return [visible_values(item) for item in value] if isinstance(value, (list, tuple)) else value


def json_text(value: Any) -> str:
    """Indented JSON of ASCII characters alone: no control but line feeds, and no line that a CI runner takes for a command.

    Raises:
        ValueError: a number is infinite or NaN, for which JSON has no word.
    """
    return without_commands(json.dumps(value, indent=2, allow_nan=False))


def without_commands(text: str) -> str:
    """The text with the commands of CI runners broken that are obeyed anywhere in a line. In JSON its meaning stays."""
    return RUNNER_COMMAND.sub(r"#\\u0023", text)


@lru_cache(maxsize=1 << 14)
def is_unseen(char: str) -> bool:
    """Whether a character, other than the ordinary space and the line feed, is drawn as nothing, as a space, or turns the text."""
    return char not in " \n" and (unicodedata.category(char) in UNSEEN or char in BLANK or "\ufe00" <= char <= "\ufe0f" or _is_tag(char))


def _is_tag(char: str) -> bool:
    """Tags and the supplementary variation selectors, assigned or not."""
    return "\U000e0000" <= char <= "\U000e0fff"


def _escaped(char: str) -> str:
    return "\\t" if char == "\t" else f"\\u{ord(char):04x}"


def _mistakable(word: str) -> list[int]:
    """Places of the letters of a word's rarer scripts, if Latin, Cyrillic and Greek are mixed and could be mistaken."""
    if word.isascii() or LIKE_LATIN.isdisjoint(word):
        return []
    scripts = Counter(script for char in word if (script := _script(char)) in SCRIPTS)
    if len(scripts) < 2:
        return []
    home = max(SCRIPTS, key=lambda script: scripts[script])
    return [place for place, char in enumerate(word) if _script(char) in SCRIPTS and _script(char) != home]


@lru_cache(maxsize=1 << 14)
def _script(char: str) -> str:
    """The first word of a letter's name, which is mostly its script."""
    return unicodedata.name(char, "").partition(" ")[0]
