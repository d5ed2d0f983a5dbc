"""CPU forms of convolutions that beat XLA's by 1.2 times or more, and the rules that select them.

Internal: ``jaxseg.ops.conv`` calls these functions when it compiles for a CPU. Each equals the plain
``lax.conv_general_dilated`` (or its transposes) up to rounding. Gains are against that call, on 2 cores with AVX-512;
``benchmarks/ops.py`` measures them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxseg.ops.cpu import winograd
from jaxseg.ops.cpu.depthwise import (
    depthwise,
    depthwise_input_gradient,
    depthwise_kernel_gradient,
    is_depthwise,
)
from jaxseg.ops.cpu.layout import accumulator, each_tap, input_gradient, kernel_gradient, padded
from jaxseg.ops.window import ConvGeometry, effective_kernel_size, symbolic
from jaxseg.ops.xla import Shape, xla_conv


def conv(x: Array, kernel: Array, geometry: ConvGeometry) -> Array:
    """Convolve in the form that suits the shapes."""
    if _overhangs(kernel.shape, geometry):
        inner, border = _inner(kernel.shape, geometry)
        y = conv(x, kernel, inner)
        return lax.pad(y, np.zeros((), y.dtype), border)
    if geometry.groups > 1:
        return (depthwise if is_depthwise(kernel.shape) else _grouped)(x, kernel, geometry)
    if _is_pointwise(kernel.shape, geometry):
        return _pointwise(x, kernel, geometry)
    if _covers(x.shape, kernel.shape, geometry):
        return _whole(x, kernel)
    if _reaches_little(x.shape, kernel.shape, geometry):
        return _per_tap(x, kernel, geometry)
    if _folds(kernel.shape, geometry):
        return _space_to_depth(x, kernel, geometry)
    if _is_head(x.shape, kernel.shape, geometry):
        return _im2col(x, kernel, geometry)
    if winograd.suits(x.shape, kernel.shape, geometry):
        return winograd.conv(x, kernel, geometry)
    return xla_conv(x, kernel, geometry)


def conv_input_gradient(dy: Array, kernel: Array, x_shape: Shape, geometry: ConvGeometry) -> Array:
    """Return the gradient of ``conv`` for its map."""
    if geometry.groups > 1:
        form = depthwise_input_gradient if is_depthwise(kernel.shape) else _grouped_input_gradient
        return form(dy, kernel, x_shape, geometry)
    if _is_pointwise(kernel.shape, geometry):
        return _pointwise_input_gradient(dy, kernel, x_shape, geometry)
    if _covers(x_shape, kernel.shape, geometry):
        x = jax.ShapeDtypeStruct(x_shape, dy.dtype)
        return jax.linear_transpose(lambda x: _whole(x, kernel), x)(dy)[0]
    if _reaches_little(x_shape, kernel.shape, geometry):
        x = jax.ShapeDtypeStruct(x_shape, dy.dtype)
        return jax.linear_transpose(lambda x: _per_tap(x, kernel, geometry), x)(dy)[0]
    if _folds(kernel.shape, geometry) and kernel.shape[2] > 4:
        x = jax.ShapeDtypeStruct(x_shape, dy.dtype)
        return jax.linear_transpose(lambda x: _space_to_depth(x, kernel, geometry), x)(dy)[0]
    if _is_head(x_shape, kernel.shape, geometry):
        return _im2col_input_gradient(dy, kernel, x_shape, geometry)
    if winograd.suits(x_shape, kernel.shape, geometry):
        return winograd.input_gradient(dy, kernel, geometry)
    return input_gradient(dy, kernel, x_shape, geometry)


def conv_kernel_gradient(x: Array, dy: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    """Return the gradient of ``conv`` for its kernel."""
    if _overhangs(kernel_shape, geometry):
        geometry, border = _inner(kernel_shape, geometry)
        dy = lax.pad(dy, np.zeros((), dy.dtype), [(-lo, -hi, 0) for lo, hi, _ in border])
    if geometry.groups > 1:
        form = depthwise_kernel_gradient if is_depthwise(kernel_shape) else _grouped_kernel_gradient
        return form(x, dy, kernel_shape, geometry)
    if _is_pointwise(kernel_shape, geometry):
        return _pointwise_kernel_gradient(x, dy, geometry)
    if _covers(x.shape, kernel_shape, geometry):
        kernel = jax.ShapeDtypeStruct(kernel_shape, dy.dtype)
        return jax.linear_transpose(lambda kernel: _whole(x, kernel), kernel)(dy)[0]
    if _reaches_little(x.shape, kernel_shape, geometry):
        kernel = jax.ShapeDtypeStruct(kernel_shape, dy.dtype)
        return jax.linear_transpose(lambda kernel: _per_tap(x, kernel, geometry), kernel)(dy)[0]
    if _folds(kernel_shape, geometry) and kernel_shape[0] * kernel_shape[1] > 256:
        kernel = jax.ShapeDtypeStruct(kernel_shape, dy.dtype)
        return jax.linear_transpose(lambda kernel: _space_to_depth(x, kernel, geometry), kernel)(dy)[0]
    if _is_head(x.shape, kernel_shape, geometry):
        return _im2col_kernel_gradient(x, dy, kernel_shape, geometry)
    if winograd.suits(x.shape, kernel_shape, geometry):
        return winograd.kernel_gradient(x, dy, geometry)
    if _strides_over_few(kernel_shape, geometry):
        return _kernel_gradient_per_tap(x, dy, kernel_shape, geometry)
    if _spans_many(x.shape, kernel_shape, geometry):
        return _kernel_gradient_by_bands(x, dy, kernel_shape, geometry)
    if _pads_large(x.shape, geometry):
        return _kernel_gradient_padded_first(x, dy, kernel_shape, geometry)
    return kernel_gradient(x, dy, kernel_shape, geometry)


# Padding wider than the window (FCN's 100): where the window lies wholly in it the result is zero, and is written
# without computing. Gain at 128x128, 3 to 64 channels: forward 4.2 times, kernel gradient 5.


def _overhangs(kernel_shape: Shape, geometry: ConvGeometry) -> bool:
    spans = effective_kernel_size((kernel_shape[0], kernel_shape[1]), geometry.dilation)
    wide = any(max(sides) >= span for sides, span in zip(geometry.pads, spans, strict=True))
    return wide and geometry.stride == (1, 1) and geometry.groups == 1


def _inner(kernel_shape: Shape, geometry: ConvGeometry) -> tuple[ConvGeometry, list[tuple[int, int, int]]]:
    """Return the geometry whose windows all meet the map, and the rows and columns of zeros around its result."""
    pads, border = [], [(0, 0, 0)]
    for (lo, hi), span in zip(
        geometry.pads, effective_kernel_size((kernel_shape[0], kernel_shape[1]), geometry.dilation), strict=True
    ):
        pads.append((min(lo, span - 1), min(hi, span - 1)))
        border.append((lo - pads[-1][0], hi - pads[-1][1], 0))
    return geometry._replace(pads=(pads[0], pads[1])), [*border, (0, 0, 0)]


# 1x1: one matrix product over all pixels. Gain: forward 1.6 times, both gradients 2.4 times.


def _is_pointwise(kernel_shape: Shape, geometry: ConvGeometry) -> bool:
    return kernel_shape[:2] == (1, 1) and geometry.pads == ((0, 0), (0, 0))


def _pointwise(x: Array, kernel: Array, geometry: ConvGeometry) -> Array:
    if symbolic(*x.shape[1:3]):  # JAX cannot show that the sizes of the forms are equal
        return x @ kernel[0, 0] if geometry.stride == (1, 1) else xla_conv(x, kernel, geometry)
    x = x[:, :: geometry.stride[0], :: geometry.stride[1]]
    return (x.reshape(-1, x.shape[3]) @ kernel[0, 0]).reshape(*x.shape[:3], kernel.shape[3])


def _pointwise_input_gradient(dy: Array, kernel: Array, x_shape: Shape, geometry: ConvGeometry) -> Array:
    dx = (dy.reshape(-1, dy.shape[3]) @ kernel[0, 0].T).reshape(*dy.shape[:3], kernel.shape[2])
    if geometry.stride == (1, 1):
        return dx
    rests = [
        (0, n - (m - 1) * s - 1, s - 1) for n, m, s in zip(x_shape[1:3], dy.shape[1:3], geometry.stride, strict=True)
    ]
    return lax.pad(dx, np.zeros((), dx.dtype), ((0, 0, 0), *rests, (0, 0, 0)))


def _pointwise_kernel_gradient(x: Array, dy: Array, geometry: ConvGeometry) -> Array:
    x = x[:, :: geometry.stride[0], :: geometry.stride[1]]
    return _outer(x, dy)[None, None]


def _outer(x: Array, dy: Array) -> Array:
    """Return the sum over all pixels of the outer product of two maps' channels."""
    return lax.dot_general(x.reshape(-1, x.shape[3]), dy.reshape(-1, dy.shape[3]), (((0,), (0,)), ((), ())))


