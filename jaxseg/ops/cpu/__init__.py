"""Forms of operations that are fast on a CPU, each equal to XLA's own (:mod:`jaxseg.ops.xla`) up to rounding."""
