"""Colours that a network gives an image: the picture with the image's own lightness."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.ops.lab import colored, rgb_to_lab
from jaxseg.viz.painter import Arrays, Painter, painter
from jaxseg.viz.visible import visible


@painter("ab", name="colorized")
class Colorized(Painter):
    """The picture in colour at the image's size; in comparisons the truth is the image itself."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return colored(visible(image), predictions["ab"])

    @override
    def truth(self, batch: Arrays) -> Arrays | None:
        return {"ab": np.stack([rgb_to_lab(visible(image))[..., 1:] for image in batch["image"]])}

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        return {"colors": {"mean_saturation": float(np.linalg.norm(predictions["ab"], axis=-1).mean())}}
