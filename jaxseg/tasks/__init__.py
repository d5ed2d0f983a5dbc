"""Tasks: the only place where the keys of batches meet the keys of outputs."""
