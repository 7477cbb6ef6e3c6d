"""Scores -> verdicts."""
