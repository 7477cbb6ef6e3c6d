"""Samples -> token ids and labels, and the vocabulary behind the ids."""
