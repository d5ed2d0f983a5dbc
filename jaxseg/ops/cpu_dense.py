"""XLA's own convolution and its gradients, and what each tap of a kernel sees. Not public, like ``jaxseg.ops.cpu``."""

from typing import Any

import jax
import numpy as np
from jax import Array, lax

from jaxseg.ops.window import Slide

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
