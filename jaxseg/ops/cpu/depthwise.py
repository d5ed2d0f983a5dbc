"""Depthwise convolutions on a CPU.

A sum over taps of shifted maps times one number per channel, which XLA fuses into one loop; its own convolution works
channel by channel. Gain: forward 50 times, input gradient 40, kernel gradient 8 and more.
"""

import functools
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxseg.ops.cpu.layout import accumulator, each_tap
from jaxseg.ops.window import ConvGeometry, effective_kernel_size
from jaxseg.ops.xla import Shape


def is_depthwise(kernel_shape: Shape) -> bool:
    """Return True if the convolution is depthwise, with a window small enough for a sum over taps."""
    return kernel_shape[2] == 1 and kernel_shape[0] * kernel_shape[1] <= 49


def depthwise(x: Array, kernel: Array, geometry: ConvGeometry) -> Array:
    """Convolve each channel by itself."""
    taps = each_tap(x.astype(accumulator(x)), kernel.shape, geometry)
    weights = kernel.reshape(-1, 1, 1, 1, x.shape[3], kernel.shape[3] // x.shape[3]).astype(accumulator(x))
    products = [tap[..., None] * weight for tap, weight in zip(taps, weights, strict=True)]
    y = functools.reduce(jnp.add, products)
    return y.reshape(*taps[0].shape[:3], kernel.shape[3]).astype(x.dtype)


def depthwise_input_gradient(dy: Array, kernel: Array, x_shape: Shape, geometry: ConvGeometry) -> Array:
    """Return the gradient of ``depthwise`` for its map."""
    if dy.shape[3] != x_shape[3]:
        kernels = kernel.reshape(*kernel.shape[:3], x_shape[3], -1)
        dys = dy.reshape(*dy.shape[:3], x_shape[3], -1)
        each = range(kernels.shape[4])
        parts = [depthwise_input_gradient(dys[..., m], kernels[..., m], x_shape, geometry) for m in each]
        return sum(parts[1:], parts[0])
    edges = []
    spans = effective_kernel_size((kernel.shape[0], kernel.shape[1]), geometry.dilation)
    for n, m, s, span, (lo, _) in zip(x_shape[1:3], dy.shape[1:3], geometry.stride, spans, geometry.pads, strict=True):
        before = span - 1 - lo
        edges.append((before, n + span - 1 - before - (m - 1) * s - 1, s - 1))
    dy = lax.pad(dy, np.zeros((), dy.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    back = ConvGeometry((1, 1), ((0, 0), (0, 0)), geometry.dilation, geometry.groups)
    return depthwise(dy, kernel[::-1, ::-1], back)


def depthwise_kernel_gradient(x: Array, dy: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    """Return the gradient of ``depthwise`` for its kernel."""
    if dy.shape[3] != x.shape[3]:
        dys = dy.reshape(*dy.shape[:3], x.shape[3], -1)
        one = (*kernel_shape[:3], x.shape[3])
        parts = [depthwise_kernel_gradient(x, dys[..., m], one, geometry) for m in range(dys.shape[4])]
        return jnp.stack(parts, 4).reshape(kernel_shape)
    wide, rows = accumulator(x), dy.shape[1]
    fold = 8 if rows >= 24 else 4 if rows >= 8 else 1
    more = -rows % fold  # rows of zeros, so that the folds are equal
    (top, bottom), sides = geometry.pads
    geometry = geometry._replace(pads=((top, bottom + more * geometry.stride[0]), sides))
    grown = lax.pad(dy.astype(wide), np.zeros((), wide), ((0, 0, 0), (0, more, 0), (0, 0, 0), (0, 0, 0)))
    dys = jnp.split(lax.optimization_barrier(grown), fold, 1)
    folded = [
        _sum_pairs(zip(jnp.split(tap, fold, 1), dys, strict=True))
        for tap in each_tap(x.astype(wide), kernel_shape, geometry)
    ]
    return _sum_pixels(jnp.stack(folded)).reshape(kernel_shape).astype(dy.dtype)


def _sum_pairs(pairs: Iterable[tuple[Array, Array]]) -> Array:
    """Return the sum of products, added pairwise; XLA fuses it into one loop."""
    sums = [a * b for a, b in pairs]
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]


def _sum_pixels(x: Array) -> Array:
    """Map ``[t b h w c]`` to ``[t c]``, by halves: XLA's single long reduction is one chain of additions.

    Examples stay apart until the end, so that a batch spread over devices needs no exchange before. All taps are
    summed at once: a loop for each of their halves took seconds to compile.
    """
    x = lax.optimization_barrier(x).reshape(*x.shape[:2], -1, x.shape[4])
    while (n := x.shape[2]) > 64:
        half = n // 2
        folded = x[:, :, :half] + x[:, :, half : 2 * half]
        x = folded if n % 2 == 0 else jnp.concatenate([folded, x[:, :, -1:]], 2)
    return x.sum((1, 2))
