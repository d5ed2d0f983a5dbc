"""Transposed convolutions on a CPU in sub-pixel form.

A kernel of m strides is a dense m x m convolution to stride^2 times the channels, whose outputs interleave; the plain
call multiplies by the zeros between the pixels. Gain: forward 1.2 to 60 times.
"""

import jax.numpy as jnp
from jax import Array

from jaxseg.ops.cpu.convolution import conv
from jaxseg.ops.window import ConvGeometry, Extent
from jaxseg.ops.xla import xla_conv_transpose


def conv_transpose(x: Array, kernel: Array, size: Extent, geometry: ConvGeometry) -> Array:
    """Convolve transposed with a kernel [kh, kw, c_in, c_out / groups] to a map of ``size``; padding crops."""
    if geometry.dilation != (1, 1):
        return xla_conv_transpose(x, kernel, size, geometry)
    (sh, sw), groups = geometry.stride, geometry.groups
    kh, kw, c, o = kernel.shape
    folds, pads, starts, counts = [], [], [], []
    for n, k, s, (lo, _), out in zip(x.shape[1:3], (kh, kw), geometry.stride, geometry.pads, size, strict=True):
        m, first, last = -(-k // s), lo // s, (lo + out - 1) // s
        folds.append(m)
        pads.append((m - 1 - first, last - (n - 1)))
        starts.append(lo - first * s)
        counts.append(last - first + 1)
    (mh, mw), (h, w) = folds, counts
    kernel = jnp.pad(kernel, ((0, mh * sh - kh), (0, mw * sw - kw), (0, 0), (0, 0)))
    kernel = kernel.reshape(mh, sh, mw, sw, groups, c // groups, o)[::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 5, 4, 1, 3, 6).reshape(mh, mw, c // groups, groups * sh * sw * o)
    z = conv(x, kernel, ConvGeometry((1, 1), (pads[0], pads[1]), (1, 1), groups))
    z = z.reshape(-1, h, w, groups, sh, sw, o).transpose(0, 1, 4, 2, 5, 3, 6)
    z = z.reshape(-1, h * sh, w * sw, groups * o)
    return z[:, starts[0] : starts[0] + size[0], starts[1] : starts[1] + size[1]]
