"""Networks that predict depth, and what comes with it."""
