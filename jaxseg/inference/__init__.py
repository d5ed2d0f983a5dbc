"""Trained models and everything done with them: load, predict, tile, augment at test time, refine, sample."""
