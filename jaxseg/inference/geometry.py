"""Test-time geometry: do to an image what evaluation does (resize, bound, pad), and bring predictions back to its size.

The transforms are those of the recipe's validation split that move every image of a size alike; they are saved with the
model. What ``evaluate`` measures is so what ``predict`` shows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseg.data.transforms.frame import Frame, Geometric, frame_of
from jaxseg.errors import BadInput
from jaxseg.inference.predictor import Predictor, is_map
from jaxseg.types import PREDICTIONS, VOID, bare_key, beside


def fitting(geometry: tuple[Geometric, ...], height: int, width: int, *, mirrors: bool = False) -> tuple[Any, ...]:
    """Return the transforms that apply to an image of this size.

    Left out are those that refuse it, as ``PadTo`` refuses larger images: padding is there to make batches.

    Args:
      geometry: in order.
      height: of the image.
      width: of the image.
      mirrors: leave out all padding, for networks of valid convolutions, which are given the mirrored image
        (:func:`jaxseg.inference.tiling.overlap_tiles`).

    Example:
      >>> from jaxseg.data.transforms import PadTo, Resize
      >>> fitting((PadTo(64, 64), Resize(32, 32)), 100, 100)
      (Resize(height=32, width=32),)
    """
    kept, size = [], (height, width)
    for transform in geometry:
        try:
            frame = transform.frame(*size)
        except BadInput:
            continue
        pads = frame.scale == (1.0, 1.0) and frame.size[0] >= size[0] and frame.size[1] >= size[1]
        if not (mirrors and pads):
            kept.append(transform)
            size = frame.size
    return tuple(kept)


def with_geometry(predictor: Predictor, geometry: tuple[Geometric, ...], *, mirrors: bool = False) -> Predictor:
    """Return the predictor of images of any size whose inner one sees them as evaluation does.

    It is told the ``size`` [b 2] of what is image and not padding, as in evaluation.

    Args:
      predictor: sees the moved images.
      geometry: see :func:`jaxseg.inference.load.geometry_of`.
      mirrors: see :func:`fitting`.

    Example:
      >>> from jaxseg.data.transforms import Resize
      >>> def label(batch):
      ...     return {"label": batch["image"][..., 0].astype(np.int32)}
      >>> image = np.full((1, 4, 6, 3), 7, np.uint8)
      >>> with_geometry(label, (Resize(2, 3),))({"image": image})["label"].shape
      (1, 4, 6)
    """

    def predict(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        height, width = batch["image"].shape[1:3]
        transforms = fitting(geometry, height, width, mirrors=mirrors)
        if not transforms:
            return with_area(predictor(batch))
        frame = frame_of(transforms, height, width)
        moved = np.stack([_moved(image, transforms) for image in batch["image"]])
        sizes = np.asarray([image_size(frame, height, width)] * len(moved), np.int32)
        found = predictor({**batch, "image": moved, "size": sizes})
        return with_area({name: put_back(name, value, frame, (height, width)) for name, value in found.items()})

    return predict


def with_area(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the predictions with ``valid`` false for boxes without area.

    Anchors in the padding give such boxes: they are clipped to the image's edge.

    >>> boxes = np.asarray([[[0.0, 0.0, 2.0, 2.0], [1.0, 4.0, 3.0, 4.0]]])
    >>> with_area({"boxes": boxes, "valid": np.ones((1, 2), bool)})["valid"].tolist()
    [[True, False]]
    """
    done = dict(found)
    for name, boxes in found.items():
        valid = beside(name, "valid")
        if bare_key(name) == "boxes" and valid in found:
            done[valid] = found[valid] & (boxes[..., 2:] > boxes[..., :2]).all(-1)
    return done


