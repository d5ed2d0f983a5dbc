"""RoIAlign on one map or on the levels of a pyramid, exact for any sampling ratio (He et al. 2017, arXiv:1703.06870).

Every box reads its own level only. Boxes and maps carry a batch axis: a batch is one call, not a ``vmap``. The forward
pass and the gradient have a form for CPUs, which loops over rows of features, and a vectorised one for accelerators,
see :mod:`jaxseg.ops.roi_forms`; the compiler takes the one of its platform. There is no gradient for the boxes.
"""

import math
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, core, lax
from jaxtyping import Bool, Float, Int

from jaxseg.errors import BadInput
from jaxseg.ops import roi_forms
from jaxseg.ops.backend import choose, current
from jaxseg.ops.roi_samples import Axis, cut, sample_axis, span_axis
from jaxseg.ops.window import Size, pair

UNMERGED = 2
"""Up to so many samples a side each sample is read by itself; above, samples that touch the same cells are merged."""


def roi_align(
    maps: Sequence[Float[Array, "b _ _ c"]],
    boxes: Float[Array, "b p 4"],
    valid: Bool[Array, "b p"] | None = None,
    *,
    size: Size,
    strides: Sequence[float | int],
    sampling_ratio: int = 2,
    aligned: bool = False,
    levels: Int[Array, "b p"] | None = None,
) -> Float[Array, "b p y x c"]:
    """Return the mean of bilinear samples in each of ``size`` bins of every box.

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> roi_align([x], jnp.asarray([[[0.0, 0.0, 4.0, 4.0]]]), size=2, strides=[1], aligned=True)[0, 0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]

    Args:
      maps: the levels of a pyramid, finest first; one map is a pyramid of one level.
      boxes: ``x0 y0 x1 y1``, pixels of the image.
      valid: which slots hold a box; the others give zeros, and so do boxes with a coordinate that is not finite.
      size: rows and columns of bins.
      strides: pixels to a cell of each map.
      sampling_ratio: samples along each side of a bin; 0 takes as many as the bin has cells, rounded up.
      aligned: subtract half a cell (detectron2's ROIAlignV2); if False, do not, but take boxes to be at least one cell
        wide and high (the paper's code, torchvision's detectors).
      levels: of each box, from 0; by default :func:`pyramid_levels` with the finest stride's level.

    Raises:
      BadInput: no map, another number of strides than of maps, or a negative sampling ratio.
    """
    if not maps or len(maps) != len(strides):
        raise BadInput(
            f"{len(maps)} maps and {len(strides)} strides; RoIAlign needs at least one map and a stride for each"
        )
    if sampling_ratio < 0:
        raise BadInput(f"a sampling ratio of {sampling_ratio}; it is 0 (adaptive) or more")
    if levels is None and len(maps) > 1:
        levels = pyramid_levels(boxes, len(maps), first_level=round(math.log2(strides[0])))
    finite = jnp.isfinite(boxes).all(-1)
    boxes = jnp.where(finite[..., None], boxes.astype(jnp.float32), 0)
    level = (
        jnp.zeros(finite.shape, jnp.int32) if levels is None else jnp.clip(levels.astype(jnp.int32), 0, len(maps) - 1)
    )
    level = jnp.where(finite if valid is None else finite & valid, level, len(maps))
    shapes = tuple(m.shape for m in maps)
    how = _How(
        pair(size, "size"), tuple(map(float, strides)), sampling_ratio, aligned, shapes, maps[0].dtype, current()
    )
    return _align(how, tuple(maps), lax.stop_gradient(boxes), level)


