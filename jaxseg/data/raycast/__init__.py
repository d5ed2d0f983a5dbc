"""Rooms of spheres, boxes, cylinders and cones, ray-cast: ``render(random_room(rng), height, width, rng)`` is a record.

``layout`` says what there is, ``solids`` how rays meet it, ``textures`` and ``lighting`` how it looks; ``picture``
makes the image and the ground truth.
"""

from jaxseg.data.raycast.layout import random_room
from jaxseg.data.raycast.picture import CLASSES, JOINTS, THINGS, render

__all__ = ["CLASSES", "JOINTS", "THINGS", "random_room", "render"]
