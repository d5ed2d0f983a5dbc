"""Networks that find the joints of objects."""
