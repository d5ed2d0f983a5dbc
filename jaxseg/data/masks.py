"""Many masks in two maps of ids, and masks that are told apart by what they cover.

Two maps hold what box-relative masks would, at a tenth of the size where objects are many, and they move exactly under
any transform: who owns a pixel, and who is next behind. A third object at a pixel is not kept there; ``rle`` has it.
"""

from collections.abc import Sequence

import numpy as np

from jaxseg.data.objects import boxes_of
from jaxseg.ops import rle
from jaxseg.ops.rle import Rle


def id_maps(
    masks: Sequence[Rle | None], height: int, width: int, *, ranks: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``instance_ids`` and ``hidden_ids``, u16[h w]: 1 + number of the mask in front, and of the next behind.

    Args:
      masks: of the objects; None for one without.
      height: of the image.
      width: of the image.
      ranks: the mask of the higher rank is in front. None: of two masks the one of fewer pixels is, so that none
        vanishes; of equal ones, the later.

    >>> front, behind = id_maps([rle.encode([[0, 1]]), rle.encode([[1, 1]]), None], 1, 2)
    >>> front.tolist(), behind.tolist()
    ([[2, 1]], [[0, 2]])
    """
    front, behind = np.zeros(height * width, np.uint16), np.zeros(height * width, np.uint16)
    sizes = [-1 if mask is None else rle.area(mask) for mask in masks]
    heights = [-size for size in sizes] if ranks is None else ranks
    for number in sorted(range(len(masks)), key=lambda number: heights[number]):
        mask = masks[number]
        if mask is None or not sizes[number]:
            continue
        ends = np.cumsum(mask.counts)  # column by column
        first, last = int(ends[0]), int(ends[len(ends) // 2 * 2 - 1])
        runs = mask.counts[1 : len(ends) // 2 * 2]
        mine = np.repeat(np.arange(len(runs)) % 2 == 0, runs)
        behind[first:last][mine] = front[first:last][mine]
        front[first:last][mine] = number + 1
    maps = (np.ascontiguousarray(ids.reshape(width, height).T) for ids in (front, behind))
    return next(maps), next(maps)


def match_segments(
    segments: np.ndarray,
    kinds: Sequence[tuple[int, bool]],
    masks: Sequence[Rle | None],
    boxes: np.ndarray,
    objects: Sequence[tuple[int, bool]],
) -> list[int | None]:
    """Return which object each segment of a panoptic map shows: of the same class, each object once, best first.

    A segment is the part of an object that others leave: how much of it lies in the object's mask counts, and their
    intersection over union. Of an object without a mask the box is compared with the segment's.

    Args:
      segments: i32[h w], the number of each pixel's segment, from 1.
      kinds: class and crowd of the segments.
      masks: of the objects.
      boxes: f32[n 4] of the objects.
      objects: class and crowd of the objects.

    >>> match_segments(np.asarray([[1, 1, 2]]), [(5, False), (5, False)], [rle.encode([[0, 0, 1]])],
    ...     np.asarray([[2, 0, 3, 1]]), [(5, False)])
    [None, 0]
    """
    count = len(kinds)
    pixels = np.bincount(segments.ravel(), minlength=count + 1)[1:]
    outlines = boxes_of(segments, count)
    scores = []
    for number, kind in enumerate(objects):
        mask = masks[number]
        if mask is not None:
            inside = np.bincount(segments[rle.decode(mask)], minlength=count + 1)[1:]
            score = inside / np.maximum(pixels, 1) + inside / np.maximum(pixels + rle.area(mask) - inside, 1)
        else:
            score = _overlaps(outlines, boxes[number])
        scores += [(float(score[j]), j, number) for j in range(count) if kinds[j] == kind and score[j] > 0]
    found: list[int | None] = [None] * count
    taken = set()
    for _, segment, number in sorted(scores, key=lambda row: (-row[0], row[1], row[2])):
        if found[segment] is None and number not in taken:
            found[segment] = number
            taken.add(number)
    return found


def _overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return f64[count], the intersection over union of boxes x0 y0 x1 y1 [count 4] with one."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1, dtype=np.float64)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, dtype=np.float64)
    return shared / (areas + np.prod(box[2:] - box[:2]) - shared)
