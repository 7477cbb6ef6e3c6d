"""The run directory and who works on it."""
