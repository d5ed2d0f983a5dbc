"""Networks that outline every object."""
