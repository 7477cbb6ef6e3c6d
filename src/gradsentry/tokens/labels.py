"""Token ids and labels of one row, and the label of a token without a loss."""

from __future__ import annotations

IGNORED = -100
"""Label of an unsupervised position, as everywhere in the Hugging Face ecosystem."""

Ids = tuple[list[int], list[int]]
"""input_ids and labels of one row, both of length S."""
