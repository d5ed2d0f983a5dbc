"""Objects as builders store them: boxes, classes, areas, and a map of ids where objects do not overlap."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from scipy import ndimage

from jaxseg.data.records import Record, decode_image


def features(*, ids: bool = True, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Return the TFDS features of objects: boxes, classes, area and what is asked for.

    Args:
      ids: a map of ids, u16 [h w].
      flags: what is true or false of each object, ``crowd`` or ``difficult``.

    >>> sorted(features())
    ['area', 'boxes', 'classes', 'instance_ids']
    """
    found: dict[str, Any] = {
        "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
        "classes": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "area": tfds.features.Tensor(shape=(None,), dtype=np.float32),
    }
    found |= {flag: tfds.features.Tensor(shape=(None,), dtype=np.bool_) for flag in flags}
    if ids:
        found["instance_ids"] = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16)
    return found


def to_record(example: Mapping[str, Any], encoded: Sequence[str]) -> Record:
    """Return the record of what was read: the encoded pictures decoded, everything else as it is.

    >>> to_record({"boxes": np.zeros((0, 4), np.float32)}, ("image",))["boxes"].shape
    (0, 4)
    """
    return {key: decode_image(value) if key in encoded else value for key, value in example.items()}


def with_panoptic(record: Record) -> Record:
    """Add ``panoptic`` where label and ids are there: the class of each pixel, and the object that it belongs to.

    >>> one = np.ones((1, 2), np.uint8)
    >>> with_panoptic({"label": 3 * one, "instance_ids": one})["panoptic"].tolist()
    [[[3, 1], [3, 1]]]
    """
    if "label" not in record or "instance_ids" not in record:
        return record
    return {**record, "panoptic": np.stack([record["label"], record["instance_ids"]], -1, dtype=np.int32)}


def from_ids(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, Record]:
    """Number the objects of a map without gaps and measure them.

    Args:
      ids: [h w], any numbers; 0 is no object.

    Returns:
      The numbers that the map had, in rising order; the map u16 [h w] with 1, 2, ... in their place; and the objects'
      ``boxes`` f32 [n 4] around their pixels and ``area`` f32 [n] in pixels.

    >>> numbers, ids, objects = from_ids(np.asarray([[0, 7, 7], [3, 0, 7]]))
    >>> numbers.tolist(), ids.tolist()
    ([3, 7], [[0, 2, 2], [1, 0, 2]])
    >>> objects["boxes"].tolist(), objects["area"].tolist()
    ([[0.0, 1.0, 1.0, 2.0], [1.0, 0.0, 3.0, 2.0]], [1.0, 3.0])
    """
    numbers = np.unique(ids)
    numbers = numbers[numbers != 0]
    compact = np.where(ids == 0, 0, np.searchsorted(numbers, ids) + 1).astype(np.uint16)
    area = np.bincount(compact.ravel(), minlength=len(numbers) + 1)[1:].astype(np.float32)
    return numbers, compact, {"boxes": boxes_of(compact, len(numbers)), "area": area}


def boxes_of(ids: np.ndarray, count: int) -> np.ndarray:
    """Return f32 [n 4], the boxes around the pixels of the objects 1 to ``count``; zeros for one without a pixel.

    >>> boxes_of(np.asarray([[0, 2], [0, 2]]), 2).tolist()
    [[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 2.0, 2.0]]
    """
    boxes = np.zeros((count, 4), np.float32)
    found = ndimage.find_objects(np.asarray(ids, np.int32), count) if count else []
    for slot, place in enumerate(found):
        if place is not None:
            rows, columns = place
            boxes[slot] = columns.start, rows.start, columns.stop, rows.stop
    return boxes
