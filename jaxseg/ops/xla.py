"""XLA's own convolutions and their gradients: the form of every platform but CPUs (:mod:`jaxseg.ops.cpu`)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxseg.ops.window import ConvGeometry, Extent, effective_kernel_size

Shape = tuple[Any, ...]
"""Integers; the batch may be symbolic while a program is exported."""

LAYOUT = ("NHWC", "HWIO", "NHWC")


def xla_conv(x: Array, kernel: Array, geometry: ConvGeometry) -> Array:
    """Convolve by one call of ``lax.conv_general_dilated``."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=geometry.stride,
        padding=geometry.pads,
        rhs_dilation=geometry.dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=geometry.groups,
    )


def xla_conv_input_gradient(dy: Array, kernel: Array, x_shape: Shape, geometry: ConvGeometry) -> Array:
    """Return the gradient for the map, by transposition of ``xla_conv``."""
    x = jax.ShapeDtypeStruct(x_shape, dy.dtype)
    return jax.linear_transpose(lambda x: xla_conv(x, kernel, geometry), x)(dy)[0]


def xla_conv_kernel_gradient(x: Array, dy: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    """Return the gradient for the kernel, by transposition of ``xla_conv``."""
    kernel = jax.ShapeDtypeStruct(kernel_shape, dy.dtype)
    return jax.linear_transpose(lambda kernel: xla_conv(x, kernel, geometry), kernel)(dy)[0]


def xla_conv_transpose(x: Array, kernel: Array, size: Extent, geometry: ConvGeometry) -> Array:
    """Convolve transposed: a convolution over the map with zeros between its pixels."""
    kh, kw, c, o = kernel.shape
    groups = geometry.groups
    kernel = kernel[::-1, ::-1].reshape(kh, kw, groups, c // groups, o)
    kernel = jnp.moveaxis(kernel, 2, 3).reshape(kh, kw, c // groups, groups * o)
    around = []
    spans = effective_kernel_size((kh, kw), geometry.dilation)
    for n, span, s, (lo, _), out in zip(x.shape[1:3], spans, geometry.stride, geometry.pads, size, strict=True):
        before = span - 1 - lo
        around.append((before, out + span - 1 - before - (n - 1) * s - 1))
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=around,
        lhs_dilation=geometry.stride,
        rhs_dilation=geometry.dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )
