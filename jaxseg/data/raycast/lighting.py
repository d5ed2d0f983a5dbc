"""Illumination of points in a room, with soft shadows."""

import numpy as np
from scipy import ndimage

from jaxseg.data.raycast.layout import Light, Room
from jaxseg.data.raycast.solids import hit

_SPREAD = np.asarray([(-1, -1), (1, -1), (-1, 1), (1, 1)], np.float32) / 4
"""Where a lamp is sampled, in its sides; the middle of each quarter."""


def illuminate(
    room: Room, points: np.ndarray, normal: np.ndarray, direction: np.ndarray, owner: np.ndarray, surface: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return received light and highlights (Lambert and Blinn-Phong) of each point.

    Args:
      room: the scene.
      points: f32[3 n], the first rows * columns of them seen by a grid of pixels, any others after them.
      normal: f32[3 n], unit.
      direction: f32[3 n], of the rays that hit the points.
      owner: i32[n], 1 + index of the solid that a point belongs to, 0 for the room.
      surface: i32[rows columns], an id per surface, for the points of the grid.

    Returns:
      f32[3 n] to multiply colours by, f32[3 n] to add.

    >>> from jaxseg.data.raycast.layout import random_room
    >>> room = random_room(np.random.default_rng(0))
    >>> below, up = np.asarray([[0], [1], [2]], np.float32), np.asarray([[0], [-1], [0]], np.float32)
    >>> light, shine = illuminate(room, below, up, below, np.zeros(1, np.int32), np.zeros((1, 1), np.int32))
    >>> light.shape, shine.ravel().tolist()
    ((3, 1), [0.0, 0.0, 0.0])
    """
    view = direction / np.sqrt((direction * direction).sum(0))
    light = room.ambient[:, None] * _openness(room, points)
    shine = np.zeros_like(light)
    gloss = np.asarray([0.0, *room.gloss], np.float32)[owner]
    glossy = np.flatnonzero(gloss > 0)
    even = _is_even(surface)
    for lamp in room.lights:
        way = lamp.place[:, None] - points
        squared = (way * way).sum(0)
        distance = np.sqrt(squared)
        way /= distance
        facing = np.maximum((normal * way).sum(0), 0)
        clear = _smoothed(_unshadowed(room, lamp, points, way, distance, facing), even)
        strength = facing * clear / (np.float32(0.6) + squared / 4)
        light += lamp.colour[:, None] * strength
        halfway = way[:, glossy] - view[:, glossy]
        halfway /= np.sqrt((halfway * halfway).sum(0))
        sparkle = np.maximum((normal[:, glossy] * halfway).sum(0), 0) ** 40
        shine[:, glossy] += lamp.colour[:, None] * (sparkle * gloss[glossy] * strength[glossy])
    return light, shine


def _openness(room: Room, points: np.ndarray) -> np.ndarray:
    """Return the share of ambient light that reaches each point, f32[n]: less in the room's corners."""
    gap = np.minimum(points - room.low[:, None], room.high[:, None] - points)
    second = gap.sum(0) - gap.max(0) - gap.min(0)  # the nearest wall being mostly one's own
    return 1 - np.float32(0.45) * np.exp(second / np.float32(-0.35))


def _unshadowed(
    room: Room, lamp: Light, points: np.ndarray, way: np.ndarray, distance: np.ndarray, facing: np.ndarray
) -> np.ndarray:
    """Return the share of the lamp that is visible from each point, f32[n]."""
    blocked = np.zeros((len(_SPREAD), points.shape[1]), bool)
    towards_lamp, squared = (points * way).sum(0), (points * points).sum(0)
    corners = lamp.place[:, None] + lamp.side * np.stack([_SPREAD[:, 0], 0 * _SPREAD[:, 0], _SPREAD[:, 1]])
    for solid in room.solids:
        # Only what lies in the shadow of the solid's ball, turned to the lamp, needs rays.
        reach = np.float32(1.01 * (solid.bound + lamp.side))
        along = solid.centre @ way - towards_lamp
        aside = squared - (2 * solid.centre) @ points + solid.centre @ solid.centre - along * along
        maybe = np.flatnonzero((aside < reach * reach) & (along > -reach) & (along < distance + reach) & (facing > 0))
        if len(maybe):
            start = points[:, maybe] + np.float32(2e-3) * way[:, maybe]
            for sample, corner in enumerate(corners.T):
                blocked[sample, maybe] |= hit(solid, start, corner[:, None] - start) < 1
    return 1 - blocked.mean(0, dtype=np.float32)


def _is_even(surface: np.ndarray) -> np.ndarray:
    """Return bool[rows columns]: True where the 3 x 3 neighbourhood is one surface."""
    return ndimage.maximum_filter(surface, 3) == ndimage.minimum_filter(surface, 3)


def _smoothed(clear: np.ndarray, even: np.ndarray) -> np.ndarray:
    """Average the grid's part over 3 x 3 pixels inside faces, so that four samples of a lamp give smooth shadows."""
    grid = clear[: even.size].reshape(even.shape)
    smooth = np.where(even, ndimage.uniform_filter(grid, 3, mode="nearest"), grid)
    return np.concatenate([smooth.ravel(), clear[even.size :]])