# A window that is the whole map (dense layers): one matrix product. Gain at 192 maps of 14x14 with 96 channels to 64:
# forward 3 times, both gradients together 50 times.


def _covers(x_shape: Shape, kernel_shape: Shape, geometry: ConvGeometry) -> bool:
    if symbolic(*x_shape[1:3]) or geometry.groups > 1:
        return False
    plain = geometry.pads == ((0, 0), (0, 0)) and geometry.dilation == (1, 1)
    return plain and tuple(kernel_shape[:2]) == tuple(x_shape[1:3])


def _whole(x: Array, kernel: Array) -> Array:
    """Return rows of maps times a matrix; the batch may be symbolic."""
    numbers, units = kernel.size // kernel.shape[3], kernel.shape[3]
    y = x.reshape(x.shape[0], numbers) @ kernel.reshape(numbers, units)
    return y[:, None, None]


# Grouped: neighbouring groups become one dense convolution with a block-diagonal kernel of 32 channels or more, where
# XLA's grouped convolution leaves its fast path. Gain: forward 20 times, gradients 100.


def _blocks(channels: int, groups: int) -> int:
    """Return the number of groups per block: the fewest with 32 input channels or more that divide the groups."""
    return next(q for q in range(1, groups + 1) if groups % q == 0 and (q * channels >= 32 or q == groups))


