"""Put objects that were found in overlapping tiles together: each object once, whole.

Tiles overlap their neighbours by twice their margin. Detections of two tiles are the same object if they have the same
class and, within the part of the image that both tiles see, their masks (or boxes, where there are no masks) overlap
by an IoU of at least ``overlap``. A detection that touches a border of its tile which is none of the image is cut:

1. Of whole detections of one object the one of the highest score stays.
2. Cut ones go where another tile sees the object whole: there the whole one covers most of the cut one.
3. Cut ones that are left and are the same object are stitched: their masks are united, the box spans their boxes,
   the score is the best, and of each joint the best stays.
4. A cut one without any counterpart stays if its centre lies where its own tile decides; elsewhere a tile that sees
   more has not found it.

So objects smaller than the overlap of tiles are seen whole at least once; larger ones are stitched from their parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.ops.paste import paste_window
from jaxseg.types import PREDICTIONS, bare_key, beside

TOUCH = 4.0
"""A box that ends within so many pixels of its tile's border is cut by it."""


@dataclass(frozen=True)
class Seen:
    """What a tile sees of the image.

    Attributes:
      first_row: first row of the image that it sees.
      first_column: first column.
      height: rows that it sees.
      width: columns that it sees.
      rows: those that it decides.
      columns: those that it decides.

    >>> Seen(0, 32, 64, 64, slice(0, 48), slice(48, 80)).edges
    (32, 0, 96, 64)
    """

    first_row: int
    first_column: int
    height: int
    width: int
    rows: slice
    columns: slice

    @property
    def edges(self) -> tuple[int, int, int, int]:
        """x0 y0 x1 y1 in the image."""
        return self.first_column, self.first_row, self.first_column + self.width, self.first_row + self.height


