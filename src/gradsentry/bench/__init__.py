"""Poisoning data on purpose and measuring who finds it."""
