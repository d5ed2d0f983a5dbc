"""Inverse depth without a unit: warm is near, cold is far; the numbers of 16 bits from 0 to the image's nearest."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.viz.geometry import colorize_depth
from jaxseg.viz.painter import Arrays, Painter, painter
from jaxseg.viz.png import encode


@painter("inverse_depth")
class InverseDepth(Painter):
    """``inverse_depth`` in colour, and ``inverse_depth_16``: 65535 is the nearest pixel of the image."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        inverse = np.maximum(predictions["inverse_depth"].astype(np.float64), 0)
        low, high = (float(v) for v in np.percentile(inverse, (2, 98)))
        return colorize_depth(1 / np.maximum(inverse, 1e-9), near=1 / max(high, 1e-9), far=1 / max(low, 1e-9))

    @override
    def draw(self, image: np.ndarray, predictions: Arrays, facts: Any) -> dict[str, np.ndarray | bytes]:
        inverse = np.maximum(predictions["inverse_depth"].astype(np.float64), 0)
        numbers = np.rint(65535 * inverse / max(float(inverse.max()), 1e-9)).astype(np.uint16)
        return {"inverse_depth": self.paint(image, predictions, facts), "inverse_depth_16": encode(numbers)}

    @override
    def truth(self, batch: Arrays) -> Arrays | None:
        if "depth" not in batch:
            return None
        known = batch["depth"] > 0
        return {"inverse_depth": np.where(known, 1 / np.where(known, batch["depth"], 1.0), 0.0)}

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        low, middle, high = (float(v) for v in np.percentile(predictions["inverse_depth"], (0, 50, 100)))
        return {"inverse_depth": {"farthest": low, "median": middle, "nearest": high, "unit": ""}}
