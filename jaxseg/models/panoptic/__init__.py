"""Networks that give every pixel one segment: an instance of a thing, or stuff."""
