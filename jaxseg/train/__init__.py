"""Training: optimizers, steps, placements, checkpoints, and ``fit``, which joins them."""
