"""Anchors of a feature pyramid: torchvision's (rounded, strides from sizes), detectron2's (exact, with an offset),
those of Faster R-CNN's paper; and SSD's default boxes.

All sizes are static. Anchors come level by level, in each level row by row, in each cell in the order of the base
anchors: as a head's output ``[y x r * q]`` reads when it is reshaped to ``[y x r, q]``.
"""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32

from jaxseg.errors import BadInput

Grid = tuple[int, int]
"""Rows and columns of a feature map."""


def torchvision_anchors(
    image_size: Grid,
    grids: Sequence[Grid],
    sizes: Sequence[Sequence[int | float]],
    ratios: Sequence[Sequence[int | float]],
) -> tuple[Float32[Array, "a 4"], tuple[int, ...]]:
    """Return the anchors of a whole pyramid as torchvision's ``AnchorGenerator`` places them.

    Corners of the base anchors are rounded to whole pixels; a level's stride is ``image_size // grid``.

    Args:
      image_size: rows and columns of the padded image.
      grids: of each level.
      sizes: of each level: roots of the anchors' areas in pixels.
      ratios: of each level: heights over widths.

    Returns:
      The anchors, and how many of them each level has.

    Raises:
      BadInput: the levels of grids, sizes and ratios are not equally many.

    >>> anchors, counts = torchvision_anchors((64, 64), [(2, 2), (1, 1)], [(32,), (64,)], [(1.0,), (0.5, 2.0)])
    >>> counts
    (4, 2)
    >>> anchors[1].tolist(), anchors[4].tolist()
    ([16.0, -16.0, 48.0, 16.0], [-45.0, -23.0, 45.0, 23.0])
    """
    _check_levels({"grids": grids, "sizes": sizes, "ratios": ratios})
    bases = [rounded_base_anchors(s, r) for s, r in zip(sizes, ratios, strict=True)]
    strides = [(image_size[0] // y, image_size[1] // x) for y, x in grids]
    return _pyramid(bases, grids, strides, 0.0)


def detectron2_anchors(
    grids: Sequence[Grid],
    strides: Sequence[int],
    sizes: Sequence[Sequence[int | float]],
    ratios: Sequence[Sequence[int | float]],
    *,
    offset: int | float = 0.0,
) -> tuple[Float32[Array, "a 4"], tuple[int, ...]]:
    """Return the anchors of a whole pyramid as detectron2's ``DefaultAnchorGenerator`` places them.

    Args:
      grids: of each level.
      strides: of each level, pixels.
      sizes: of each level: roots of the anchors' areas in pixels.
      ratios: of each level: heights over widths.
      offset: of the first centre, in strides: 0 at the corner of the image, 0.5 in the middle of the first cell.

    Returns:
      The anchors, and how many of them each level has.

    Raises:
      BadInput: the levels of grids, strides, sizes and ratios are not equally many.

    >>> anchors, counts = detectron2_anchors([(1, 2)], [16], [(32,)], [(1.0,)], offset=0.5)
    >>> anchors.tolist(), counts
    ([[-8.0, -8.0, 24.0, 24.0], [8.0, -8.0, 40.0, 24.0]], (2,))
    """
    _check_levels({"grids": grids, "strides": strides, "sizes": sizes, "ratios": ratios})
    bases = [exact_base_anchors(s, r) for s, r in zip(sizes, ratios, strict=True)]
    return _pyramid(bases, grids, [(s, s) for s in strides], offset)


def py_faster_rcnn_anchors(
    grids: Sequence[Grid],
    strides: Sequence[int],
    sizes: Sequence[Sequence[int | float]],
    ratios: Sequence[Sequence[int | float]],
) -> tuple[Float32[Array, "a 4"], tuple[int, ...]]:
    """Return the anchors of Faster R-CNN's paper, as its authors' Python code places them, as half-open boxes.

    Args:
      grids: of each level.
      strides: of each level, pixels.
      sizes: of each level: roots of the anchors' areas in pixels; those of the paper are 128, 256 and 512.
      ratios: of each level: heights over widths.

    Returns:
      The anchors, and how many of them each level has.

    Raises:
      BadInput: the levels of grids, strides, sizes and ratios are not equally many.

    >>> py_faster_rcnn_anchors([(1, 2)], [16], [(128,)], [(1.0,)])[0].tolist()
    [[-56.0, -56.0, 72.0, 72.0], [-40.0, -56.0, 88.0, 72.0]]
    """
    _check_levels({"grids": grids, "strides": strides, "sizes": sizes, "ratios": ratios})
    bases = [py_faster_rcnn_base_anchors(s, r) for s, r in zip(sizes, ratios, strict=True)]
    return _pyramid(bases, grids, [(s, s) for s in strides], 0.0)


def py_faster_rcnn_base_anchors(
    sizes: Sequence[int | float], ratios: Sequence[int | float]
) -> Float32[np.ndarray, "r 4"]:
    """Return py-faster-rcnn's anchors of the first cell: for each ratio each size, half-open.

    A window of 16 by 16 pixels takes each ratio, its sides rounded to whole pixels (23x12, 16x16, 11x22), and then each
    size. The authors' corners are its first and last pixels; ours are one further at the end.

    >>> py_faster_rcnn_base_anchors((128,), (0.5,)).tolist()  # theirs: -84 -40 99 55
    [[-84.0, -40.0, 100.0, 56.0]]

    Reference: py-faster-rcnn, ``generate_anchors``.
    """
    side, found = 16, []
    for ratio in ratios:
        w = round(math.sqrt(side * side / ratio))
        h = round(w * ratio)
        for size in sizes:
            half_w, half_h = (w * size / side - 1) / 2, (h * size / side - 1) / 2
            centre = (side - 1) / 2
            found.append([centre - half_w, centre - half_h, centre + half_w + 1, centre + half_h + 1])
    return np.asarray(found, np.float32).reshape(-1, 4)


def default_boxes(
    image_size: Grid,
    grids: Sequence[Grid],
    shapes: Sequence[Sequence[tuple[float, float]]],
    steps: Sequence[int | float] = (),
) -> tuple[Float32[Array, "a 4"], tuple[int, ...]]:
    """Return SSD's default boxes: in every cell of a level the shapes of that level, around the cell's centre.

    Args:
      image_size: rows and columns of the image.
      grids: of each level.
      shapes: of each level: widths and heights as parts of the image's.
      steps: pixels between centres on each level, the first at half a step; () divides the image by the grid.

    Returns:
      The boxes, pixels, which may reach beyond the image; and how many of them each level has.

    Raises:
      BadInput: the levels of grids, shapes and, if given, steps are not equally many.

    >>> boxes, counts = default_boxes((100, 200), [(1, 2)], [[(0.5, 0.5)]])
    >>> boxes.tolist(), counts
    ([[0.0, 25.0, 100.0, 75.0], [100.0, 25.0, 200.0, 75.0]], (2,))

    Reference:
      Liu et al. 2016, arXiv:1512.02325, section 2.2.
    """
    _check_levels({"grids": grids, "shapes": shapes, **({"steps": steps} if steps else {})})
    height, width = image_size
    levels = []
    for i, (grid, own) in enumerate(zip(grids, shapes, strict=True)):
        size = np.asarray(own, np.float64) * [width, height]
        base = np.concatenate([-size / 2, size / 2], axis=1)
        step = (steps[i], steps[i]) if steps else (height / grid[0], width / grid[1])
        y, x = ((np.arange(n) + 0.5) * s for n, s in zip(grid, step, strict=True))
        centres = np.stack([*np.meshgrid(x, y)] * 2, axis=-1)
        levels.append((centres[:, :, None] + base).reshape(-1, 4).astype(np.float32))
    return jnp.asarray(np.concatenate(levels)), tuple(len(level) for level in levels)


def rounded_base_anchors(sizes: Sequence[int | float], ratios: Sequence[int | float]) -> Float32[np.ndarray, "r 4"]:
    """Return torchvision's anchors around the origin: for each ratio each size, corners rounded (half to even).

    >>> rounded_base_anchors((32,), (0.5, 1.0)).tolist()
    [[-23.0, -11.0, 23.0, 11.0], [-16.0, -16.0, 16.0, 16.0]]
    """
    h_ratios = np.sqrt(np.asarray(ratios, np.float32))
    w_ratios = np.float32(1) / h_ratios
    scales = np.asarray(sizes, np.float32)
    w, h = ((r[:, None] * scales[None, :]).reshape(-1) for r in (w_ratios, h_ratios))
    return np.round(np.stack([-w, -h, w, h], axis=1) / np.float32(2))


def exact_base_anchors(sizes: Sequence[int | float], ratios: Sequence[int | float]) -> Float32[np.ndarray, "r 4"]:
    """Return detectron2's anchors around the origin: for each size each ratio, of the size's exact area.

    >>> exact_base_anchors((32,), (1.0, 4.0)).tolist()
    [[-16.0, -16.0, 16.0, 16.0], [-8.0, -32.0, 8.0, 32.0]]
    """
    found = []
    for size in sizes:
        for ratio in ratios:
            w = math.sqrt(size**2 / ratio)
            h = ratio * w
            found.append([-w / 2, -h / 2, w / 2, h / 2])
    return np.asarray(found, np.float32).reshape(-1, 4)


def grid_anchors(
    base: Float[np.ndarray, "r 4"], grid: Grid, stride: Grid, *, offset: int | float = 0.0
) -> Float32[Array, "a 4"]:
    """Return base anchors moved to every cell of a grid.

    Args:
      base: anchors around the origin.
      grid: rows and columns.
      stride: pixels between rows and between columns.
      offset: of the first cell's centre, in strides.

    >>> grid_anchors(np.array([[-1.0, -1.0, 1.0, 1.0]]), (2, 1), (8, 8)).tolist()
    [[-1.0, -1.0, 1.0, 1.0], [-1.0, 7.0, 1.0, 9.0]]
    """
    y, x = (jnp.arange(n, dtype=jnp.float32) * s + offset * s for n, s in zip(grid, stride, strict=True))
    shape = (grid[0], grid[1], 1)
    rows, cols = jnp.broadcast_to(y[:, None, None], shape), jnp.broadcast_to(x[None, :, None], shape)
    shifts = jnp.stack([cols, rows, cols, rows], axis=-1)
    return (shifts + jnp.asarray(base, jnp.float32)[None, None]).reshape(-1, 4)


def _pyramid(
    bases: list[np.ndarray], grids: Sequence[Grid], strides: Sequence[Grid], offset: float
) -> tuple[Array, tuple[int, ...]]:
    levels = [grid_anchors(b, g, s, offset=offset) for b, g, s in zip(bases, grids, strides, strict=True)]
    return jnp.concatenate(levels), tuple(len(level) for level in levels)


def _check_levels(by_name: Mapping[str, Sequence[object]]) -> None:
    counts = {name: len(values) for name, values in by_name.items()}
    if len(set(counts.values())) > 1 or not min(counts.values()):
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise BadInput(f"a pyramid's levels must be equally many, and at least one: {told}")
