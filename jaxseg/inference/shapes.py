"""Few compiled sizes for images of many sizes: pad by reflection to the nearest of a few shapes, crop the result.

Every size of image is compiled once, which takes seconds to a minute. Padding changes what the network sees beyond the
right and lower edge, where it would otherwise see zeros, and the averages of global pooling: labels differ there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from jaxseg.inference.predictor import Predictor, is_map
from jaxseg.inference.tiling import reflected

MOST = 400
"""Distinct sizes that are grouped exactly; more are first rounded up to multiples of 32, 64, ..."""


def plan_shapes(sizes: Iterable[tuple[int, int]], number: int) -> tuple[tuple[int, int], ...]:
    """Return at most ``number`` shapes such that each size fits into one, with little padding in all.

    Sizes are merged greedily: again and again the two groups whose common shape adds the fewest pixels.

    Args:
      sizes: heights and widths, each as often as it occurs.
      number: of shapes.

    Example:
      >>> plan_shapes([(60, 80), (64, 80), (64, 81), (480, 640)], 2)
      ((64, 81), (480, 640))
    """
    counts, unit = Counter(sizes), 32
    while len(counts) > max(MOST, number):
        rounded: Counter[tuple[int, int]] = Counter()
        for (height, width), count in counts.items():
            rounded[-(-height // unit) * unit, -(-width // unit) * unit] += count
        counts, unit = rounded, 2 * unit
    height, width = (np.asarray([size[axis] for size in counts], np.int64) for axis in (0, 1))
    count = np.asarray(list(counts.values()), np.int64)
    while len(height) > number:
        area = count * height * width
        of_both = np.maximum.outer(height, height) * np.maximum.outer(width, width) * np.add.outer(count, count)
        added = (of_both - np.add.outer(area, area)).astype(np.float64)
        added[np.tril_indices(len(height))] = np.inf
        i, j = np.unravel_index(int(added.argmin()), added.shape)
        height[i], width[i] = max(height[i], height[j]), max(width[i], width[j])
        count[i] += count[j]
        height, width, count = (np.delete(values, j) for values in (height, width, count))
    return tuple(sorted({(int(h), int(w)) for h, w in zip(height, width, strict=True)}))


def shaped(predictor: Predictor, shapes: tuple[tuple[int, int], ...]) -> Predictor:
    """Return the predictor that sees images of these shapes only; images that fit none are predicted as they are.

    Args:
      predictor: sees the padded images.
      shapes: see :func:`plan_shapes`.

    Example:
      >>> seen = []
      >>> def record(batch):
      ...     seen.append(batch["image"].shape)
      ...     return {"label": batch["image"][..., 0].astype(np.int32)}
      >>> shaped(record, ((8, 8),))({"image": np.ones((1, 5, 7, 3), np.uint8)})["label"].shape, seen
      ((1, 5, 7), [(1, 8, 8, 3)])
    """

    def predict(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        height, width = batch["image"].shape[1:3]
        fitting = [shape for shape in shapes if shape[0] >= height and shape[1] >= width]
        if not fitting or (height, width) in fitting:
            return predictor(batch)
        rows, columns = min(fitting, key=lambda shape: shape[0] * shape[1])
        index = reflected(0, rows, height)[:, None], reflected(0, columns, width)
        found = predictor({**batch, "image": batch["image"][:, *index]})
        return {name: _cropped(name, value, (rows, columns), (height, width)) for name, value in found.items()}

    return predict


def _cropped(name: str, value: np.ndarray, shape: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Cut off what came of the padding; networks of valid convolutions return less than they are given."""
    if not is_map(name, value, shape):
        return value
    return value[:, : value.shape[1] - (shape[0] - size[0]), : value.shape[2] - (shape[1] - size[1])]
