"""Panoptic maps: every segment in a shade of its class, and a PNG of segment numbers."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.types import VOID
from jaxseg.viz.labels import edges
from jaxseg.viz.painter import Arrays, Painter, Pictures, painter
from jaxseg.viz.palettes import class_colors, class_name
from jaxseg.viz.png import encode


@painter("panoptic")
class Panoptic(Painter):
    """``panoptic``, segments over the image; ``segments``, their numbers in 16 bits (0 void) and a list of them."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        numbers, segments = _segments(predictions["panoptic"])
        colors = np.asarray(class_colors(facts, predictions["panoptic"][..., 0]), np.float32)
        shades = [_shade(colors[c], i) if c < len(colors) else np.zeros(3) for c, i, _ in segments]
        film = np.stack([np.zeros(3), *shades])[numbers]
        out = np.where((numbers > 0)[..., None], 0.4 * image + 0.6 * film, image)
        out[edges(numbers)] = 255
        return np.rint(out).astype(np.uint8)

    @override
    def draw(self, image: np.ndarray, predictions: Arrays, facts: Any) -> Pictures:
        numbers, _ = _segments(predictions["panoptic"])
        return {"panoptic": self.paint(image, predictions, facts), "segments": encode(numbers.astype(np.uint16))}

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        _, segments = _segments(predictions["panoptic"])
        return {
            "segments": [
                {"number": n, "class": c, "name": class_name(facts.classes, c), "instance": i, "pixels": pixels}
                for n, (c, i, pixels) in enumerate(segments, 1)
            ]
        }

    @override
    def summarize(self, predictions: Arrays, facts: Any) -> str:
        rows = self.describe(predictions, facts)["segments"]
        return f"{sum(row['instance'] > 0 for row in rows)} things, {sum(row['instance'] == 0 for row in rows)} stuff"


def _segments(panoptic: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Return the number of each pixel's segment, from 1, 0 for void; class, instance and pixels of each segment."""
    pairs, inverse, counts = np.unique(panoptic.reshape(-1, 2), axis=0, return_inverse=True, return_counts=True)
    held = pairs[:, 0] != VOID
    number = np.where(held, np.cumsum(held), 0)
    rows = [(c, i, n) for (c, i), n, kept in zip(pairs.tolist(), counts.tolist(), held, strict=True) if kept]
    return number[inverse.reshape(panoptic.shape[:2])], rows


def _shade(color: np.ndarray, instance: int) -> np.ndarray:
    """Return the class's colour for stuff, and lighter or darker ones for its instances in turn."""
    if instance == 0:
        return color
    lightness = (-0.35, 0.0, 0.35, -0.18, 0.18, 0.5)[(instance - 1) % 6]
    return color + (255 - color) * lightness if lightness > 0 else color * (1 + lightness)
