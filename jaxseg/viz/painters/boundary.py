"""Object boundaries: white where the probability is 1."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.viz.painter import Arrays, Painter, painter
from jaxseg.viz.uncertainty import shade_share


@painter("boundary")
class Boundary(Painter):
    """Grey, the probability from black to white; the share of pixels from one half on."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return shade_share(predictions["boundary"])

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        return {"boundary": {"fraction": float((predictions["boundary"] >= 0.5).mean())}}

    @override
    def summarize(self, predictions: Arrays, facts: Any) -> str:
        return f"{100 * (predictions['boundary'] >= 0.5).mean():.1f} % boundaries"
