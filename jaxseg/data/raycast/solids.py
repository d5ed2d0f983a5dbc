"""Ray intersection with spheres, boxes, cylinders and cones in any pose, and with walls, in vectorised NumPy.

The world is right-handed with y down, in metres. A solid's own frame has its centre at the origin and its axis along y;
cones point up (towards -y). Points and directions are f32[3 n]: one contiguous row per coordinate, which is fast.
"""

from dataclasses import dataclass

import numpy as np

SHAPES = ("sphere", "box", "cylinder", "cone")

FAR = np.float32(np.inf)
_NEAR = np.float32(1e-5)


@dataclass(frozen=True, eq=False)
class Solid:
    """An object.

    >>> Solid("sphere", np.zeros(3, np.float32), np.eye(3, dtype=np.float32), np.full(3, 0.5, np.float32)).shape
    'sphere'

    Attributes:
      shape: one of ``SHAPES``.
      centre: f32[3].
      rotation: f32[3 3], own frame -> world.
      half: f32[3], half extents along its own axes (cylinder and cone: radius, half height, radius).
    """

    shape: str
    centre: np.ndarray
    rotation: np.ndarray
    half: np.ndarray

    @property
    def bound(self) -> float:
        """Radius of a ball about the centre that holds the solid."""
        if self.shape == "sphere":
            return float(self.half[0])
        if self.shape == "box":
            return float(np.linalg.norm(self.half))
        return float(np.hypot(self.half[0], self.half[1]))

    def landmarks(self) -> np.ndarray:
        """Top, bottom and middle of its axis in the world, f32[3 3], one point per column."""
        h = self.half[1]
        own = np.asarray([[0, 0, 0], [-h, h, 0], [0, 0, 0]], np.float32)
        return self.rotation @ own + self.centre[:, None]


