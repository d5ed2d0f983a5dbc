"""Surface normals in the usual colours."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.viz.geometry import colorize_normal
from jaxseg.viz.painter import Arrays, Painter, painter


@painter("normal", uses=("normal_valid",))
class Normals(Painter):
    """Red to the right, green upwards, blue towards the viewer; the mean normal in numbers."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return colorize_normal(predictions["normal"], predictions.get("normal_valid"))

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        return {"normal": {"mean": [float(x) for x in predictions["normal"].mean((0, 1))]}}
