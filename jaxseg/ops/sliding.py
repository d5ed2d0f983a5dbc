"""Evaluate a window classifier densely: window by window, or by shift-and-stitch.

A network of valid layers with total stride ``s`` classifies every ``s``-th window of a larger map at once. The other
windows follow by running it on the map shifted by 0 .. ``s - 1`` pixels along both axes (shift-and-stitch), or in one
pass with its strides traded for dilation (Long, Shelhamer and Darrell 2015, arXiv:1411.4038, sec. 3.2), where a pool
becomes ``jaxseg.ops.pool.max_filter``. All of them give the same numbers.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from jaxseg.errors import BadInput
from jaxseg.ops.window import Size, pair


def patch_by_patch(
    classify: Callable[[Array], Array], x: Float[Array, "b h w c"], window: Size, *, batch: int = 64
) -> Float[Array, "b y x k"]:
    """Return the scores of every window of the map, each computed by itself.

    >>> patch_by_patch(lambda patch: patch.sum((1, 2)), jnp.ones((1, 4, 5, 1)), 3).shape
    (1, 2, 3, 1)

    Args:
      classify: ``[n rows columns c] -> [n k]``.
      x: maps.
      window: rows and columns of the patches.
      batch: patches per call; memory grows with it.

    Returns:
      ``h - rows + 1`` by ``w - columns + 1`` scores; (i, j) belongs to the window with top left pixel (i, j).

    Raises:
      BadInput: the window does not fit.
    """
    rows, columns = pair(window, "window")
    b, c = x.shape[0], x.shape[3]
    places = _places(x, (rows, columns))
    count = b * places[0] * places[1]
    batch = min(batch, count)

    def cut(place: Array) -> Array:
        of, i, j = jnp.unravel_index(place, (b, *places))
        return lax.dynamic_slice(x, (of, i, j, jnp.zeros_like(i)), (1, rows, columns, c))[0]

    turns = -(-count // batch)
    all_places = jnp.minimum(jnp.arange(turns * batch), count - 1).reshape(turns, batch)
    scores = lax.map(lambda some: classify(jax.vmap(cut)(some)), all_places)
    return scores.reshape(turns * batch, -1)[:count].reshape(b, *places, -1)


def shift_and_stitch(
    net: Callable[[Array], Array], x: Float[Array, "b h w c"], window: Size, stride: int
) -> Float[Array, "b y x k"]:
    """Return the scores of every window from ``stride**2`` shifted runs of a strided network, interleaved.

    >>> net = lambda x: x[:, : x.shape[1] - 1 : 2, : x.shape[2] - 1 : 2]  # windows of 2x2 at stride 2
    >>> shift_and_stitch(net, jnp.arange(9.0).reshape(1, 3, 3, 1), 2, 2)[0, :, :, 0].tolist()
    [[0.0, 1.0], [3.0, 4.0]]

    Args:
      net: valid layers, ``[b h w c] -> [b y x k]`` with ``(h - rows) // stride + 1`` rows of scores.
      x: maps.
      window: rows and columns seen by one score.
      stride: pixels between two scores of one run.

    Returns:
      As ``patch_by_patch``.

    Raises:
      BadInput: the window does not fit.
    """
    size = pair(window, "window")
    b, _, _, c = x.shape
    places = _places(x, size)
    counts = [-(-n // stride) for n in places]
    spans = [(n - 1) * stride + k for n, k in zip(counts, size, strict=True)]
    ends = [(0, span + stride - 1 - n) for span, n in zip(spans, x.shape[1:3], strict=True)]
    padded = jnp.pad(x, ((0, 0), *ends, (0, 0)))

    def run(shift: Array) -> Array:
        start = (jnp.zeros_like(shift), shift // stride, shift % stride, jnp.zeros_like(shift))
        return net(lax.dynamic_slice(padded, start, (b, *spans, c)))

    runs = lax.map(run, jnp.arange(stride**2))
    k = runs.shape[-1]
    whole = runs.reshape(stride, stride, b, *counts, k).transpose(2, 3, 0, 4, 1, 5)
    return whole.reshape(b, counts[0] * stride, counts[1] * stride, k)[:, : places[0], : places[1]]


def dense_to_conv(weight: Float[Array, "n o"], size: Size, *, order: str = "hwc") -> Float[Array, "h w i o"]:
    """Reshape the weight of a dense layer on a flattened map into the kernel of the equivalent convolution.

    >>> dense_to_conv(jnp.ones((18, 5)), 3).shape
    (3, 3, 2, 5)

    Args:
      weight: inputs by outputs (torch and Caffe store the transpose).
      size: rows and columns of the flattened map.
      order: flattening order: "hwc" as in NHWC arrays, "chw" as in torch and Caffe.

    Raises:
      BadInput: unknown order, or the inputs do not fill such a map.
    """
    rows, columns = pair(size, "size")
    inputs, outputs = weight.shape
    if inputs % (rows * columns):
        raise BadInput(f"{inputs} inputs are no flattened map of {rows}x{columns}")
    channels = inputs // (rows * columns)
    if order == "hwc":
        return weight.reshape(rows, columns, channels, outputs)
    if order == "chw":
        return weight.reshape(channels, rows, columns, outputs).transpose(1, 2, 0, 3)
    raise BadInput(f"flattened in order {order!r}; there are 'hwc' (NHWC) and 'chw' (torch, Caffe)")


def conv_to_dense(kernel: Float[Array, "h w i o"], *, order: str = "hwc") -> Float[Array, "n o"]:
    """Flatten a convolution's kernel into the weight of a dense layer, the inverse of ``dense_to_conv``.

    >>> conv_to_dense(jnp.ones((3, 3, 2, 5))).shape
    (18, 5)

    Raises:
      BadInput: ``order`` is neither "hwc" nor "chw".
    """
    if order == "hwc":
        return kernel.reshape(-1, kernel.shape[3])
    if order == "chw":
        return kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[3])
    raise BadInput(f"flattened in order {order!r}; there are 'hwc' (NHWC) and 'chw' (torch, Caffe)")


def _places(x: Array, window: tuple[int, int]) -> tuple[int, int]:
    rows, columns = (n - k + 1 for n, k in zip(x.shape[1:3], window, strict=True))
    if rows < 1 or columns < 1:
        raise BadInput(f"a window of {window[0]}x{window[1]} does not fit a map of {x.shape[1]}x{x.shape[2]}")
    return rows, columns
