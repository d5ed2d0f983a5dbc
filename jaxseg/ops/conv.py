"""Convolutions and channel rearrangements: NHWC maps, HWIO kernels, pure functions.

``conv`` and ``conv_transpose`` each equal one call of ``lax.conv_general_dilated`` and keep every float dtype. On CPUs
they are compiled in the forms of ``jaxseg.ops.cpu``; see :mod:`jaxseg.ops.backend`. They support reverse-mode
differentiation of any order, but not forward mode (``jax.jvp``).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from jaxseg.errors import BadInput
from jaxseg.ops import xla
from jaxseg.ops.backend import choose, current
from jaxseg.ops.cpu import convolution, transposed
from jaxseg.ops.window import ConvGeometry, Extent, Padding, Pads, Size, effective_kernel_size, explicit_pads, pair


def conv(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw i o"],
    *,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Float[Array, "b y x o"]:
    """Convolve (cross-correlate): ``y[p] = sum_k x[stride p + dilation k - padding] kernel[k]``.

    >>> conv(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 16)), stride=2, padding=1).shape
    (1, 4, 4, 16)

    Args:
      x: maps.
      kernel: HWIO; ``i`` is ``c / groups``. ``groups == c`` is the depthwise convolution.
      stride: step between outputs.
      padding: zeros around the map; "SAME" as in XLA, which differs from torch's padding at stride 2.
      dilation: step between taps.
      groups: number of independent blocks of channels, in torch's order.

    Returns:
      Maps of ``(h + padding - dilation (kh - 1) - 1) // stride + 1`` rows.

    Raises:
      BadInput: channels and groups do not match, or the window is larger than the padded map.
    """
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    window = (kernel.shape[0], kernel.shape[1])
    pads = explicit_pads(padding, (x.shape[1], x.shape[2]), window, stride, dilation)
    _check(x, kernel, kernel.shape[2] * groups, kernel.shape[3], groups)
    for size, span, sides in zip(x.shape[1:3], effective_kernel_size(window, dilation), pads, strict=True):
        if size + sum(sides) < span:
            raise BadInput(f"a window that reaches {span} pixels does not fit {size} pixels padded by {sides}")
    return _compiled_conv(x, kernel, ConvGeometry(stride, pads, dilation, groups), current())


def conv_transpose(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c o"],
    *,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Float[Array, "b y x k"]:
    """Convolve transposed, the gradient of ``conv``: ``y[stride i + dilation k - padding] += x[i] kernel[k]``.

    >>> conv_transpose(jnp.ones((1, 4, 4, 16)), jnp.ones((2, 2, 16, 3)), stride=2).shape
    (1, 8, 8, 3)

    Args:
      x: maps.
      kernel: [kh, kw, c_in, c_out / groups]: torch's ConvTranspose2d weight moved from (I, O, kh, kw), not flipped.
      stride: upsampling factor.
      padding: rows and columns cropped from each side; "SAME" gives ``stride`` times the size.
      output_padding: rows and columns added at the bottom and right.
      dilation: step between taps.
      groups: number of independent blocks of channels.

    Returns:
      Maps of ``(h - 1) stride - 2 padding + dilation (kh - 1) + 1 + output_padding`` rows.

    Raises:
      BadInput: channels and groups do not match, the result is empty, or the kernel is too small for "SAME".
    """
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    extra = pair(output_padding, "output_padding", least=0)
    window = (kernel.shape[0], kernel.shape[1])
    pads = _transposed_pads(padding, effective_kernel_size(window, dilation), stride)
    _check(x, kernel, kernel.shape[2], kernel.shape[3] * groups, groups)
    size = []
    for n, span, s, sides, e in zip(
        x.shape[1:3], effective_kernel_size(window, dilation), stride, pads, extra, strict=True
    ):
        size.append((n - 1) * s + span - sum(sides) + e)
        if size[-1] < 1:
            raise BadInput(f"padding {sides} leaves nothing of {(n - 1) * s + span} rows or columns")
    geometry = ConvGeometry(stride, pads, dilation, groups)
    return _compiled_conv_transpose(x, kernel, (size[0], size[1]), geometry, current())


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, geometry: ConvGeometry, backend: str) -> Array:
    return choose(
        x,
        kernel,
        cpu=partial(convolution.conv, geometry=geometry),
        default=partial(xla.xla_conv, geometry=geometry),
        backend=backend,
    )


def _conv_forward(x: Array, kernel: Array, geometry: ConvGeometry, backend: str) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, geometry, backend), (x, kernel)


def _conv_backward(geometry: ConvGeometry, backend: str, kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = kept
    dx = choose(
        dy,
        kernel,
        cpu=partial(convolution.conv_input_gradient, x_shape=x.shape, geometry=geometry),
        default=partial(xla.xla_conv_input_gradient, x_shape=x.shape, geometry=geometry),
        backend=backend,
    )
    return dx, _kernel_gradient(x, dy, kernel.shape, geometry, backend)


def _kernel_gradient(x: Array, dy: Array, kernel_shape: xla.Shape, geometry: ConvGeometry, backend: str) -> Array:
    return choose(
        x,
        dy,
        cpu=partial(convolution.conv_kernel_gradient, kernel_shape=kernel_shape, geometry=geometry),
        default=partial(xla.xla_conv_kernel_gradient, kernel_shape=kernel_shape, geometry=geometry),
        backend=backend,
    )


_conv.defvjp(_conv_forward, _conv_backward)
# Compiled as one, so that eager calls do not run tap by tap and equal layers are traced once.
_compiled_conv = jax.jit(_conv, static_argnums=(2, 3))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_transpose(x: Array, kernel: Array, size: Extent, geometry: ConvGeometry, backend: str) -> Array:
    return choose(
        x,
        kernel,
        cpu=partial(transposed.conv_transpose, size=size, geometry=geometry),
        default=partial(xla.xla_conv_transpose, size=size, geometry=geometry),
        backend=backend,
    )


def _transpose_forward(
    x: Array, kernel: Array, size: Extent, geometry: ConvGeometry, backend: str
) -> tuple[Array, tuple[Array, Array]]:
    return _conv_transpose(x, kernel, size, geometry, backend), (x, kernel)


def _transpose_backward(
    size: Extent, geometry: ConvGeometry, backend: str, kept: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    # The gradient of a transposed convolution is the strided convolution that it transposes, whose own kernel
    # gradient is the kernel's. XLA's transposes of the zero-stuffed call are up to 100 times slower on CPU.
    x, kernel = kept
    spans = effective_kernel_size((kernel.shape[0], kernel.shape[1]), geometry.dilation)
    ends = [
        (lo, (n - 1) * s + span - lo - out)
        for n, s, span, (lo, _), out in zip(x.shape[1:3], geometry.stride, spans, geometry.pads, size, strict=True)
    ]
    strided = geometry._replace(pads=(ends[0], ends[1]))
    swapped = kernel.swapaxes(2, 3)
    dkernel = _kernel_gradient(dy, x, swapped.shape, strided, backend)
    return _conv(dy, swapped, strided, backend), dkernel.swapaxes(2, 3)


_conv_transpose.defvjp(_transpose_forward, _transpose_backward)
_compiled_conv_transpose = jax.jit(_conv_transpose, static_argnums=(2, 3, 4))


def bilinear_kernel(size: int, channels: int, *, grouped: bool = False) -> Float[Array, "size size i o"]:
    """Return the kernel of a transposed convolution that upsamples each channel bilinearly.

    With ``f = (size + 1) // 2`` and centre ``c = f - 1`` (odd size) or ``f - 1/2`` (even), the weight is
    ``(1 - |i - c| / f) (1 - |j - c| / f)``. Use ``size = 2 s - s % 2`` for a factor ``s``. Caffe's own filler is off by
    half a pixel for even sizes with odd ``f``; FCN's net surgery, which this follows, is not.

    >>> bilinear_kernel(4, 1)[:, 0, 0, 0].tolist()
    [0.0625, 0.1875, 0.1875, 0.0625]

    Args:
      size: rows and columns.
      channels: channels in and out.
      grouped: return [size, size, channels, 1] for ``groups=channels``, instead of [size, size, channels, channels]
        with the weights on the diagonal.

    Reference:
      surgery.py of shelhamer/fcn.berkeleyvision.org.
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    line = 1 - np.abs(np.arange(size) - centre) / factor
    square = np.outer(line, line).astype(np.float32)[:, :, None, None]
    across = np.ones((channels, 1), np.float32) if grouped else np.eye(channels, dtype=np.float32)
    return jnp.asarray(square * across[None, None])