def hit(solid: Solid, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the distance along each ray to the first hit, in lengths of ``direction``; infinity if there is none.

    >>> ball = Solid("sphere", np.asarray([0, 0, 3], np.float32), np.eye(3, dtype=np.float32), np.ones(3, np.float32))
    >>> hit(ball, np.zeros((3, 1), np.float32), np.asarray([[0.0], [0.0], [1.0]], np.float32)).tolist()
    [2.0]

    Args:
      solid: the object.
      origin: f32[3 n] or f32[3 1], world.
      direction: f32[3 n], world, of any length.

    Returns:
      f32[n], positive.
    """
    o = solid.rotation.T @ (origin - solid.centre[:, None])
    d = solid.rotation.T @ direction
    find = {"sphere": _hit_sphere, "box": _hit_box, "cylinder": _hit_cylinder, "cone": _hit_cone}[solid.shape]
    with np.errstate(divide="ignore", invalid="ignore"):
        return find(solid.half, o, d)


@dataclass(frozen=True, eq=False)
class Skin:
    """Of n points on a solid: outward unit normals f32[3 n] in the world, two surface coordinates f32[n] in metres, and
    the number of the flat or curved face that each lies on, i32[n].

    >>> Skin(np.zeros((3, 2)), np.zeros(2), np.zeros(2), np.zeros(2, np.int32)).face.tolist()
    [0, 0]
    """

    normal: np.ndarray
    u: np.ndarray
    v: np.ndarray
    face: np.ndarray


def skin(solid: Solid, points: np.ndarray) -> Skin:
    """Return normals, surface coordinates and faces at points f32[3 n] on the solid.

    >>> ball = Solid("sphere", np.asarray([0, 0, 3], np.float32), np.eye(3, dtype=np.float32), np.ones(3, np.float32))
    >>> skin(ball, np.asarray([[0], [0], [2]], np.float32)).normal.ravel().tolist()
    [0.0, 0.0, -1.0]
    """
    p = solid.rotation.T @ (points - solid.centre[:, None])
    x, y, z = p
    if solid.shape == "box":
        axis = np.argmax(np.abs(p) / solid.half[:, None], 0)
        own = np.where(np.arange(3)[:, None] == axis, np.sign(p), np.float32(0))
        face = axis + 3 * (own.sum(0) > 0)
        return Skin(solid.rotation @ own, np.where(axis == 0, z, x), np.where(axis == 1, z, y), face)
    radius, height = solid.half[:2]
    around = np.arctan2(z, x) * radius
    if solid.shape == "sphere":
        return Skin(solid.rotation @ (p / radius), around, y, np.zeros(x.shape, np.int32))
    slope = radius / (2 * height) if solid.shape == "cone" else np.float32(0)
    away = np.hypot(x, z)
    to_side = np.abs(away - radius + slope * (height - y))
    to_cap = np.abs(y - height) if solid.shape == "cone" else np.abs(np.abs(y) - height)
    cap = to_cap < to_side
    scale = 1 / (np.maximum(away, _NEAR) * np.hypot(np.float32(1), slope))
    own = np.stack([x * scale, np.full_like(y, -slope / np.hypot(1, slope)), z * scale])
    own = np.where(cap, np.asarray([[0], [1], [0]], np.float32) * np.sign(y), own)
    face = np.where(cap, 1 + (y > 0), 0)
    return Skin(solid.rotation @ own, np.where(cap, x, around), np.where(cap, z, y), face)


ROOM_NORMALS = np.asarray([[1, -1, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0], [0, 0, 0, 0, 1, -1]], np.float32)
"""Inward normals of the room's faces, one per column: low x, high x, low y (ceiling), high y (floor), low z, high z."""


def hit_room(
    low: np.ndarray, high: np.ndarray, origin: np.ndarray, direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where rays leave the box ``low..high`` from inside: f32[n] distance, i32[n] face (``ROOM_NORMALS``).

    >>> low, high, direction = -np.ones(3), np.ones(3), np.asarray([[0.1], [0.1], [0.5]])
    >>> hit_room(low, high, np.zeros((3, 1)), direction)[0].tolist()
    [2.0]
    """
    distance = np.full(direction.shape[1], FAR)
    face = np.zeros(direction.shape[1], np.int32)
    for axis in range(3):
        up = direction[axis] > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.where(up, high[axis] - origin[axis], low[axis] - origin[axis]) / direction[axis]
        nearer = (far < distance) & (direction[axis] != 0)
        distance = np.where(nearer, far, distance)
        face = np.where(nearer, up + np.int32(2 * axis), face)
    return distance, face


def _hit_sphere(half: np.ndarray, o: np.ndarray, d: np.ndarray) -> np.ndarray:
    a = (d * d).sum(0)
    b = (o * d).sum(0)
    c = (o * o).sum(0) - half[0] ** 2
    root = np.sqrt(b * b - a * c)
    near, far = (-b - root) / a, (-b + root) / a
    return np.where(near > _NEAR, near, np.where(far > _NEAR, far, FAR))


def _hit_box(half: np.ndarray, o: np.ndarray, d: np.ndarray) -> np.ndarray:
    inverse = 1 / d
    middle, reach = -o * inverse, np.abs(half[:, None] * inverse)
    enter, leave = (middle - reach).max(0), (middle + reach).min(0)
    t = np.where(enter > _NEAR, enter, leave)
    return np.where((enter <= leave) & (leave > _NEAR), t, FAR)


def _hit_cylinder(half: np.ndarray, o: np.ndarray, d: np.ndarray) -> np.ndarray:
    radius, height = half[:2]
    ox, oy, oz = o
    dx, dy, dz = d
    a, b, c = dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - radius**2
    return _first(o, d, _sides(a, b, c, oy, dy, height) + _caps(o, d, (-height, height), radius))


def _hit_cone(half: np.ndarray, o: np.ndarray, d: np.ndarray) -> np.ndarray:
    radius, height = half[:2]
    ox, oy, oz = o
    dx, dy, dz = d
    k2 = (radius / (2 * height)) ** 2
    below = oy + height  # how far below the tip
    a = dx * dx + dz * dz - k2 * dy * dy
    b = ox * dx + oz * dz - k2 * below * dy
    c = ox * ox + oz * oz - k2 * below * below
    return _first(o, d, _sides(a, b, c, oy, dy, height) + _caps(o, d, (height,), radius))


def _sides(a: np.ndarray, b: np.ndarray, c: np.ndarray, oy: np.ndarray, dy: np.ndarray, height: np.floating) -> list:
    """Return both roots of a t^2 + 2 b t + c, and whether they lie between the ends."""
    root = np.sqrt(b * b - a * c)
    roots = ((-b - root) / a, (-b + root) / a)
    return [(t, np.abs(oy + t * dy) <= height) for t in roots]


def _caps(o: np.ndarray, d: np.ndarray, heights: tuple[np.floating, ...], radius: np.floating) -> list:
    found = []
    for height in heights:
        t = (height - o[1]) / d[1]
        found.append((t, (o[0] + t * d[0]) ** 2 + (o[2] + t * d[2]) ** 2 <= radius**2))
    return found


def _first(o: np.ndarray, d: np.ndarray, candidates: list) -> np.ndarray:
    best = np.full(d.shape[1], FAR)
    for t, on_surface in candidates:
        best = np.where(on_surface & (t > _NEAR) & (t < best), t, best)
    return best
