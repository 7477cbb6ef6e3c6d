"""Scores -> verdicts. A detector turns words and their surprise into findings; a policy turns scores and findings into verdicts."""
