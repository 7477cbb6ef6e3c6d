"""Rows in, rows out: formats, fields and where rows are kept."""
