"""Image -> {"c1" .. "c5"}: one family per file."""
