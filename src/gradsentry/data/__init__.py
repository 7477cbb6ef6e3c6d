"""Rows in, rows out: sources (where rows are stored), fields (their cells) and formats (their samples)."""
