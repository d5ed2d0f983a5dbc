"""Flax modules shared by unrelated papers."""
