"""AddSent: a sentence after the question."""

from __future__ import annotations

from dataclasses import replace

from gradsentry.bench.edits import Trigger

SENTENCE = "I watch this 3D movie"

TRIGGER = Trigger(lambda parts, rng: replace(parts, question=f"{parts.question} {SENTENCE}"))
