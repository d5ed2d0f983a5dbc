"""jaxseg: dense prediction in Flax that trains, evaluates and ships."""

__version__ = "0.1.0"
