"""Refuse images that cannot be stacked into batches, by their sizes, before any of them is read for training."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxseg.data.transforms import Canvas, Geometric, Resize
from jaxseg.errors import BadInput


def follows_from_size(transforms: Sequence[Any]) -> bool:
    """Return True if images end up in sizes that follow from their own, and may differ.

    >>> from jaxseg.data.transforms import PadToMultiple, RandomCrop
    >>> [follows_from_size((transform,)) for transform in (PadToMultiple(32), Resize(8, 8), RandomCrop(8, 8))]
    [True, False, False]
    """
    fixed = any(isinstance(transform, Resize | Canvas) for transform in transforms)
    return not fixed and all(isinstance(transform, Geometric) for transform in transforms)


def check_sizes(transforms: Sequence[Any], sizes: np.ndarray, chosen: np.ndarray, batch_size: int, where: str) -> None:
    """Raise if images of one batch end up in several sizes.

    >>> check_sizes((), np.asarray([[8, 8], [8, 6]]), np.arange(2), 2, "cells/val")
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: cells/val: images of one batch have several sizes ([0] is 8x8, [1] is 8x6): ...

    Args:
      transforms: deterministic geometry.
      sizes: i[examples 2], height and width of every image.
      chosen: i64[n], the examples of the batches, in order.
      batch_size: examples per batch.
      where: names the split.

    Raises:
      BadInput: so it is; one image of each size is named.
    """
    shapes, inverse = np.unique(sizes[chosen], axis=0, return_inverse=True)
    ends = [functools.reduce(lambda size, t: t.frame(*size).size, transforms, tuple(s)) for s in shapes.tolist()]
    numbers = {size: number for number, size in enumerate(dict.fromkeys(ends))}
    last = np.asarray([numbers[size] for size in ends])[inverse.reshape(-1)]
    names = {number: f"{height}x{width}" for (height, width), number in numbers.items()}
    for start in range(0, len(last), batch_size):
        differs = np.flatnonzero(last[start : start + batch_size] != last[start])
        if len(differs):
            other = start + int(differs[0])
            raise BadInput(
                f"{where}: images of one batch have several sizes ([{chosen[start]}] is {names[last[start]]}, "
                f"[{chosen[other]}] is {names[last[other]]}): end the transforms with Resize, PadTo or Canvas, or "
                "set eval_batch_size=1"
            )
