"""Networks of several tasks at once."""
