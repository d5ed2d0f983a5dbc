"""XLA's own convolution and its gradients, and what each tap of a kernel sees. Not public, like ``jaxseg.ops.cpu``."""

from typing import Any

import jax
import numpy as np
from jax import Array, lax

from jaxseg.ops.window import Slide, reach

Shape = tuple[Any, ...]
"""Integers, but a batch may be symbolic while a program is exported."""

LAYOUT = ("NHWC", "HWIO", "NHWC")


def dense(x: Array, kernel: Array, slide: Slide) -> Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=slide.stride,
        padding=slide.pads,
        rhs_dilation=slide.dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=slide.groups,
    )


def dense_input_gradient(dy: Array, kernel: Array, x_shape: Shape, slide: Slide) -> Array:
    """XLA's own gradient for the map."""
    x = jax.ShapeDtypeStruct(x_shape, dy.dtype)
    return jax.linear_transpose(lambda x: dense(x, kernel, slide), x)(dy)[0]


def dense_kernel_gradient(x: Array, dy: Array, kernel_shape: Shape, slide: Slide) -> Array:
    """XLA's own gradient for the kernel."""
    kernel = jax.ShapeDtypeStruct(kernel_shape, dy.dtype)
    return jax.linear_transpose(lambda kernel: dense(x, kernel, slide), kernel)(dy)[0]


# The gradients once more, as convolutions whose axes lie as in ``LAYOUT``. On a CPU XLA takes its matrix product for
# those alone. It rearranges others itself, but not inside a loop (``lax.scan``), where it falls back to plain sums: a
# kernel gradient took 9 to 75 times as long there, an input gradient 3 to 34. Outside of loops nothing changes.


def input_gradient(dy: Array, kernel: Array, x_shape: Shape, slide: Slide) -> Array:
    """Gradient for the map without groups: a convolution of stride 1 with the kernel turned by 180 degrees."""
    pads = []
    spans = reach((kernel.shape[0], kernel.shape[1]), slide.dilation)
    for n, m, s, span, (lo, _) in zip(x_shape[1:3], dy.shape[1:3], slide.stride, spans, slide.pads, strict=True):
        pads.append((span - 1 - lo, n + lo - (m - 1) * s - 1))
    return lax.conv_general_dilated(
        dy,
        kernel[::-1, ::-1].swapaxes(2, 3),
        window_strides=(1, 1),
        padding=pads,
        lhs_dilation=slide.stride,
        rhs_dilation=slide.dilation,
        dimension_numbers=LAYOUT,
    )


def kernel_gradient(x: Array, dy: Array, kernel_shape: Shape, slide: Slide) -> Array:
    """Gradient for the kernel without groups: channels take the place of examples, examples that of channels."""
    unseen, pads = [], []
    spans = reach((kernel_shape[0], kernel_shape[1]), slide.dilation)
    for n, m, s, span, (lo, _) in zip(x.shape[1:3], dy.shape[1:3], slide.stride, spans, slide.pads, strict=True):
        after = span + (m - 1) * s - n - lo
        unseen.append((0, min(after, 0), 0))
        pads.append((lo, max(after, 0)))
    x = lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *unseen, (0, 0, 0)))
    gradient = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        window_strides=slide.dilation,
        padding=pads,
        rhs_dilation=slide.stride,
        dimension_numbers=LAYOUT,
    )
    return gradient.transpose(1, 2, 0, 3)


def padded(x: Array, slide: Slide) -> Array:
    """The map with the slide's zeros around it."""
    edges = [(lo, hi, 0) for lo, hi in slide.pads]
    return lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *edges, (0, 0, 0)))


def each_tap(x: Array, kernel_shape: Shape, slide: Slide) -> list[Array]:
    """What every tap of the kernel sees, in reading order."""
    x = lax.optimization_barrier(padded(x, slide))  # else what makes x is made again for every tap
    (s, z), (d, e) = slide.stride, slide.dilation
    kh, kw = kernel_shape[:2]
    height = (x.shape[1] - d * (kh - 1) - 1) // s * s + 1
    width = (x.shape[2] - e * (kw - 1) - 1) // z * z + 1
    return [x[:, i * d : i * d + height : s, j * e : j * e + width : z] for i, j in np.ndindex(kh, kw)]


def accumulator(x: Array) -> np.dtype:
    """The dtype to sum in: at least float32."""
    return np.promote_types(x.dtype, np.float32)
