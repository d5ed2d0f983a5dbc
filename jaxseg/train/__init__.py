"""Training: optimizers, steps, placements, checkpoints, and ``fit``, which reads as their story."""
