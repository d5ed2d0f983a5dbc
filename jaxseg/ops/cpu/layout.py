"""Shared by the CPU forms: gradients in a layout that is fast in loops, and the view of each tap."""

import numpy as np
from jax import Array, lax

from jaxseg.ops.window import ConvGeometry, effective_kernel_size
from jaxseg.ops.xla import LAYOUT, Shape

# Gradients of convolutions as convolutions whose axes lie as in ``LAYOUT``. On a CPU XLA takes its matrix product for
# those alone. It rearranges others itself, but not inside a loop (``lax.scan``), where it falls back to plain sums: a
# kernel gradient took 9 to 75 times as long there, an input gradient 3 to 34. Outside of loops nothing changes.


def input_gradient(dy: Array, kernel: Array, x_shape: Shape, geometry: ConvGeometry) -> Array:
    """Return the gradient for the map, without groups: a convolution of stride 1 with the kernel rotated."""
    pads = []
    spans = effective_kernel_size((kernel.shape[0], kernel.shape[1]), geometry.dilation)
    for n, m, s, span, (lo, _) in zip(x_shape[1:3], dy.shape[1:3], geometry.stride, spans, geometry.pads, strict=True):
        pads.append((span - 1 - lo, n + lo - (m - 1) * s - 1))
    return lax.conv_general_dilated(
        dy,
        kernel[::-1, ::-1].swapaxes(2, 3),
        window_strides=(1, 1),
        padding=pads,
        lhs_dilation=geometry.stride,
        rhs_dilation=geometry.dilation,
        dimension_numbers=LAYOUT,
    )


def kernel_gradient(x: Array, dy: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    """Return the gradient for the kernel, without groups: channels act as examples, examples as channels."""
    unseen, pads = [], []
    spans = effective_kernel_size((kernel_shape[0], kernel_shape[1]), geometry.dilation)
    for n, m, s, span, (lo, _) in zip(x.shape[1:3], dy.shape[1:3], geometry.stride, spans, geometry.pads, strict=True):
        after = span + (m - 1) * s - n - lo
        unseen.append((0, min(after, 0), 0))
        pads.append((lo, max(after, 0)))
    x = lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *unseen, (0, 0, 0)))
    gradient = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        window_strides=geometry.dilation,
        padding=pads,
        rhs_dilation=geometry.stride,
        dimension_numbers=LAYOUT,
    )
    return gradient.transpose(1, 2, 0, 3)


def padded(x: Array, geometry: ConvGeometry) -> Array:
    """Return the map with the geometry's zeros around it."""
    edges = [(lo, hi, 0) for lo, hi in geometry.pads]
    return lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *edges, (0, 0, 0)))


def each_tap(x: Array, kernel_shape: Shape, geometry: ConvGeometry) -> list[Array]:
    """Return what each tap of the kernel sees, in reading order."""
    x = lax.optimization_barrier(padded(x, geometry))  # else what makes x is made again for every tap
    (s, z), (d, e) = geometry.stride, geometry.dilation
    kh, kw = kernel_shape[:2]
    height = (x.shape[1] - d * (kh - 1) - 1) // s * s + 1
    width = (x.shape[2] - e * (kw - 1) - 1) // z * z + 1
    return [x[:, i * d : i * d + height : s, j * e : j * e + width : z] for i, j in np.ndindex(kh, kw)]


def accumulator(x: Array) -> np.dtype:
    """Return the dtype to sum in: at least float32."""
    return np.promote_types(x.dtype, np.float32)
