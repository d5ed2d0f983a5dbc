"""Canvases: a few fixed sizes to which images of all shapes are padded. Reached through ``transforms``."""

from dataclasses import dataclass

import numpy as np

from jaxseg.data.records import Record, size
from jaxseg.data.transforms.frame import Frame
from jaxseg.data.transforms.moves import pad
from jaxseg.errors import BadInput


@dataclass(frozen=True)
class Canvas:
    """Pad below and to the right to one of a few sizes: the one in which an image of that shape can be largest.

    Every batch is of one canvas: the data pipeline groups images by the shape in which they are stored, so the network
    is compiled once for each size. Put it after what scales the image, and keep the image upright: a flip is fine, a
    quarter turn is not.

    Attributes:
      sizes: heights and widths, ``((800, 1344), (1344, 800))``.

    >>> canvas = Canvas(((800, 1344), (1344, 800)))
    >>> canvas.frame(800, 1067).size, canvas.frame(1067, 800).size
    ((800, 1344), (1344, 800))
    """

    sizes: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Raise if there is no size, or one that is not two positive numbers."""
        if not self.sizes or any(len(sides) != 2 or min(sides) < 1 for sides in self.sizes):
            raise BadInput(f"Canvas takes heights and widths, ((800, 1344), (1344, 800)), not {self.sizes!r}")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record on its canvas, padded with black, void and invalid."""
        height, width = size(record)
        stored = record.get("original_size", (height, width))
        rows, columns = self._held(height, width, self.choose(int(stored[0]), int(stored[1])))
        return pad(record, 0, rows - height, 0, columns - width)

    def choose(self, height: int, width: int) -> int:
        """Return the number of the canvas in which an image of that shape can be largest; of equal ones, the smallest.

        It depends on the ratio of the sides alone.

        >>> Canvas(((96, 96), (64, 128))).choose(30, 60)
        1
        """

        def rank(number: int) -> tuple[int, int, int]:
            rows, columns = self.sizes[number]
            return -min(rows * width, columns * height), rows * columns, number

        return min(range(len(self.sizes)), key=rank)

    def frame(self, height: int, width: int) -> Frame:
        """Return where an image of that size goes.

        Raises:
          BadInput: the image is larger than its canvas.
        """
        return Frame(self._held(height, width, self.choose(height, width)))

    def _held(self, height: int, width: int, number: int) -> tuple[int, int]:
        rows, columns = self.sizes[number]
        if height > rows or width > columns:
            raise BadInput(f"an image of {height}x{width} does not fit the canvas {rows}x{columns}; scale it before")
        return rows, columns
