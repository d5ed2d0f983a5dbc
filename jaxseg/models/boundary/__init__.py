"""Networks that find boundaries."""