def pyramid_levels(
    boxes: Float[Array, "b p 4"],
    count: int,
    *,
    first_level: int = 2,
    canonical_size: float | int = 224.0,
    canonical_level: int = 4,
    epsilon: float = 1e-6,
) -> Int[Array, "b p"]:
    """Return for each box the index of its level: ``floor(canonical_level + log2(side / canonical_size) + epsilon)``.

    The side is the square root of the area. Equal to torchvision's LevelMapper; detectron2 has an epsilon of nearly 0.

    >>> boxes = jnp.asarray([[[0.0, 0.0, 224.0, 224.0], [0.0, 0.0, 200.0, 200.0], [0.0, 0.0, 2.0, 2.0]]])
    >>> pyramid_levels(boxes, 4).tolist()
    [[2, 1, 0]]

    Args:
      boxes: ``x0 y0 x1 y1``, pixels of the image.
      count: of levels; boxes beyond take the nearest, boxes without area or with NaN the finest.
      first_level: of the finest map, whose stride is ``2 ** first_level``.
      canonical_size: side of a box at the canonical level, pixels.
      canonical_level: level of boxes of the canonical size.
      epsilon: by which boxes may fall short of the next level.

    Reference: Lin et al. 2017, arXiv:1612.03144, equation 1.
    """
    x0, y0, x1, y1 = (boxes[..., i] for i in range(4))
    side = jnp.sqrt((x1 - x0) * (y1 - y0))
    level = jnp.zeros(side.shape, jnp.int32)
    for above in range(first_level + 1, first_level + count):
        least = np.float32(canonical_size * 2.0 ** (above - canonical_level - epsilon))
        level = level + (side >= least).astype(jnp.int32)
    return level


class _How(NamedTuple):
    """Static arguments."""

    size: tuple[int, int]
    strides: tuple[float, ...]
    sampling_ratio: int
    aligned: bool
    shapes: tuple[tuple[Any, ...], ...]
    dtype: np.dtype
    backend: str = "auto"


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _align(how: _How, maps: tuple[Array, ...], boxes: Array, level: Array) -> Array:
    if how.sampling_ratio in range(1, UNMERGED + 1):
        cpu, default = roi_forms.samples_by_loop, roi_forms.samples_at_once
    else:
        cpu, default = roi_forms.spans_by_loop, roi_forms.spans_at_once
    out = choose(maps, *_axes(how, boxes, level), level, cpu=cpu, default=default, backend=how.backend)
    return out.reshape(*boxes.shape[:2], *how.size, out.shape[-1])


def _align_forward(how: _How, maps: tuple[Array, ...], boxes: Array, level: Array) -> tuple[Array, tuple[Array, Array]]:
    return _align(how, maps, boxes, level), (boxes, level)


def _align_backward(how: _How, kept: tuple[Array, Array], dy: Array) -> tuple[tuple[Array, ...], None, None]:
    boxes, level = kept
    if how.sampling_ratio in range(1, UNMERGED + 1):
        cpu, default = roi_forms.samples_gradient_by_loop, roi_forms.samples_gradient_at_once
    else:
        cpu, default = roi_forms.spans_gradient_by_loop, roi_forms.spans_gradient_at_once
    dy = dy.reshape(*boxes.shape[:2], how.size[0] * how.size[1], dy.shape[-1])
    cpu, default = partial(cpu, how.shapes), partial(default, how.shapes)
    dx = choose(dy, *_axes(how, boxes, level), level, cpu=cpu, default=default, backend=how.backend)
    return tuple(d.astype(how.dtype) for d in dx), None, None


_align.defvjp(_align_forward, _align_backward)


def _axes(how: _How, boxes: Array, level: Array) -> tuple[Axis, Axis]:
    """Return the positions that every bin reads along rows and along columns, in cells of its box's level."""
    own = jnp.minimum(level, len(how.shapes) - 1)
    scale = jnp.asarray([1 / stride for stride in how.strides], jnp.float32)[own]
    axes = []
    for axis, (first, last) in enumerate(((1, 3), (0, 2))):
        lengths = [shape[1 + axis] for shape in how.shapes]
        length = jnp.stack([jnp.asarray(n, jnp.int32) for n in lengths])[own]
        lo, hi = (boxes[..., side] * scale for side in (first, last))
        if how.sampling_ratio in range(1, UNMERGED + 1):
            start, bin_size = cut(lo, hi, how.size[axis], aligned=how.aligned)
            axes.append(sample_axis(start, bin_size, length, how.size[axis], how.sampling_ratio))
        else:
            ratio, longest = how.sampling_ratio, reduce(core.max_dim, lengths)
            axes.append(span_axis(lo, hi, length, how.size[axis], ratio, aligned=how.aligned, longest=longest))
    return axes[0], axes[1]
