"""Crops around single objects and proposals. Reached through ``transforms``."""

from dataclasses import dataclass

import numpy as np

from jaxseg.data.records import Record, size
from jaxseg.data.transforms.moves import crop
from jaxseg.types import VOID

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CropObject:
    """Crop to a random object's box: DeconvNet's first stage (Noh et al. 2015, section 4.1).

    Reads ``instance_ids``. The box around the object's pixels is widened about its centre by ``margin`` on both sides
    and cut at the image's edge. An image without objects stays whole.

    Attributes:
      margin: sides of the crop over those of the object's box.
      alone: whether the pixels of all other objects become background, class 0, in the label; void stays void.

    >>> rng = np.random.default_rng(0)
    >>> ids = np.pad(np.ones((2, 2), np.uint16), 3)
    >>> record = {"label": ids.astype(np.uint8), "instance_ids": ids}
    >>> size(CropObject(margin=2.0)(record, rng))
    (4, 4)
    """

    margin: float | int = 1.2
    alone: bool = True

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record around a random object."""
        ids = record["instance_ids"]
        found = _objects(ids)
        if not len(found):
            return record
        mine = found[rng.integers(len(found))]
        x0, y0, x1, y1 = box_of(ids == mine)
        grow_x, grow_y = (x1 - x0) * (self.margin - 1) / 2, (y1 - y0) * (self.margin - 1) / 2
        if self.alone:
            label = record["label"]
            others = (ids != mine) & (ids != 0) & (label != VOID)
            record = {**record, "label": np.where(others, 0, label).astype(label.dtype)}
        return crop_box(record, (x0 - grow_x, y0 - grow_y, x1 + grow_x, y1 + grow_y))


@dataclass(frozen=True)
class CropProposal:
    """Crop to a random proposal that overlaps an object, keeping all labels: DeconvNet's second stage (section 4.1).

    Reads ``instance_ids``, and ``proposals`` where the record has them: one is drawn evenly from those whose
    intersection over union with some object's box is at least ``overlap``. A record without such a proposal stands in
    for one: an object is drawn, and its box shaken until it overlaps itself by as much. An image without objects stays
    whole.

    Attributes:
      overlap: least intersection over union.
      shake: how far each side of a box may move, as a share of the box.

    >>> rng = np.random.default_rng(0)
    >>> ids = np.pad(np.ones((2, 2), np.uint16), 3)
    >>> record = {"label": ids.astype(np.uint8), "instance_ids": ids}
    >>> box_of(CropProposal(overlap=0.9)(record, rng)["instance_ids"] == 1) is not None
    True
    """

    overlap: float | int = 0.5
    shake: float | int = 0.4

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record inside a random proposal."""
        ids = record["instance_ids"]
        boxes = np.asarray([box_of(ids == one) for one in _objects(ids)], np.float64)
        if not len(boxes):
            return record
        offered = record.get("proposals", np.zeros((0, 4)))[record.get("proposal_valid", slice(None))]
        good = offered[(overlaps(offered, boxes) >= self.overlap).any(1)]
        if len(good):
            return crop_box(record, tuple(good[rng.integers(len(good))].tolist()))
        box = boxes[rng.integers(len(boxes))]
        side = np.tile(box[2:] - box[:2], 2)
        while True:
            shaken = box + rng.uniform(-self.shake, self.shake, 4) * side
            if overlaps(shaken[None], box[None])[0, 0] >= self.overlap:
                return crop_box(record, tuple(shaken.tolist()))


def crop_box(record: Record, box: Box) -> Record:
    """Crop the record to a box x0 y0 x1 y1, widened to whole pixels and cut at the image's edge; at least one pixel.

    >>> size(crop_box({"label": np.zeros((9, 9))}, (1.5, 2.0, 4.5, 6.0)))
    (4, 4)
    """
    height, width = size(record)
    left, top = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    right, bottom = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    left, top = min(left, width - 1), min(top, height - 1)
    return crop(record, top, left, max(bottom - top, 1), max(right - left, 1))


def box_of(mask: np.ndarray) -> Box:
    """Return x0 y0 x1 y1 around the pixels of a non-empty mask bool[h w].

    >>> box_of(np.pad(np.ones((1, 2), bool), 1))
    (1.0, 1.0, 3.0, 2.0)
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union of every box of ``a`` [p 4] with every box of ``b`` [n 4], as [p n].

    >>> overlaps(np.asarray([[0.0, 0, 2, 2]]), np.asarray([[0.0, 0, 2, 4]])).tolist()
    [[0.5]]
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), -1)
    area_a, area_b = (np.prod(np.maximum(x[:, 2:] - x[:, :2], 0), -1) for x in (a, b))
    return shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-9)


def _objects(ids: np.ndarray) -> np.ndarray:
    """Return the ids of objects with at least one pixel."""
    found = np.unique(ids)
    return found[found > 0]
