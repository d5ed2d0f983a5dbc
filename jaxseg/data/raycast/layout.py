"""Scenes of the ray caster: rooms, lamps, objects, and random scenes."""

from dataclasses import dataclass

import numpy as np

from jaxseg.data.raycast.solids import SHAPES, Solid
from jaxseg.data.raycast.textures import Texture, random_texture

SURFACES = {"plain": 3, "checker": 1, "stripes": 1, "bricks": 1, "dots": 1, "noise": 2, "wood": 2}
MATERIALS = {
    "sphere": {"plain": 2, "checker": 2, "dots": 4},
    "box": {"plain": 2, "bricks": 3, "wood": 3},
    "cylinder": {"plain": 2, "noise": 5, "checker": 1},
    "cone": {"plain": 2, "stripes": 5, "dots": 1},
}
"""In what proportions each shape is made of what: a hint at the class, as in real pictures; a quarter is plain."""


@dataclass(frozen=True, eq=False)
class Light:
    """A small square lamp: position f32[3], side in metres, colour f32[3] (irradiance at one metre).

    >>> Light(np.zeros(3, np.float32), 0.2, np.ones(3, np.float32)).colour.shape
    (3,)
    """

    place: np.ndarray
    side: float
    colour: np.ndarray


@dataclass(frozen=True, eq=False)
class Room:
    """A scene, and the camera at the origin of the world.

    >>> len(random_room(np.random.default_rng(0)).walls)
    3

    Attributes:
      low, high: f32[3], corners of the room; y points down, so the floor is at ``high[1]``.
      walls: textures of the four walls, the floor and the ceiling.
      solids: the objects.
      textures: of each object.
      gloss: of each object, 0..1.
      lights: the lamps.
      ambient: f32[3].
      camera: f32[3 3], camera axes -> world.
      focal: focal length in units of the image's larger side.
      exposure: mean brightness of the image before highlights are compressed.
      noise: standard deviation of the sensor noise, 0..255.
    """

    low: np.ndarray
    high: np.ndarray
    walls: tuple[Texture, Texture, Texture]
    solids: tuple[Solid, ...]
    textures: tuple[Texture, ...]
    gloss: tuple[float, ...]
    lights: tuple[Light, ...]
    ambient: np.ndarray
    camera: np.ndarray
    focal: float
    exposure: float
    noise: float


def random_room(rng: np.random.Generator) -> Room:
    """Draw a room of 3 to 7 metres with up to six objects, one to three lamps, and a camera that looks into it.

    >>> 1 <= len(random_room(np.random.default_rng(0)).lights) <= 3
    True
    """
    eye, height = rng.uniform(1.1, 1.9), rng.uniform(2.4, 3.2)
    width, depth = rng.uniform(3.5, 6.5), rng.uniform(4.0, 7.0)
    left = -width * rng.uniform(0.35, 0.65)
    low = np.asarray([left, eye - height, -0.6], np.float32)
    high = np.asarray([left + width, eye, depth - 0.6], np.float32)
    yaw, pitch, roll = rng.uniform(-0.35, 0.35), rng.uniform(0.0, 0.35), rng.normal(0, 0.03)
    walls = [random_texture(rng, SURFACES, saturation=(0.0, 0.35), value=(0.5, 0.95), contrast=0.3) for _ in range(3)]
    focal = rng.uniform(0.65, 0.95)
    solids = _arrange(rng, low, high, yaw, focal)
    textures = [
        random_texture(rng, MATERIALS[s.shape], saturation=(0.1, 1.0), value=(0.35, 1.0), contrast=0.6) for s in solids
    ]
    return Room(
        low,
        high,
        (walls[0], walls[1], walls[2]),
        tuple(solids),
        tuple(textures),
        tuple(float(rng.uniform(0, 0.7) ** 2) for _ in solids),
        tuple(_random_light(rng, low, high) for _ in range(rng.integers(1, 4))),
        (rng.uniform(0.1, 0.2) * _tint(rng, 0.1)).astype(np.float32),
        (_turn(1, yaw) @ _turn(0, -pitch) @ _turn(2, roll)).astype(np.float32),
        float(focal),
        float(rng.uniform(0.4, 0.75)),
        float(rng.uniform(0.5, 3.0)),
    )


def _arrange(rng: np.random.Generator, low: np.ndarray, high: np.ndarray, yaw: float, focal: float) -> list[Solid]:
    """Place objects on the floor in front of the camera, or on one another, without other contact."""
    solids: list[Solid] = []
    taken: list[tuple[float, float, float]] = []
    stages: list[Solid] = []
    wanted = int(rng.integers(3, 7))
    for _ in range(60):
        if len(solids) == wanted:
            break
        shape = SHAPES[rng.integers(len(SHAPES))]
        half = _random_half(rng, shape)
        footprint = float(np.hypot(half[0], half[2]) if shape == "box" else half[0])
        spin = _turn(1, rng.uniform(0, np.pi))
        stage = stages[rng.integers(len(stages))] if stages and rng.random() < 0.3 else None
        if stage is not None and footprint < 0.95 * min(stage.half[0], stage.half[2]):
            x, z, ground = float(stage.centre[0]), float(stage.centre[2]), float(stage.centre[1] - stage.half[1])
            stages.remove(stage)
        else:
            bearing = yaw + rng.uniform(-1, 1) * np.arctan(0.48 / focal)
            away = rng.uniform(1.5, min(3.4, float(high[2])))
            x, z, ground = away * np.sin(bearing), away * np.cos(bearing), float(high[1])
            walls = (x - low[0], high[0] - x, high[2] - z)
            crowded = any(np.hypot(x - a, z - b) < footprint + r + 0.03 for a, b, r in taken)
            if crowded or min(walls) < footprint + 0.03:
                continue
            taken.append((x, z, footprint))
        solid = Solid(shape, np.asarray([x, ground - half[1], z], np.float32), spin.astype(np.float32), half)
        solids.append(solid)
        if shape in ("box", "cylinder") and ground == float(high[1]):
            stages.append(solid)
    return solids


def _random_half(rng: np.random.Generator, shape: str) -> np.ndarray:
    if shape == "sphere":
        return np.full(3, rng.uniform(0.26, 0.55), np.float32)
    if shape == "box":
        return np.asarray([rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.45), rng.uniform(0.25, 0.5)], np.float32)
    radius = rng.uniform(0.2, 0.42)
    height = rng.uniform(0.4, 0.75)
    return np.asarray([radius, height, radius], np.float32)


def _random_light(rng: np.random.Generator, low: np.ndarray, high: np.ndarray) -> Light:
    place = low + (high - low) * rng.uniform((0.15, 0.03, 0.05), (0.85, 0.2, 0.9))
    colour = rng.uniform(0.5, 1.2) * _tint(rng, 0.2)
    return Light(place.astype(np.float32), float(rng.uniform(0.15, 0.5)), colour.astype(np.float32))


def _tint(rng: np.random.Generator, amount: float) -> np.ndarray:
    """Return white with a random warm or cold tint."""
    lean = rng.uniform(-amount, amount)
    return np.asarray([1 + lean, 1, 1 - lean])


def _turn(axis: int, angle: float) -> np.ndarray:
    """Return the rotation f64[3 3] about x (0), y (1) or z (2)."""
    cos, sin = np.cos(angle), np.sin(angle)
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = cos, -sin, sin, cos
    return matrix
