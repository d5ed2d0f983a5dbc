"""Networks that find salient objects."""
