"""Few compiled sizes for images of many sizes: pad to the nearest of a few shapes, crop the result.

Every size of image is compiled once, which takes seconds to a minute. On the padded image convolutions see zeros beyond
the image, as on the image alone (:mod:`jaxseg.inference.extent`): where a network consists of them, as U-Net does, the
result is the same. Global pooling and attention see the padding, and so labels may differ. Networks whose
standardisation is not known are given the image's reflection. Detectors are told which part is image, as in training.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import jax
import numpy as np

from jaxseg.inference.extent import EXTENT, conv_sizes, neutral_pixel
from jaxseg.inference.load import TrainedModel
from jaxseg.inference.predictor import Predictor, is_map, takes_size
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


def shaped(predictor: Predictor, shapes: tuple[tuple[int, int], ...], run: TrainedModel | None = None) -> Predictor:
    """Return the predictor that sees images of these shapes only; images that fit none are predicted as they are.

    Args:
      predictor: sees the padded images.
      shapes: see :func:`plan_shapes`.
      run: the model whose convolutions are to see the image alone; None pads by reflection.

    Example:
      >>> seen = []
      >>> def record(batch):
      ...     seen.append(batch["image"].shape)
      ...     return {"label": batch["image"][..., 0].astype(np.int32)}
      >>> shaped(record, ((8, 8),))({"image": np.ones((1, 5, 7, 3), np.uint8)})["label"].shape, seen
      ((1, 5, 7), [(1, 8, 8, 3)])
    """

    told = run is not None and takes_size(run)
    pixel = None if run is None else neutral_pixel(run.model)
    known: dict[tuple[int, ...], np.ndarray] = {}

    def sizes(shape: tuple[int, ...]) -> np.ndarray:
        assert run is not None
        if shape not in known:
            image = jax.ShapeDtypeStruct(shape, np.float32)
            known[shape] = conv_sizes(run.model, run.task, run.variables, image)
        return known[shape]

    def predict(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        height, width = batch["image"].shape[1:3]
        fitting = [shape for shape in shapes if shape[0] >= height and shape[1] >= width]
        if not fitting:
            return predictor(batch)
        rows, columns = min(fitting, key=lambda shape: shape[0] * shape[1])
        image = batch["image"]
        if told:
            canvas = np.zeros((len(image), rows, columns, image.shape[-1]), image.dtype)
            canvas[:, :height, :width] = image
            size = batch.get("size", np.asarray([[height, width]] * len(image), np.int32))
            found = predictor({**batch, "image": canvas, "size": size})
        elif pixel is not None and image.dtype == np.uint8 and len(pixel) == image.shape[-1]:
            canvas = np.empty((len(image), rows, columns, len(pixel)), np.float32)
            canvas[:] = pixel
            canvas[:, :height, :width] = image
            found = predictor({**batch, "image": canvas, EXTENT: sizes(image.shape)})
        else:
            index = reflected(0, rows, height)[:, None], reflected(0, columns, width)
            found = predictor({**batch, "image": image[:, *index]})
        return {name: _cropped(name, value, (rows, columns), (height, width)) for name, value in found.items()}

    return predict


def _cropped(name: str, value: np.ndarray, shape: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Cut off what came of the padding; networks of valid convolutions return less than they are given."""
    if not is_map(name, value, shape):
        return value
    return value[:, : value.shape[1] - (shape[0] - size[0]), : value.shape[2] - (shape[1] - size[1])]