def caffe_crop(x: Float[Array, "b h w c"], size: Size, offset: Size) -> Float[Array, "b y x c"]:
    """Crop rows and columns from ``offset`` to ``offset + size``, as Caffe's ``Crop`` layer.

    >>> caffe_crop(jnp.arange(16.0).reshape(1, 4, 4, 1), 2, 1)[0, :, :, 0].tolist()
    [[5.0, 6.0], [9.0, 10.0]]

    Raises:
      BadInput: the crop exceeds the map.
    """
    (rows, columns), (top, left) = pair(size, "size"), pair(offset, "offset", least=0)
    if top + rows > x.shape[1] or left + columns > x.shape[2]:
        raise BadInput(f"a crop of {rows}x{columns} at {top}, {left} leaves a map of {x.shape[1]}x{x.shape[2]}")
    return x[:, top : top + rows, left : left + columns]


def pixel_shuffle(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b y x k"]:
    """Rearrange channels into pixels: channel ``k f^2 + i f + j`` becomes pixel (i, j) of the block of channel k.

    >>> pixel_shuffle(jnp.arange(4.0).reshape(1, 1, 1, 4), 2)[0, :, :, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]

    Raises:
      BadInput: the channels are not a multiple of ``factor**2``.

    Reference:
      Shi et al. 2016, arXiv:1609.05158, eq. 4; the order of torch's ``PixelShuffle``.
    """
    b, h, w, c = x.shape
    if factor < 1 or c % factor**2:
        raise BadInput(f"{c} channels do not split into blocks of {factor}x{factor}")
    blocks = x.reshape(b, h, w, c // factor**2, factor, factor)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(b, h * factor, w * factor, c // factor**2)


def pixel_unshuffle(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b y x k"]:
    """Rearrange blocks of pixels into channels, the inverse of ``pixel_shuffle``.

    >>> pixel_unshuffle(jnp.arange(4.0).reshape(1, 2, 2, 1), 2).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0]

    Raises:
      BadInput: a side is not a multiple of ``factor``.
    """
    b, h, w, c = x.shape
    if factor < 1 or h % factor or w % factor:
        raise BadInput(f"a map of {h}x{w} does not split into blocks of {factor}x{factor}")
    blocks = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // factor, w // factor, c * factor**2)


def icnr(initializer: Callable[..., Array], factor: int) -> Callable[..., Array]:
    """Return an initializer for the convolution before ``pixel_shuffle`` that avoids checkerboard artifacts.

    All ``factor**2`` pixels of a block share one kernel, so the output is constant within blocks.

    >>> kernel = icnr(jax.nn.initializers.lecun_normal(), 2)(jax.random.key(0), (3, 3, 8, 4))
    >>> bool((kernel[..., :1] == kernel).all())
    True

    Args:
      initializer: ``(key, shape, dtype) -> array`` for the kernel of one pixel.
      factor: factor of the ``pixel_shuffle`` that follows.

    Returns:
      ``(key, shape, dtype) -> array`` for HWIO shapes; raises BadInput unless O is a multiple of ``factor**2``.

    Reference:
      Aitken et al. 2017, arXiv:1707.02937.
    """

    def initialize(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> Array:
        if shape[-1] % factor**2:
            raise BadInput(f"{shape[-1]} channels do not split into blocks of {factor}x{factor}")
        one = initializer(key, (*shape[:-1], shape[-1] // factor**2), dtype)
        return jnp.repeat(one, factor**2, axis=-1)

    return initialize


def overlap(
    size: Size, window: Size, *, stride: Size, padding: Padding = 0, output_padding: Size = 0
) -> Int[np.ndarray, "h w"]:
    """Count the taps of a transposed convolution that fall on each output pixel.

    Away from the borders the count is constant if the stride divides the window; otherwise it shows the checkerboard
    pattern: 1, 2, 4 for a 3x3 window at stride 2.

    >>> overlap(2, 3, stride=2)[:, 0].tolist()
    [1, 1, 2, 1, 1]

    Args:
      size: of the input map.
      window: of the kernel.
      stride: as in ``conv_transpose``.
      padding: as in ``conv_transpose``.
      output_padding: as in ``conv_transpose``.

    Reference:
      Odena et al. 2016, doi:10.23915/distill.00003.
    """
    size, window, stride = pair(size, "size"), pair(window, "window"), pair(stride, "stride")
    extra = pair(output_padding, "output_padding", least=0)
    lines = []
    for n, k, s, (lo, hi), e in zip(
        size, window, stride, _transposed_pads(padding, window, stride), extra, strict=True
    ):
        line = np.zeros((n - 1) * s + k + e, np.int64)
        for i in range(n):
            line[i * s : i * s + k] += 1
        lines.append(line[lo : len(line) - hi])
    return np.outer(*lines)


def _transposed_pads(padding: Padding, spans: tuple[int, int], stride: tuple[int, int]) -> Pads:
    if padding == "SAME":
        total = [span - s for span, s in zip(spans, stride, strict=True)]
        if min(total) < 0:
            raise BadInput(f"a transposed window that reaches {spans} is too small for 'SAME' at stride {stride}")
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    return explicit_pads(padding, (0, 0), (1, 1), (1, 1), (1, 1))


def _check(x: Array, kernel: Array, channels_in: int, channels_out: int, groups: int) -> None:
    if x.dtype != kernel.dtype:
        raise BadInput(f"the map is {x.dtype} and the kernel {kernel.dtype}; cast one of them")
    if groups < 1 or channels_in % groups or channels_out % groups:
        raise BadInput(f"{channels_in} channels to {channels_out} do not split into {groups} groups")
    if x.shape[3] != channels_in:
        raise BadInput(
            f"the map has {x.shape[3]} channels; a kernel {kernel.shape}, groups {groups} takes {channels_in}"
        )
