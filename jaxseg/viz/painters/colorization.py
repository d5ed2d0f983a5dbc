"""Images that a network made: coloured, restored."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.viz.painter import Arrays, Painter, painter
from jaxseg.viz.visible import visible


@painter("image", name="colored")
class Colored(Painter):
    """The image itself; in comparisons the truth is the batch's image."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return visible(predictions["image"])
