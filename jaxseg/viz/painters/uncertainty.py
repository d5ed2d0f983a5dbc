"""How sure a network is: the variance of samples, and the probability of the most probable class."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.viz.painter import Arrays, Painter, painter
from jaxseg.viz.uncertainty import shade_share, shade_variance


@painter("variance")
class Variance(Painter):
    """Grey: the darker, the less sure; its mean and largest value."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return shade_variance(predictions["variance"])

    @override
    def compare(self, batch: Arrays, predictions: Arrays, facts: Any) -> None:
        """Return no sheet: there is no truth of it."""

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        variance = predictions["variance"]
        return {"variance": {"mean": float(variance.mean()), "largest": float(variance.max())}}


@painter("probability", name="confidence")
class Confidence(Painter):
    """Grey: white where the most probable class has probability 1; its mean."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return shade_share(predictions["probability"].max(-1))

    @override
    def compare(self, batch: Arrays, predictions: Arrays, facts: Any) -> None:
        """Return no sheet: there is no truth of it."""

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        return {"confidence": {"mean": float(predictions["probability"].max(-1).mean())}}
