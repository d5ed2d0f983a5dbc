"""Networks that find objects: boxes, classes and scores."""
