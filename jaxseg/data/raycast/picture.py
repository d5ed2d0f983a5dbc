"""Render the image of a room, with exact ground truth."""

from dataclasses import dataclass

import numpy as np

from jaxseg.data.raycast.layout import Room
from jaxseg.data.raycast.lighting import illuminate
from jaxseg.data.raycast.solids import ROOM_NORMALS, SHAPES, Solid, hit, hit_room, skin
from jaxseg.data.raycast.textures import paint
from jaxseg.data.records import Record

CLASSES = ("wall", "floor", "ceiling", *SHAPES)
THINGS = SHAPES
JOINTS = ("top", "bottom", "middle")

_WALL, _FLOOR, _CEILING = 0, 1, 2
_ROOM_CLASSES = np.asarray([_WALL, _WALL, _CEILING, _FLOOR, _WALL, _WALL], np.uint8)


def render(room: Room, height: int, width: int, rng: np.random.Generator) -> Record:
    """Render a room, with complete ground truth.

    The image is supersampled (2 x 2 rays per pixel); ground truth is that of the ray through the pixel's centre.

    >>> from jaxseg.data.raycast.layout import random_room
    >>> rng = np.random.default_rng(0)
    >>> record = render(random_room(rng), 24, 32, rng)
    >>> record["image"].shape, record["depth"].shape
    ((24, 32, 3), (24, 32))

    Args:
      room: the scene.
      height: of the image, pixels.
      width: of the image, pixels.
      rng: for the sensor noise only.

    Returns:
      A record: image, label, instance_ids, boxes, classes, keypoints, panoptic, depth, normal, boundary, saliency.
      Objects without a visible pixel are left out.
    """
    seen = _look(room, (height, width), 1)
    label = seen.label.reshape(height, width)
    visible = np.flatnonzero(np.bincount(seen.owner, minlength=len(room.solids) + 1)[1:])
    number = np.zeros(len(room.solids) + 1, np.uint16)
    number[visible + 1] = np.arange(1, len(visible) + 1)
    ids = number[seen.owner].reshape(height, width)
    classes = np.asarray([THINGS.index(room.solids[i].shape) for i in visible], np.int32)
    return {
        "image": _photograph(room, seen, rng),
        "label": label,
        "instance_ids": ids,
        "boxes": _boxes(ids, len(visible)),
        "classes": classes,
        "keypoints": _keypoints(room, visible, ids),
        "panoptic": np.stack([label.astype(np.int32), ids.astype(np.int32)], -1),
        "depth": seen.depth.reshape(height, width),
        "normal": (room.camera.T @ seen.normal).T.reshape(height, width, 3),
        "boundary": _boundary(label, ids),
        "saliency": _saliency(ids, len(visible)),
    }


def _rays(room: Room, height: int, width: int, per_side: int) -> np.ndarray:
    """Return rays f32[3 n] in the world, scaled so that length 1 is one metre of depth."""
    focal = room.focal * max(height, width)
    x = ((np.arange(width * per_side, dtype=np.float32) + 0.5) / per_side - width / 2) / focal
    y = ((np.arange(height * per_side, dtype=np.float32) + 0.5) / per_side - height / 2) / focal
    grid = np.empty((3, len(y), len(x)), np.float32)
    grid[0], grid[1], grid[2] = x, y[:, None], 1
    return room.camera @ grid.reshape(3, -1)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a grid of rays met.

    Attributes:
      size: rows and columns of the grid.
      direction, depth, points: f32[3 n], f32[n], f32[3 n], world.
      owner: i32[n], 1 + number of the solid, 0 for the room.
      label: u8[n], classes.
      normal: f32[3 n], unit, world.
      colour: f32[3 n], linear RGB.
      face: i32[n], a number that differs between any two faces in the room.
    """

    size: tuple[int, int]
    direction: np.ndarray
    depth: np.ndarray
    points: np.ndarray
    owner: np.ndarray
    label: np.ndarray
    normal: np.ndarray
    colour: np.ndarray
    face: np.ndarray


def _look(room: Room, size: tuple[int, int], per_side: int) -> _Seen:
    rows, columns = size[0] * per_side, size[1] * per_side
    direction = _rays(room, *size, per_side)
    camera = np.zeros((3, 1), np.float32)
    depth, face = hit_room(room.low, room.high, camera, direction)
    owner = np.zeros(depth.shape, np.int32)
    grid, depths, owners = (
        direction.reshape(3, rows, columns),
        depth.reshape(rows, columns),
        owner.reshape(rows, columns),
    )
    for number, solid in enumerate(room.solids, 1):
        window = _window(room, solid, rows, columns)
        part = grid[:, *window]
        if part.size:
            t = hit(solid, camera, part.reshape(3, -1)).reshape(part.shape[1:])
            nearer = t < depths[window]
            depths[window][nearer] = t[nearer]
            owners[window][nearer] = number
    points = direction * depth
    label = _ROOM_CLASSES[face]
    normal = np.take(ROOM_NORMALS, face, 1)
    colour = np.empty(points.shape, np.float32)
    for kind, texture in enumerate(room.walls):
        here = np.flatnonzero((owner == 0) & (label == kind))
        x, y, z = points[:, here]
        u = np.where(face[here] < 2, z, x) if kind == _WALL else x
        colour[:, here] = paint(texture, u, y if kind == _WALL else z)
    for number, (solid, texture) in enumerate(zip(room.solids, room.textures, strict=True), 1):
        here = np.flatnonzero(owner == number)
        on = skin(solid, points[:, here])
        normal[:, here], face[here] = on.normal, 6 * number + on.face
        colour[:, here] = paint(texture, on.u, on.v)
        label[here] = CLASSES.index(solid.shape)
    return _Seen((rows, columns), direction, depth, points, owner, label, normal, colour, face)


def _window(room: Room, solid: Solid, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns outside of which the solid cannot be seen."""
    x, y, z = (room.camera.T @ solid.centre).tolist()
    r = solid.bound
    if z <= r * 1.1:
        return slice(0, height), slice(0, width)
    focal = room.focal * max(height, width)

    def span(along: float, length: int) -> slice:
        # The ball's silhouette between the two tangents in the plane of this axis and the optical one.
        angle, half = np.arctan2(along, z), np.arcsin(r / np.hypot(along, z))
        ends = length / 2 + focal * np.tan(np.clip([angle - half, angle + half], -1.55, 1.55))
        return slice(int(np.clip(ends[0] - 1, 0, length)), int(np.clip(ends[1] + 2, 0, length)))

    return span(y, height), span(x, width)