def image_size(frame: Frame, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of a moved image that are image, not padding.

    >>> image_size(Frame((64, 64), (0.5, 0.5)), 100, 80)
    (50, 40)
    """
    sides = []
    for length, scale, offset, whole in zip((height, width), frame.scale, frame.offset, frame.size, strict=True):
        begin, end = max(0.0, offset), min(float(whole), offset + scale * length)
        sides.append(round(end) - round(begin))
    return sides[0], sides[1]


def put_back(name: str, value: np.ndarray, frame: Frame, size: tuple[int, int]) -> np.ndarray:
    """Return a prediction [b ...] on the image before it was moved.

    Maps of integers and booleans are sampled at the nearest pixel, maps of floats bilinearly (directions keep unit
    length); what a crop left out gets the key's fill. Boxes and points are scaled, and boxes clipped. Everything else
    stays.

    Args:
      name: the prediction's key.
      value: on the moved image.
      frame: where the image went.
      size: height and width before.

    Example:
      >>> frame = Frame((2, 2), scale=(0.5, 0.5))
      >>> put_back("boxes", np.asarray([[[0.0, 0.0, 1.0, 2.0]]]), frame, (4, 4)).tolist()
      [[[0.0, 0.0, 2.0, 4.0]]]
    """
    row = PREDICTIONS.get(bare_key(name))
    if is_map(name, value, frame.size):
        sampled = _bilinear if np.issubdtype(value.dtype, np.floating) else _nearest
        done = sampled(value, frame, size)
        if row is not None and row.is_direction:
            done = done / np.maximum(np.linalg.norm(done, axis=-1, keepdims=True), 1e-12).astype(done.dtype)
        fill = VOID if row is None and done.dtype.kind in "iu" else 0 if row is None or row.fill is None else row.fill
        for axis in (0, 1):
            centre = _centres(frame, size, axis)
            outside = (centre < 0) | (centre >= frame.size[axis])
            if outside.any():
                done[(slice(None),) * (axis + 1) + (outside,)] = np.asarray(fill, done.dtype)
        return done
    if row is None or not (row.is_box or row.is_points):
        return value
    (sy, sx), (oy, ox) = frame.scale, frame.offset
    if row.is_points:
        return ((value - np.asarray([ox, oy, 0])) / np.asarray([sx, sy, 1])).astype(value.dtype)
    moved = (value - np.asarray([ox, oy, ox, oy])) / np.asarray([sx, sy, sx, sy])
    return np.clip(moved, 0, np.asarray([size[1], size[0]] * 2)).astype(value.dtype)


def _moved(image: np.ndarray, transforms: tuple[Any, ...]) -> np.ndarray:
    record, rng = {"image": image}, np.random.default_rng(0)
    for transform in transforms:
        record = transform(record, rng)
    return record["image"]


def _centres(frame: Frame, size: tuple[int, int], axis: int) -> np.ndarray:
    """Where the centres of the image's pixels lie in the moved image, in pixel edges."""
    return (np.arange(size[axis]) + 0.5) * frame.scale[axis] + frame.offset[axis]


def _nearest(value: np.ndarray, frame: Frame, size: tuple[int, int]) -> np.ndarray:
    for axis in (0, 1):
        index = np.clip(np.floor(_centres(frame, size, axis)).astype(np.intp), 0, frame.size[axis] - 1)
        value = np.take(value, index, axis=axis + 1)
    return value


def _bilinear(value: np.ndarray, frame: Frame, size: tuple[int, int]) -> np.ndarray:
    """Samples between pixels of the image's own part: padding does not bleed in."""
    for axis in (0, 1):
        begin = max(0, int(np.floor(frame.offset[axis])))
        end = min(frame.size[axis], int(np.ceil(frame.offset[axis] + size[axis] * frame.scale[axis])))
        place = np.clip(_centres(frame, size, axis) - 0.5, begin, max(begin, end - 1))
        low = np.floor(place).astype(np.intp)
        high = np.minimum(low + 1, max(begin, end - 1))
        t = (place - low).astype(value.dtype).reshape((-1,) + (1,) * (value.ndim - axis - 2))
        a, b = np.take(value, low, axis=axis + 1), np.take(value, high, axis=axis + 1)
        value = a + (b - a) * t
    return value
