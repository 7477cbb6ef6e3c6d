"""Deprecated for one version: the columns of a run's tables are in `gradsentry.schema`."""

from gradsentry.schema import EVIDENCE, PART, SCORES, SPECTRUM, SURPRISES, VERDICTS

__all__ = ["EVIDENCE", "PART", "SCORES", "SPECTRUM", "SURPRISES", "VERDICTS"]
