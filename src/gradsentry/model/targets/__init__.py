"""The parameter whose gradient is scored: its row factors."""
