"""Flax modules that unrelated papers share."""
