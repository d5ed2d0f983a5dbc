"""Coordinates under deterministic geometry, by which predictions are mapped back."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxseg.errors import BadInput


@dataclass(frozen=True)
class Frame:
    """Placement of an image in another: a point ``p`` (row, column; in pixel edges) lies at ``p * scale + offset``.

    Attributes:
      size: height and width of the new image.
      scale: new pixels per old pixel, by row and column.
      offset: where the old image's corner lies in the new one; negative where it is cut off.

    >>> Frame((60, 80), (0.5, 0.5)).then(Frame((64, 96), offset=(2.0, 8.0)))
    Frame(size=(64, 96), scale=(0.5, 0.5), offset=(2.0, 8.0))
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def then(self, after: "Frame") -> "Frame":
        """Return the placement by this frame and then by ``after``."""
        (sy, sx), (oy, ox) = after.scale, after.offset
        return Frame(
            after.size,
            (self.scale[0] * sy, self.scale[1] * sx),
            (self.offset[0] * sy + oy, self.offset[1] * sx + ox),
        )


@runtime_checkable
class Geometric(Protocol):
    """Protocol of deterministic geometry: the same for every image of a size, colours unchanged."""

    def frame(self, height: int, width: int) -> Frame:
        """Return where an image of that size goes."""
        ...


def frame_of(transforms: Iterable[Any], height: int, width: int) -> Frame:
    """Return where several transforms, one after the other, take an image of that size.

    Args:
      transforms: deterministic geometry: ``Resize``, ``ResizeWithin``, ``CentreCrop``, ``PadTo``, ``PadToMultiple``,
        ``MirrorPad``, or anything else with a method ``frame``.
      height: of the image before them.
      width: of the image before them.

    Raises:
      BadInput: one of them is random or changes colours, or the image does not fit it.

    >>> frame_of((), 4, 6)
    Frame(size=(4, 6), scale=(1.0, 1.0), offset=(0.0, 0.0))
    """
    frame = Frame((height, width))
    for transform in transforms:
        if not isinstance(transform, Geometric):
            raise BadInput(f"{transform} is not deterministic geometry: it has no method frame(height, width)")
        frame = frame.then(transform.frame(*frame.size))
    return frame
