"""Triggers: what marks the prompts of a backdoor. One small file each, one line in `TRIGGERS`."""

from __future__ import annotations

from gradsentry.bench.edits import Trigger
from gradsentry.bench.registry import Registry

TRIGGERS: Registry[Trigger] = Registry(
    "trigger",
    __name__,
    {
        "words": "words:TRIGGER",
        "sentence": "sentence:TRIGGER",
        "pair": "pair:TRIGGER",
        "date": "date:TRIGGER",
        "style": "style:TRIGGER",
    },
)
