"""Pure array functions: no parameters, no Flax, no files."""