def _photograph(room: Room, centres: _Seen, rng: np.random.Generator) -> np.ndarray:
    """Return the image: 2 x 2 rays per pixel, in the light of the ray through the centre, or in their own where one of
    the four hits another face.
    """
    height, width = centres.size
    fine = _look(room, centres.size, 2)
    coarse = centres.face.reshape(centres.size)
    extra = np.flatnonzero(fine.face != np.repeat(np.repeat(coarse, 2, 0), 2, 1).ravel())
    light, shine = illuminate(
        room,
        np.concatenate([centres.points, fine.points[:, extra]], 1),
        np.concatenate([centres.normal, fine.normal[:, extra]], 1),
        np.concatenate([centres.direction, fine.direction[:, extra]], 1),
        np.concatenate([centres.owner, fine.owner[extra]]),
        coarse,
    )

    def spread(value: np.ndarray) -> np.ndarray:
        grid = value[:, : height * width].reshape(3, height, width)
        grid = np.repeat(np.repeat(grid, 2, 1), 2, 2).reshape(3, -1)
        grid[:, extra] = value[:, height * width :]
        return grid

    radiance = fine.colour * spread(light) + spread(shine)
    radiance = radiance.reshape(3, height, 2, width, 2).mean((2, 4))
    shown = 255 * _tone(radiance * (room.exposure / max(float(radiance.mean()), 1e-3)))
    shown += room.noise * rng.standard_normal(shown.shape, np.float32)
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def _tone(radiance: np.ndarray) -> np.ndarray:
    """Compress highlights towards white instead of clipping them, and apply the display gamma."""
    bent = radiance * (1 + radiance / 6) / (1 + radiance)
    return np.minimum(bent, 1) ** np.float32(1 / 2.2)


def _boxes(ids: np.ndarray, count: int) -> np.ndarray:
    """Return f32[n 4] around the visible pixels of each object."""
    boxes = np.zeros((count, 4), np.float32)
    for slot in range(count):
        mine = ids == slot + 1
        rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
        boxes[slot] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _keypoints(room: Room, visible: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return f32[n 3 3]: visible (2) if the pixel shows the object, hidden (1) if another, absent (0) outside."""
    height, width = ids.shape
    focal = room.focal * max(height, width)
    keypoints = np.zeros((len(visible), len(JOINTS), 3), np.float32)
    for slot, number in enumerate(visible):
        x, y, z = room.camera.T @ room.solids[number].landmarks()
        safe = np.maximum(z, np.float32(1e-3))
        u, v = focal * x / safe + width / 2, focal * y / safe + height / 2
        inside = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        row, column = np.where(inside, v, 0).astype(np.int32), np.where(inside, u, 0).astype(np.int32)
        seen = np.where(ids[row, column] == slot + 1, 2, 1)
        keypoints[slot] = np.where(inside[:, None], np.stack([u, v, seen], 1), 0)
    return keypoints


def _boundary(label: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return bool[h w]: pixels with a 4-neighbour of another surface or object."""
    key = ids.astype(np.int32) * len(CLASSES) + label
    edge = np.zeros(key.shape, bool)
    down, right = key[1:] != key[:-1], key[:, 1:] != key[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge


def _saliency(ids: np.ndarray, count: int) -> np.ndarray:
    """Return bool[h w]: the most prominent object by size and centrality, and those at least half as prominent."""
    height, width = ids.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    off_centre = ((y + 0.5) / height - 0.5) ** 2 + ((x + 0.5) / width - 0.5) ** 2
    score = np.bincount(ids.ravel(), np.exp(-4 * off_centre).ravel(), minlength=count + 1)
    score[0] = 0
    return (score >= max(score.max() / 2, 1e-9))[ids]