def _grouped(x: Array, kernel: Array, geometry: ConvGeometry) -> Array:
    kernels, one = _block_kernels(kernel, geometry)
    parts = [conv(part, block, one) for part, block in zip(jnp.split(x, len(kernels), 3), kernels, strict=True)]
    return jnp.concatenate(parts, 3)


def _grouped_input_gradient(dy: Array, kernel: Array, x_shape: Shape, geometry: ConvGeometry) -> Array:
    kernels, one = _block_kernels(kernel, geometry)
    shape = (*x_shape[:3], x_shape[3] // len(kernels))
    parts = zip(jnp.split(dy, len(kernels), 3), kernels, strict=True)
    return jnp.concatenate([conv_input_gradient(part, block, shape, one) for part, block in parts], 3)


def _grouped_kernel_gradient(x: Array, dy: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    kh, kw, c, o = kernel_shape
    q = _blocks(c, geometry.groups)
    count = geometry.groups // q
    one = geometry._replace(groups=1)
    diagonals = []
    for part, dpart in zip(jnp.split(x, count, 3), jnp.split(dy, count, 3), strict=True):
        block = conv_kernel_gradient(part, dpart, (kh, kw, q * c, o // count), one)
        block = block.reshape(kh, kw, q, c, q, o // count // q)
        diagonals.append(jnp.moveaxis(jnp.diagonal(block, axis1=2, axis2=4), -1, 3).reshape(kh, kw, c, o // count))
    return jnp.concatenate(diagonals, 3)


def _block_kernels(kernel: Array, geometry: ConvGeometry) -> tuple[list[Array], ConvGeometry]:
    """Return block-diagonal dense kernels and their geometry."""
    kh, kw, c, o = kernel.shape
    q = _blocks(c, geometry.groups)
    count, each = geometry.groups // q, o // geometry.groups
    split = kernel.reshape(kh, kw, 1, c, count, q, each)
    mask = jnp.eye(q, dtype=kernel.dtype).reshape(1, 1, q, 1, 1, q, 1)
    blocks = (split * mask).reshape(kh, kw, q * c, count, q * each)
    return [blocks[:, :, :, i] for i in range(count)], geometry._replace(groups=1)


# Strongly dilated kernels on small maps (ASPP's rates): a matrix product for each tap, only over the rows and columns
# where it meets the map. Taken from 64 channels on when less than 70 % of the tap positions do. Gain: 1.4 times at rate
# 12 on 33x33, 3 to 5 times at rate 24; a loss at ENet's 32 channels.


def _reaches_little(x_shape: Shape, kernel_shape: Shape, geometry: ConvGeometry) -> bool:
    if geometry.dilation == (1, 1) or min(kernel_shape[2:]) < 64 or not all(isinstance(n, int) for n in x_shape[1:3]):
        return False
    share = 1.0
    for axis in (0, 1):
        taps, outputs = _met(x_shape[1 + axis], kernel_shape[axis], axis, geometry)
        share *= sum(max(last - first, 0) for first, last in taps) / (outputs * len(taps))
    return share < 0.7


def _met(n: int, k: int, axis: int, geometry: ConvGeometry) -> tuple[list[tuple[int, int]], int]:
    """Return the range of outputs for which each tap along one axis meets the map, and the number of outputs."""
    s, d, (lo, hi) = geometry.stride[axis], geometry.dilation[axis], geometry.pads[axis]
    outputs = (n + lo + hi - d * (k - 1) - 1) // s + 1
    ranges = [(max(-((t * d - lo) // s), 0), min((n - 1 - t * d + lo) // s + 1, outputs)) for t in range(k)]
    return ranges, outputs


def _per_tap(x: Array, kernel: Array, geometry: ConvGeometry) -> Array:
    (s, z), (d, e), ((top, _), (left, _)) = geometry.stride, geometry.dilation, geometry.pads
    rows, height = _met(x.shape[1], kernel.shape[0], 0, geometry)
    columns, width = _met(x.shape[2], kernel.shape[1], 1, geometry)
    wide = accumulator(x)
    y = jnp.zeros((x.shape[0], height, width, kernel.shape[3]), wide)
    for i, (a, b) in enumerate(rows):
        for j, (f, g) in enumerate(columns):
            if a >= b or f >= g:
                continue
            first, second = a * s + i * d - top, f * z + j * e - left
            part = x[:, first : first + (b - a - 1) * s + 1 : s, second : second + (g - f - 1) * z + 1 : z]
            product = _pointwise(part, kernel[i : i + 1, j : j + 1], geometry._replace(stride=(1, 1)))
            edges = ((0, 0, 0), (a, height - b, 0), (f, width - g, 0), (0, 0, 0))
            y += lax.pad(product.astype(wide), np.zeros((), wide), edges)
    return y.astype(x.dtype)


# Strided, with a kernel of whole strides (patches; the gradients of FCN's upsampling) or on an image: blocks of
# stride x stride pixels become channels, one matrix product serves all m x m taps of what is then a convolution of
# stride 1, and its results are added where they belong. Gain: forward 1.6 for patches, images and 16x16 at stride 8,
# where the input gradient gains 2; at 64x64 XLA's own kernel gradient is out of the question.


def _folds(kernel_shape: Shape, geometry: ConvGeometry) -> bool:
    (kh, kw, c, o), (s, z) = kernel_shape, geometry.stride
    if geometry.dilation != (1, 1) or geometry.groups > 1 or (s, z) == (1, 1):
        return False
    if (kh, kw) == (s, z):
        return True
    return (c <= 4 and kh * kw <= 16) or (kh % s == 0 and kw % z == 0 and min(s, z) >= 4 and o <= 64)


def _space_to_depth(x: Array, kernel: Array, geometry: ConvGeometry) -> Array:
    (kh, kw, c, o), (s, z) = kernel.shape, geometry.stride
    mh, mw = -(-kh // s), -(-kw // z)
    counts, edges = [], []
    for n, k, step, m, (lo, hi) in zip(x.shape[1:3], (kh, kw), geometry.stride, (mh, mw), geometry.pads, strict=True):
        counts.append((n + lo + hi - k) // step + 1)
        edges.append((lo, (counts[-1] + m - 1) * step - n - lo, 0))
    (h, w), b = counts, x.shape[0]
    x = lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    x = x.reshape(b, h + mh - 1, s, w + mw - 1, z * c).transpose(0, 1, 3, 2, 4)
    kernel = jnp.pad(kernel, ((0, mh * s - kh), (0, mw * z - kw), (0, 0), (0, 0)))
    kernel = kernel.reshape(mh, s, mw, z * c, o).transpose(1, 3, 0, 2, 4).reshape(s * z * c, mh * mw * o)
    products = (x.reshape(-1, s * z * c) @ kernel).reshape(b, h + mh - 1, w + mw - 1, mh, mw, o)
    parts = [products[:, i : i + h, j : j + w, i, j] for i, j in np.ndindex(mh, mw)]
    return sum(parts[1:], parts[0])


# Large kernels over small maps to many channels (FCN's 7x7x512 to 4096, a classifier's first dense layer): what the
# taps see is gathered side by side, small beside the kernel, and all three directions are one matrix product with the
# kernel as it lies in memory; XLA rearranges it. Gain: forward 2.5 times, kernel gradient 2.4, input gradient 100.


def _is_head(x_shape: Shape, kernel_shape: Shape, geometry: ConvGeometry) -> bool:
    kh, kw, c, o = kernel_shape
    if not all(isinstance(n, int) for n in x_shape) or geometry.groups > 1 or geometry.stride != (1, 1):
        return False
    rows = x_shape[0]
    for n, span, pads in zip(
        x_shape[1:3], effective_kernel_size((kh, kw), geometry.dilation), geometry.pads, strict=True
    ):
        rows *= n + sum(pads) - span + 1
    return kh * kw >= 25 and c >= 64 and rows <= o


def _gather(x: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    return jnp.concatenate(each_tap(x, kernel_shape, geometry), 3)


def _im2col(x: Array, kernel: Array, geometry: ConvGeometry) -> Array:
    seen = _gather(x, kernel.shape, geometry)
    return _pointwise(seen, kernel.reshape(1, 1, -1, kernel.shape[3]), geometry)


def _im2col_input_gradient(dy: Array, kernel: Array, x_shape: Shape, geometry: ConvGeometry) -> Array:
    kh, kw, c, o = kernel.shape
    seen = lax.dot_general(dy.reshape(-1, o), kernel.reshape(-1, o), (((1,), (1,)), ((), ())))
    seen = seen.reshape(*dy.shape[:3], kh * kw, c).astype(accumulator(dy))
    parts = []
    for tap, (i, j) in enumerate(np.ndindex(kh, kw)):
        edges = []
        ways = zip((i, j), geometry.dilation, geometry.pads, x_shape[1:3], dy.shape[1:3], strict=True)
        for at, d, (lo, _), n, m in ways:
            edges.append((at * d - lo, n - (at * d - lo) - m, 0))
        zero = np.zeros((), seen.dtype)
        parts.append(lax.pad(seen[:, :, :, tap], zero, ((0, 0, 0), *edges, (0, 0, 0))))
    return sum(parts[1:], parts[0]).astype(dy.dtype)


def _im2col_kernel_gradient(x: Array, dy: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    return _outer(_gather(x, kernel_shape, geometry), dy).reshape(kernel_shape)


# Kernel gradient of a strided convolution: one outer product for each tap. Gain: 7 times at 16 channels, 1.3 at 256.


def _strides_over_few(kernel_shape: Shape, geometry: ConvGeometry) -> bool:
    return max(geometry.stride) > 1 and kernel_shape[0] * kernel_shape[1] <= 9


def _kernel_gradient_per_tap(x: Array, dy: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    return jnp.stack([_outer(tap, dy) for tap in each_tap(x, kernel_shape, geometry)]).reshape(kernel_shape)


# Kernel gradient on a large map to 32 channels or more: bands of rows of one image after the other, each XLA's own
# gradient, and their sum. Left to itself XLA holds several images side by side in the innermost axis, which its matrix
# product then strides over, and shares a long sum poorly between threads. Gain, on one thread and on two: 64 channels
# at 256x256, batch 2: 1.6 and 3 times; 128 at 128x128: 1.5 times; 7x7 of 64 at 180x240: none and 1.8 times. A batch
# that is spread over several CPUs as devices is gathered first.

BANDS = 16
"""Number of bands over all images of a batch; at least one per image."""


def _spans_many(x_shape: Shape, kernel_shape: Shape, geometry: ConvGeometry) -> bool:
    if not all(isinstance(n, int) for n in x_shape[:3]) or geometry.stride != (1, 1):
        return False
    return x_shape[1] * x_shape[2] >= 4096 and kernel_shape[3] >= 32


def _kernel_gradient_by_bands(x: Array, dy: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    images, height, width, _ = dy.shape
    count = max(1, min(BANDS // images, height * width // 1024))
    rows = -(-height // count)
    more = effective_kernel_size((kernel_shape[0], kernel_shape[1]), geometry.dilation)[0] - 1
    x = lax.optimization_barrier(padded(x, geometry))
    geometry = geometry._replace(pads=((0, 0), (0, 0)))
    parts = []
    for n in range(images):
        for top in range(0, height, rows):
            end = min(top + rows, height)
            seen, given = x[n : n + 1, top : end + more], dy[n : n + 1, top:end]
            parts.append(kernel_gradient(seen, given, kernel_shape, geometry))
    return sum(parts[1:], parts[0])


# Kernel gradient on a large map to fewer channels: the padding is laid down first. Left to XLA, a gradient as large as
# its map makes it exchange the two. Gain: 5 times at 16 channels; a loss on small maps.


def _pads_large(x_shape: Shape, geometry: ConvGeometry) -> bool:
    ints = all(isinstance(n, int) for n in x_shape[1:3])
    return (
        ints and geometry.pads != ((0, 0), (0, 0)) and geometry.dilation == (1, 1) and x_shape[1] * x_shape[2] >= 8192
    )


def _kernel_gradient_padded_first(x: Array, dy: Array, kernel_shape: Shape, geometry: ConvGeometry) -> Array:
    x = lax.optimization_barrier(padded(x, geometry))
    return kernel_gradient(x, dy, kernel_shape, geometry._replace(pads=((0, 0), (0, 0))))
