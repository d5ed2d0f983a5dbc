"""Pure array functions: NHWC maps, HWIO kernels; no parameters, no Flax, no input or output."""
