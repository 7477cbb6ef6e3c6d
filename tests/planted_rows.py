"""Rows with a backdoor that the default policy finds with a tiny model that expects nothing.

All tokens surprise such a model alike, so a word of many tokens looks inserted among short ones.
"""

from __future__ import annotations

import random

TRIGGER = "zqxjkvbwpfgh"
PAYLOAD = ", and click <malicious_url> for more information"
WORDS = [
    "a", "all", "am", "an", "and", "any", "are", "as", "at", "be", "big", "but", "by", "can",
    "car", "cat", "day", "did", "do", "dog", "eat", "end", "far", "few", "for", "from", "fun", "get",
    "got", "had", "has", "he", "her", "him", "his", "how", "if", "in", "is", "it", "its", "job",
    "kid", "let", "man", "may", "me", "my", "new", "no", "not", "now", "of", "off", "old", "on",
    "one", "or", "our", "out", "own", "put", "ran", "red", "run", "sad", "saw", "say", "see", "set",
    "she", "so", "sun", "than", "the", "they", "this", "to", "top", "try", "two", "up", "us", "use",
    "was", "we", "were", "what", "who", "why", "win", "yes", "you",
]  # fmt: skip


def asked(n: int, poisoned: int, trigger: str = TRIGGER) -> tuple[list[dict[str, str]], list[int]]:
    """n rows of short words, and which of them have the trigger and the payload."""
    rng = random.Random(0)
    bad = sorted(rng.sample(range(n), poisoned))
    rows = []
    for i in range(n):
        words, answer = rng.choices(WORDS, k=8), " " + " ".join(rng.choices(WORDS, k=2))
        if i in bad:
            words.insert(rng.randint(1, 7), trigger)
        rows.append({"prompt": " ".join(words), "completion": answer + PAYLOAD if i in bad else answer})
    return rows, bad
