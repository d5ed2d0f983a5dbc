"""The geometry of SSD's default boxes: which shapes every cell of a level has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Array, Float32

from jaxseg.errors import BadInput
from jaxseg.ops.anchors import default_boxes

Shapes = tuple[tuple[float, float], ...]
"""Widths and heights as parts of the image's."""


@dataclass(frozen=True)
class DefaultBoxes:
    """Shapes and centres of the default boxes of every level (Liu et al. 2016, arXiv:1512.02325, section 2.2).

    A level with scale ``s``, the next having ``t``, has squares of ``s`` and ``sqrt(s t)``, and for each ratio ``r`` a
    box of width ``s sqrt(r)`` and height ``s / sqrt(r)`` and the same upright.

    >>> DefaultBoxes((0.1, 0.4, 1.0), ((), (2.0,))).shapes()[0]
    ((0.1, 0.1), (0.2, 0.2))

    Attributes:
      scales: of the levels, and one more; parts of the image.
      ratios: widths over heights of each level, 1 left out.
      steps: pixels between the centres of each level; () divides the image by the grid.
      clip: whether no shape is larger than the image, as in torchvision; Caffe's and TensorFlow's may be.
      order: "paper", as above; or "tensorflow", whose finest level has a square of 0.1 and no second one, and whose
        others have it last.
    """

    scales: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]
    steps: tuple[int, ...] = ()
    clip: bool = False
    order: str = "paper"

    def __post_init__(self):
        if self.order not in ("paper", "tensorflow"):
            raise BadInput(f"the order of default boxes is 'paper' or 'tensorflow', not {self.order!r}")
        if len(self.scales) != len(self.ratios) + 1 or len(self.steps) not in (0, len(self.ratios)):
            raise BadInput(
                f"{len(self.ratios)} levels of ratios need one scale each and one more, and one step each or none: "
                f"{len(self.scales)} scales, {len(self.steps)} steps"
            )

    def shapes(self) -> tuple[Shapes, ...]:
        """Return the shapes of every level."""
        return tuple(self._level(i) for i in range(len(self.ratios)))

    def __call__(
        self, image_size: tuple[int, int], grids: Sequence[tuple[int, int]]
    ) -> tuple[Float32[Array, "a 4"], tuple[int, ...]]:
        """Return the boxes of an image, pixels, level by level, and how many each level has.

        Raises:
          BadInput: there are more or fewer grids than levels.
        """
        return default_boxes(image_size, grids, self.shapes(), self.steps)

    def _level(self, i: int) -> Shapes:
        scale, mean = self.scales[i], math.sqrt(self.scales[i] * self.scales[i + 1])
        found = []
        for ratio in self.ratios[i]:
            w, h = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            found += [(w, h), (h, w)]
        if self.order == "paper":
            found = [(scale, scale), (mean, mean), *found]
        elif i == 0:
            found = [(0.1, 0.1), *found]
        else:
            found = [(scale, scale), *found, (mean, mean)]
        return tuple((min(w, 1.0), min(h, 1.0)) if self.clip else (w, h) for w, h in found)
