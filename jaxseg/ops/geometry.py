"""Geometry of depth maps, without JAX: surface normals of a depth map by fitting planes.

Camera axes are x right, y down, z forward; pixel (i, j) has its centre at row i + 1/2, column j + 1/2.
"""

from dataclasses import dataclass

import numpy as np

from jaxseg.errors import BadInput


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera: the point (x, y, z) is seen at column ``fx x / z + cx``, row ``fy y / z + cy``.

    Attributes:
      fx, fy: focal lengths in pixels.
      cx, cy: principal point in pixels, from the outer corner of the first pixel. Calibrations that count from its
        centre, as NYU's toolbox, have 1/2 less.

    >>> Intrinsics(100.0, 100.0, 32.0, 24.0).scaled(0.5)
    Intrinsics(fx=50.0, fy=50.0, cx=16.0, cy=12.0)
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def scaled(self, factor: float) -> "Intrinsics":
        """Return the camera of the image at ``factor`` times its size."""
        return Intrinsics(factor * self.fx, factor * self.fy, factor * self.cx, factor * self.cy)

    def rays(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return x / z of each column f64[w], and y / z of each row f64[h].

        >>> Intrinsics(1.0, 1.0, 1.0, 1.0).rays(2, 2)[0].tolist()
        [-0.5, 0.5]
        """
        return (np.arange(width) + 0.5 - self.cx) / self.fx, (np.arange(height) + 0.5 - self.cy) / self.fy


NYU_CAMERA = Intrinsics(518.8579, 519.4696, 325.5824, 253.7362)
"""The colour camera of NYU Depth v2 at 640x480."""

SEVEN_SCENES_CAMERA = Intrinsics(585.0, 585.0, 320.0, 240.0)
"""The cameras of 7-Scenes at 640x480."""


def normals_from_depth(
    depth: np.ndarray,
    camera: Intrinsics,
    *,
    known: np.ndarray | None = None,
    radius: int = 2,
    tolerance: float = 0.05,
) -> tuple[np.ndarray, np.ndarray]:
    """Return unit normals f32[h w 3] that face the camera, and where they are known, bool[h w].

    The inverse depth of a plane is linear in the pixel's coordinates, so that a linear fit of it is exact for planes;
    its three coefficients are the normal up to length.

    Args:
      depth: metres along the optical axis [h w].
      camera: of this image at this size.
      known: where depth is known; by default where it is positive and finite.
      radius: of the square window, which is cut off at edges: neighbours whose depth differs by more than
        ``tolerance`` do not count. A sensor's noise asks for a larger one.
      tolerance: as a fraction of the pixel's own depth.

    Raises:
      BadInput: the map has no known pixel.

    >>> wall = np.full((8, 8), 2.0)
    >>> normals_from_depth(wall, Intrinsics(8.0, 8.0, 4.0, 4.0))[0][4, 4, 2].round(3).item()
    -1.0
    """
    depth = np.asarray(depth, np.float64)
    there = np.isfinite(depth) & (depth > 0)
    there &= True if known is None else np.asarray(known, bool)
    if not there.any():
        raise BadInput("a depth map without any known pixel has no normals")
    height, width = depth.shape
    x, y = camera.rays(height, width)
    inverse = 1 / np.where(there, depth, 1.0)
    # sums over the window of the products of (x, y, 1, inverse depth), seen from its centre so that they stay small
    sums = np.zeros((9, height, width))
    x, y = np.broadcast_to(x, depth.shape), np.broadcast_to(y[:, None], depth.shape)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            here, away = _windows(height, dy), _windows(width, dx)
            to, of = (here[0], away[0]), (here[1], away[1])
            close = there[to] & there[of] & (np.abs(depth[of] - depth[to]) <= tolerance * depth[to])
            a, b, d = x[of] - x[to], y[of] - y[to], inverse[of] - inverse[to]
            one = np.ones_like(a)
            products = (a * a, a * b, a, b * b, b, one, a * d, b * d, d)
            for total, product in zip(sums, products, strict=True):
                total[to] += np.where(close, product, 0.0)
    slope, solved = _fit(sums)
    u, v, w = slope
    normal = np.stack([u, v, w + inverse - u * x - v * y], -1)
    length = np.linalg.norm(normal, axis=-1)
    solved &= there & (length > 0)
    # the inverse depth is positive where the plane is seen, so that the vector points away from the camera
    normal = -normal / np.where(solved, length, 1.0)[..., None]
    return np.where(solved[..., None], normal, 0.0).astype(np.float32), solved


def _windows(size: int, shift: int) -> tuple[slice, slice]:
    """Return the pixels that have a neighbour at that distance, and those neighbours."""
    begin, end = max(0, -shift), min(size, size - shift)
    return slice(begin, end), slice(begin + shift, end + shift)


def _fit(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients f64[3 h w] of d = u a + v b + w by least squares, and where there are any."""
    aa, ab, a, bb, b, one, ad, bd, d = sums
    matrix = np.stack([np.stack([aa, ab, a], -1), np.stack([ab, bb, b], -1), np.stack([a, b, one], -1)], -2)
    scale = np.sqrt(np.maximum(np.stack([aa, bb, one], -1), 1e-30))
    scaled = matrix / (scale[..., :, None] * scale[..., None, :])
    solved = (one >= 3) & (np.linalg.det(scaled) > 1e-6)
    safe = np.where(solved[..., None, None], scaled, np.eye(3))
    right = np.stack([ad, bd, d], -1) / scale
    found = np.linalg.solve(safe, right[..., None])[..., 0] / scale
    return np.moveaxis(found, -1, 0), solved
