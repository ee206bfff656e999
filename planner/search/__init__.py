"""Safe ordered paths, proofs that there is none, and the independent validator."""
