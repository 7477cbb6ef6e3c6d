"""Who scores the shards of a run."""
