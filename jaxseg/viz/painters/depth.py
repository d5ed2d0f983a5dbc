"""Depth: warm is near, cold is far; millimetres in 16 bits, and the range in metres."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.viz.geometry import colorize_depth, depth_range, with_depth_scale
from jaxseg.viz.painter import Arrays, Painter, Pictures, painter
from jaxseg.viz.panels import sheet
from jaxseg.viz.png import encode
from jaxseg.viz.visible import visible


@painter("depth", uses=("depth_valid",))
class Depth(Painter):
    """``depth`` in colour above a bar of metres, ``depth_mm`` in 16 bits, and depth in numbers.

    Of millimetres 0 stands for depth that is unknown or beyond 65.535 m.
    """

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return colorize_depth(predictions["depth"], predictions.get("depth_valid"))

    @override
    def draw(self, image: np.ndarray, predictions: Arrays, facts: Any) -> Pictures:
        millimetres = np.rint(1000 * np.where(_known(predictions), predictions["depth"], 0.0))
        exact = np.where(millimetres < 65536, millimetres, 0).astype(np.uint16)
        picture = self.paint(image, predictions, facts)
        span = depth_range(predictions["depth"], predictions.get("depth_valid"))
        return {"depth": picture if span is None else with_depth_scale(picture, *span), "depth_mm": encode(exact)}

    @override
    def compare(self, batch: Arrays, predictions: Arrays, facts: Any) -> np.ndarray:
        """Return image, truth and prediction; both in the range of the truth, so that their colours compare."""
        rows = []
        for i, pixels in enumerate(batch["image"]):
            pictures, depth = [visible(pixels)], predictions["depth"][i]
            near = far = None
            if "depth" in batch:
                truth, valid = batch["depth"][i], batch["depth_valid"][i] if "depth_valid" in batch else None
                near, far = depth_range(truth, valid) or (None, None)
                pictures.append(colorize_depth(truth, valid, near=near, far=far))
            rows.append([*pictures, colorize_depth(depth, near=near, far=far)])
        return sheet(rows, ("image", "truth", "depth")[:: 1 if "depth" in batch else 2])

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        known = predictions["depth"][_known(predictions)]
        if not known.size:
            return {"depth": {"known": 0.0}}
        near, middle, far = (float(v) for v in np.percentile(known, (0, 50, 100)))
        share = known.size / predictions["depth"].size
        return {"depth": {"known": share, "nearest": near, "median": middle, "farthest": far, "unit": "m"}}

    @override
    def summarize(self, predictions: Arrays, facts: Any) -> str:
        found = self.describe(predictions, facts)["depth"]
        return f"{found['nearest']:.2f} to {found['farthest']:.2f} m" if found["known"] else "no depth"


def _known(values: Arrays) -> np.ndarray:
    depth = values["depth"]
    return np.isfinite(depth) & (depth > 0) & values.get("depth_valid", np.ones(depth.shape, bool))
