"""Geometry between the pixels: rotation by any angle, elastic deformation. Reached through ``transforms``."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from jaxseg.data.records import Record, size
from jaxseg.data.transforms.moves import Points, move, refit_boxes, with_masks
from jaxseg.types import BATCH, Key


@dataclass(frozen=True)
class RandomRotate:
    """Turn about the centre by an angle uniform in +- ``degrees``; the size stays.

    With ``mirror`` the image continues beyond its border as its mirror image, maps included; without, what comes from
    outside is black, void and invalid.

    >>> rng = np.random.default_rng(0)
    >>> RandomRotate(10)({"label": np.zeros((4, 6), np.uint8)}, rng)["label"].shape
    (4, 6)
    """

    degrees: float | int
    mirror: bool = False

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record, turned counter-clockwise where the angle is positive."""
        return rotate(record, float(rng.uniform(-self.degrees, self.degrees)), mirror=self.mirror)


@dataclass(frozen=True)
class Elastic:
    """Deform elastically, as U-Net does (Ronneberger et al. 2015, section 3.1).

    Displacements, Gaussian with ``std`` pixels in each axis, stand on a coarse ``grid`` x ``grid`` that spans the image
    from border to border; bicubic (natural cubic spline) interpolation gives every pixel's. Normals and depth keep
    their values at the displaced places. ``mirror`` as in :class:`RandomRotate`: for label maps; an object near the
    border may then be seen twice, and its box holds both.

    >>> rng = np.random.default_rng(0)
    >>> Elastic(std=2)({"label": np.zeros((4, 6), np.uint8)}, rng)["label"].shape
    (4, 6)
    """

    grid: int = 3
    std: float | int = 10.0
    mirror: bool = True

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record, deformed; its size stays."""
        height, width = size(record)
        coarse = rng.normal(0.0, self.std, (2, self.grid, self.grid))
        rows, columns = spline_basis(self.grid, height), spline_basis(self.grid, width)
        dy, dx = rows @ coarse @ columns.T
        y = np.arange(height)[:, None] + dy
        x = np.arange(width)[None, :] + dx
        return warp(record, y, x, _inverse_by_search(y, x), mirror=self.mirror)


def rotate(record: Record, degrees: float | int, *, mirror: bool = False) -> Record:
    """Turn the record counter-clockwise about the centre of the image; normals turn with it.

    >>> rotate({"label": np.asarray([[1, 2], [3, 4]])}, 90)["label"].tolist()
    [[2, 4], [1, 3]]
    """
    height, width = size(record)
    # Exact at quarter turns: cos and sin there are 0 and +-1 to the last bit only after rounding.
    cos, sin = (round(float(f(np.deg2rad(degrees))), 15) for f in (np.cos, np.sin))
    cy, cx = height / 2, width / 2

    def forward(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return cos * (x - cx) + sin * (y - cy) + cx, -sin * (x - cx) + cos * (y - cy) + cy

    v, u = np.mgrid[:height, :width] + 0.5
    x = cos * (u - cx) - sin * (v - cy) + cx - 0.5
    y = sin * (u - cx) + cos * (v - cy) + cy - 0.5

    def turned(normal: np.ndarray) -> np.ndarray:
        nx, ny, nz = np.moveaxis(normal, -1, 0)
        return np.stack([cos * nx + sin * ny, -sin * nx + cos * ny, nz], -1).astype(np.float32)

    return warp(record, y, x, forward, mirror=mirror, directions=turned)


def warp(
    record: Record,
    y: np.ndarray,
    x: np.ndarray,
    forward: Points,
    *,
    mirror: bool,
    directions: Callable[[np.ndarray], np.ndarray] = lambda array: array,
) -> Record:
    """Resample the record so that pixel (i, j) of the result shows the source's pixel centre (y[i, j], x[i, j]).

    Args:
      record: any record.
      y: f64[h w], rows of the source, pixel centres at whole numbers.
      x: f64[h w], columns likewise.
      forward: where points of the source (x, y in pixel edges, arrays) go in the result.
      mirror: whether what lies outside the source is its mirror image, or black, void and invalid.
      directions: turns unit vectors [h w 3] that have been resampled.

    >>> y, x = np.mgrid[:2, :2].astype(float)
    >>> moved = warp({"label": np.asarray([[1, 2], [3, 4]])}, y, x + 1, lambda x, y: (x - 1, y), mirror=False)
    >>> moved["label"].tolist()
    [[2, 255], [4, 255]]
    """
    height, width = size(record)
    outside = np.zeros(y.shape, bool)
    if mirror:
        y, x = _reflect(y, height), _reflect(x, width)
    else:
        outside = (y < -0.5) | (y > height - 0.5) | (x < -0.5) | (x > width - 0.5)
    nearest = (np.clip(np.rint(y), 0, height - 1) * width + np.clip(np.rint(x), 0, width - 1)).astype(np.intp)

    def maps(row: Key, source: np.ndarray) -> np.ndarray:
        image = row is BATCH["image"]
        moved = _bilinear(source, y, x) if image else source.reshape(-1, *source.shape[2:])[nearest]
        moved[outside] = row.fill
        return moved

    done = move(
        record,
        maps=maps,
        boxes=lambda array: _moved_boxes(array, forward, height, width),
        points=lambda array: _moved_keypoints(array, forward, height, width),
        directions=directions,
    )
    return refit_boxes(with_masks(done, ~outside) if outside.any() else done, record)


@functools.lru_cache(maxsize=64)
def spline_basis(knots: int, length: int) -> np.ndarray:
    """Return f64[length knots], a natural cubic spline through values spread from the first pixel to the last.

    >>> spline_basis(3, 5)[[0, 2, 4]].round(6).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    spline = CubicSpline(np.arange(knots), np.eye(knots), bc_type="natural")
    return spline(np.linspace(0, knots - 1, length))


