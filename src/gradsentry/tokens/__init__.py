"""A sample -> token ids and labels."""
