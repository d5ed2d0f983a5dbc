"""Convert third-party checkpoints to models of jaxseg, and back."""