def _bilinear(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    y0 = np.minimum(y.astype(np.intp), max(height - 2, 0))
    x0 = np.minimum(x.astype(np.intp), max(width - 2, 0))
    fy, fx = (y - y0).astype(np.float32)[..., None], (x - x0).astype(np.float32)[..., None]
    flat = image.reshape(height * width, -1)
    down, right = (width if height > 1 else 0), (1 if width > 1 else 0)
    corner = y0 * width + x0
    top = flat[corner] * (1 - fx) + flat[corner + right] * fx
    bottom = flat[corner + down] * (1 - fx) + flat[corner + down + right] * fx
    between = top * (1 - fy) + bottom * fy
    return between.astype(image.dtype) if image.dtype.kind == "f" else np.rint(between).astype(image.dtype)


def _reflect(position: np.ndarray, length: int) -> np.ndarray:
    if length == 1:
        return np.zeros_like(position)
    period = 2 * (length - 1)
    position = np.abs(position) % period
    return np.minimum(position, period - position)


def _inverse_by_search(y: np.ndarray, x: np.ndarray) -> Points:
    """Return the forward map of a warp that is known by its inverse, by fixed-point iteration."""
    height, width = y.shape

    def forward(px: np.ndarray, py: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, v = px - 0.5, py - 0.5
        for _ in range(20):
            i = np.clip(np.rint(v), 0, height - 1).astype(np.intp)
            j = np.clip(np.rint(u), 0, width - 1).astype(np.intp)
            u, v = u + 0.7 * (px - 0.5 - (x[i, j] + u - j)), v + 0.7 * (py - 0.5 - (y[i, j] + v - i))
        return u + 0.5, v + 0.5

    return forward


def _moved_boxes(boxes: np.ndarray, forward: Points, height: int, width: int) -> np.ndarray:
    """Return the tightest upright boxes around the moved outlines, clipped to the image."""
    if not boxes.size:
        return boxes
    t = np.linspace(0, 1, 9)
    x0, y0, x1, y1 = (boxes[..., i, None] for i in range(4))
    along_x, along_y = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t
    full = np.ones_like(t)
    x = np.concatenate([along_x, along_x, x0 * full, x1 * full], -1)
    y = np.concatenate([y0 * full, y1 * full, along_y, along_y], -1)
    x, y = forward(x, y)
    x, y = np.clip(x, 0, width), np.clip(y, 0, height)
    return np.stack([x.min(-1), y.min(-1), x.max(-1), y.max(-1)], -1).astype(np.float32)


def _moved_keypoints(keypoints: np.ndarray, forward: Points, height: int, width: int) -> np.ndarray:
    x, y = forward(keypoints[..., 0], keypoints[..., 1])
    there = (keypoints[..., 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    moved = np.stack([x, y, keypoints[..., 2]], -1)
    return np.where(there[..., None], moved, 0).astype(np.float32)
