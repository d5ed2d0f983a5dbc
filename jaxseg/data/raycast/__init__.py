"""Ray caster for indoor scenes: ``render(random_room(rng), height, width, rng)``.

``layout`` draws scenes, ``solids`` intersects rays, ``textures`` and ``lighting`` shade; ``picture`` renders the image
and its ground truth as a record.
"""

from jaxseg.data.raycast.layout import random_room
from jaxseg.data.raycast.picture import CLASSES, JOINTS, THINGS, render

__all__ = ["CLASSES", "JOINTS", "THINGS", "random_room", "render"]
