"""Rows -> batches: padded, or packed along the tree of their common prefixes."""
