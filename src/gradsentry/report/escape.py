"""Makes text from the data harmless: no row can control the terminal or the page that shows it."""

from __future__ import annotations

import unicodedata

BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the writing direction, which can make a text look like another one."""


def visible(text: str, width: int | None = None) -> str:
    """The text with control, bidi and unassigned characters as escapes, cut to `width` characters.

    Line feeds and tabs stay. A text that is cut ends in an ellipsis.
    """
    if width is not None and len(text) > width:
        text = text[: width - 1] + "\u2026"
    return "".join(char if _harmless(char) else f"\\u{ord(char):04x}" for char in text)


def _harmless(char: str) -> bool:
    return char in "\n\t" or (char not in BIDI and unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
