"""Networks that colour grey images."""
