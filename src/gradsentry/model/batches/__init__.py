"""Rows -> batches: padded, or packed along the tree of their shared beginnings."""