def objects_of(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the predictions that lie in slots of objects, of each task that has their boxes, scores and validity.

    >>> found = dict.fromkeys(("boxes", "scores", "valid", "masks", "label"), np.zeros(1))
    >>> list(objects_of(found)), list(objects_of({"boxes": np.zeros(1)}))
    (['boxes', 'scores', 'valid', 'masks'], [])
    """
    slots = {name for name in found if (row := PREDICTIONS.get(bare_key(name))) is not None and row.slots == "d"}
    whole = {name for name in slots if all(beside(name, key) in found for key in ("boxes", "scores", "valid"))}
    return {name: value for name, value in found.items() if name in whole}


def stitched(
    found: Sequence[Mapping[str, np.ndarray]],
    tiles: Sequence[Seen],
    size: tuple[int, int],
    *,
    slots: int | None = None,
    overlap: float = 0.5,
) -> dict[str, np.ndarray]:
    """Return the objects of an image from those of its tiles, best first, in slots of the whole image.

    Args:
      found: of each tile ``boxes``, ``scores``, ``valid`` and what else there is in slots, arrays ``[b d ...]``, boxes
        and keypoints in pixels of the tile.
      tiles: what each of them sees.
      size: height and width of the image.
      slots: of the result, the best objects; None takes as many as all tiles have together.
      overlap: least IoU of two detections of one object.

    Returns:
      The same keys, ``[b slots ...]``, boxes and keypoints in pixels of the image; and where there are masks
      ``instance_ids`` u16[b h w], 1 + slot of the object in front.

    >>> left = {"boxes": np.asarray([[[40.0, 5, 64, 15]]]), "scores": np.ones((1, 1)), "valid": np.ones((1, 1), bool)}
    >>> right = {**left, "boxes": np.asarray([[[8.0, 5, 48, 15]]])}
    >>> tiles = [Seen(0, 0, 32, 64, slice(0, 32), slice(0, 48)), Seen(0, 32, 32, 64, slice(0, 32), slice(48, 96))]
    >>> whole = stitched([left, right], tiles, (32, 96), slots=1)
    >>> whole["boxes"].tolist(), whole["valid"].tolist()
    ([[[40.0, 5.0, 80.0, 15.0]]], [[True]])
    """
    prefixes = [beside(name, "") for name in found[0] if bare_key(name) == "boxes"]
    whole: dict[str, np.ndarray] = {}
    for prefix in prefixes:
        own = [{bare_key(k): v for k, v in part.items() if beside(k, "") == prefix} for part in found]
        count = slots if slots is not None else sum(part["boxes"].shape[1] for part in own)
        rows = []
        for i in range(len(own[0]["boxes"])):
            one = [{key: value[i] for key, value in part.items()} for part in own]
            rows.append(_in_slots(_merged(one, tiles, size, overlap), one[0], size, count))
        whole |= {prefix + key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return whole


@dataclass
class _Object:
    """A detection in pixels of the image: its numbers, its mask on a window, its tile and whether that cuts it."""

    values: dict[str, np.ndarray]
    tile: int
    cut: bool
    window: np.ndarray | None
    top: int
    left: int

    @property
    def box(self) -> np.ndarray:
        return self.values["boxes"]

    @property
    def score(self) -> float:
        return float(self.values["scores"])

    def part(self, area: tuple[int, int, int, int]) -> np.ndarray:
        """Return the mask within an area of the image x0 y0 x1 y1, bool."""
        x0, y0, x1, y1 = area
        part = np.zeros((max(0, y1 - y0), max(0, x1 - x0)), bool)
        assert self.window is not None
        h, w = self.window.shape
        a, b = max(y0, self.top), min(y1, self.top + h)
        c, d = max(x0, self.left), min(x1, self.left + w)
        if a < b and c < d:
            part[a - y0 : b - y0, c - x0 : d - x0] = self.window[
                a - self.top : b - self.top, c - self.left : d - self.left
            ]
        return part


def _objects(part: dict[str, np.ndarray], number: int, tile: Seen, size: tuple[int, int]) -> list[_Object]:
    """Return the detections of a tile in pixels of the image."""
    x0, y0, x1, y1 = tile.edges
    inner = np.asarray([x0 > 0, y0 > 0, x1 < size[1], y1 < size[0]])
    objects = []
    for slot in np.flatnonzero(part["valid"]).tolist():
        values = {key: value[slot] for key, value in part.items() if key != "valid"}
        values["boxes"] = values["boxes"] + np.asarray([x0, y0, x0, y0], values["boxes"].dtype)
        if "keypoints" in values:
            values["keypoints"] = values["keypoints"] + np.asarray([x0, y0, 0], values["keypoints"].dtype)
        cut = bool((inner & (np.abs(values["boxes"] - np.asarray(tile.edges)) <= TOUCH)).any())
        window, top, left = None, 0, 0
        if "masks" in values:
            window, top, left = paste_window(values["masks"], values["boxes"], *size, rule="detectron2")
        objects.append(_Object(values, number, cut, window, top, left))
    return objects


def _merged(
    parts: list[dict[str, np.ndarray]], tiles: Sequence[Seen], size: tuple[int, int], overlap: float
) -> list[_Object]:
    """Return every object of an image once."""
    objects = [
        one for n, (part, tile) in enumerate(zip(parts, tiles, strict=True)) for one in _objects(part, n, tile, size)
    ]
    objects.sort(key=lambda one: -one.score)
    same = _counterparts(objects, tiles, overlap)
    kept: list[_Object] = []
    whole = [i for i, one in enumerate(objects) if not one.cut]
    chosen: set[int] = set()
    for i in whole:
        if not same[i] & chosen:
            chosen.add(i)
            kept.append(objects[i])
    waiting = {i for i, one in enumerate(objects) if one.cut and not any(not objects[j].cut for j in same[i])}
    while waiting:
        group, todo = set(), [min(waiting)]
        while todo:
            i = todo.pop()
            if i in waiting:
                waiting.remove(i)
                group.add(i)
                todo += same[i]
        members = [objects[i] for i in sorted(group)]
        if len(members) > 1:
            kept.append(_united(members))
        elif _decides(tiles[members[0].tile], members[0].box):
            kept.append(members[0])
    return sorted(kept, key=lambda one: -one.score)


def _counterparts(objects: list[_Object], tiles: Sequence[Seen], overlap: float) -> list[set[int]]:
    """Return for each detection the numbers of those of other tiles that are the same object."""
    same: list[set[int]] = [set() for _ in objects]
    boxes = np.asarray([one.box for one in objects], np.float64).reshape(-1, 4)
    for i, one in enumerate(objects):
        low, high = np.maximum(boxes[:, :2], boxes[i, :2]), np.minimum(boxes[:, 2:], boxes[i, 2:])
        for j in np.flatnonzero((low < high).all(1)).tolist():
            other = objects[j]
            if j > i and one.tile != other.tile and one.values.get("classes", 0) == other.values.get("classes", 0):
                a, b = tiles[one.tile].edges, tiles[other.tile].edges
                both = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
                if _alike(one, other, both, overlap):
                    same[i].add(j)
                    same[j].add(i)
    return same


def _alike(one: _Object, other: _Object, both: tuple[int, int, int, int], overlap: float) -> bool:
    """Return True if two detections are one object, by what lies in the area that both tiles see."""
    if both[0] >= both[2] or both[1] >= both[3]:
        return False
    if one.window is not None:
        first, second = one.part(both), other.part(both)
        areas, shared = (float(first.sum()), float(second.sum())), float((first & second).sum())
    else:
        edges = np.asarray(both, np.float64)
        first, second = (_within(np.asarray(x.box, np.float64), edges) for x in (one, other))
        areas, shared = (_area(first), _area(second)), _area(_within(first, second))
    if not shared:
        return False
    if one.cut != other.cut:
        areas = (areas[0], areas[0]) if one.cut else (areas[1], areas[1])
        return shared >= overlap * areas[0]
    return shared >= overlap * (sum(areas) - shared)


def _within(box: np.ndarray, area: np.ndarray) -> np.ndarray:
    return np.concatenate([np.maximum(box[:2], area[:2]), np.minimum(box[2:], area[2:])])


def _area(box: np.ndarray) -> float:
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))


def _decides(tile: Seen, box: np.ndarray) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return bool(tile.columns.start <= x <= tile.columns.stop and tile.rows.start <= y <= tile.rows.stop)


def _united(members: list[_Object]) -> _Object:
    """Return one object of several parts, the best of them first."""
    values = dict(members[0].values)
    boxes = np.stack([one.box for one in members])
    values["boxes"] = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    if "keypoints" in values:
        points = np.stack([one.values["keypoints"] for one in members])
        best = points[..., 2].argmax(0)
        values["keypoints"] = points[best, np.arange(points.shape[1])]
    window, top, left = None, 0, 0
    if members[0].window is not None:
        sizes = [one.window.shape for one in members if one.window is not None]
        top, left = min(one.top for one in members), min(one.left for one in members)
        bottom = max(one.top + h for one, (h, _) in zip(members, sizes, strict=True))
        right = max(one.left + w for one, (_, w) in zip(members, sizes, strict=True))
        window = np.logical_or.reduce([one.part((left, top, right, bottom)) for one in members])
        values["masks"] = resampled(window, values["boxes"] - np.asarray([left, top] * 2), values["masks"].shape[0])
    return _Object(values, members[0].tile, False, window, top, left)


def resampled(mask: Any, box: Any, side: int) -> np.ndarray:
    """Return a mask within its box: the share of each of ``side`` by ``side`` cells that it fills, float32 ``[m m]``.

    >>> resampled([[True, False, False, False]], [0, 0, 4, 1], 2).tolist()
    [[0.5, 0.0], [0.5, 0.0]]

    Args:
      mask: bool ``[h w]``; outside it is empty.
      box: ``x0 y0 x1 y1`` in its pixels.
      side: m.
    """
    values = np.asarray(mask, np.float64)
    x0, y0, x1, y1 = (float(v) for v in box)
    for axis, (low, high) in enumerate(((y0, y1), (x0, x1))):
        sums = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis)], axis)
        at = np.clip(np.linspace(low, high, side + 1), 0, sums.shape[axis] - 1)
        below = np.minimum(np.floor(at).astype(np.intp), max(sums.shape[axis] - 2, 0))
        rest = (at - below).reshape((-1, 1) if axis == 0 else (1, -1))
        edge = sums.take(below, axis) * (1 - rest) + sums.take(below + 1, axis) * rest
        values = np.diff(edge, axis=axis) * side / max(high - low, 1e-9)
    return np.clip(values, 0, 1).astype(np.float32)


def _in_slots(
    objects: list[_Object], example: Mapping[str, np.ndarray], size: tuple[int, int], count: int
) -> dict[str, np.ndarray]:
    """Return the best objects in slots, free ones zero, and the map of them where they have masks."""
    kept = objects[:count]
    found: dict[str, np.ndarray] = {"valid": np.arange(count) < len(kept)}
    for key, value in example.items():
        if key != "valid":
            found[key] = np.zeros((count, *value.shape[1:]), value.dtype)
            for slot, one in enumerate(kept):
                found[key][slot] = one.values[key]
    if "masks" in example:
        found["instance_ids"] = np.zeros(size, np.uint16)
        for slot, one in reversed(list(enumerate(kept))):
            assert one.window is not None
            h, w = one.window.shape
            found["instance_ids"][one.top : one.top + h, one.left : one.left + w][one.window] = slot + 1
    return found
