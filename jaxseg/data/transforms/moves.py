"""Move a whole record on the pixel grid: flip, quarter turns, resize, crop, pad.

How a key moves follows from its row of the vocabulary (:class:`jaxseg.types.Key`): maps with the pixels, boxes and
points by their coordinates, unit vectors turn, everything else stays. Depth is metres and a zoom does not change it:
scaling an image stands for a longer focal length, not for a shorter distance.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects

from jaxseg.data.records import Record, known, size
from jaxseg.data.slots import pixels_of
from jaxseg.errors import BadInput
from jaxseg.types import BATCH, Key, beside

Points = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""x and y, in pixels, to where they go."""


def flip(record: Record, swap: tuple[tuple[int, int], ...] = ()) -> Record:
    """Mirror the record: left becomes right.

    Args:
      record: any record.
      swap: pairs of joint numbers that change places.

    >>> flip({"image": np.zeros((1, 4, 3), np.uint8), "boxes": np.asarray([[0, 0, 1, 1]])})["boxes"].tolist()
    [[3, 0, 4, 1]]
    """
    width = size(record)[1]

    def boxes(array: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = np.moveaxis(array, -1, 0)
        return np.stack([width - x1, y0, width - x0, y1], -1)

    def points(array: np.ndarray) -> np.ndarray:
        moved = _map_points(array, lambda x, y: (width - x, y))
        for left, right in swap:
            if max(left, right) >= array.shape[1]:
                raise BadInput(f"swap=({left}, {right}) of a flip, but there are {array.shape[1]} joints, from 0")
            moved[:, [left, right]] = moved[:, [right, left]]
        return moved

    return hide_empty(
        move(
            record,
            maps=lambda _, array: array[:, ::-1],
            directions=lambda array: array * np.asarray([-1, 1, 1], np.float32),
            boxes=boxes,
            points=points,
        )
    )


def rotate90(record: Record, turns: int) -> Record:
    """Turn the record counter-clockwise by ``turns`` quarter turns (as ``np.rot90``).

    >>> rotate90({"label": np.asarray([[1, 2]])}, 1)["label"].tolist()
    [[2], [1]]
    """
    for _ in range(turns % 4):
        record = _quarter_turn(record)
    return record


def resize(record: Record, height: int, width: int) -> Record:
    """Scale the record to another size: image bilinear (averaging when it shrinks), the other maps nearest.

    Boxes are scaled as they are, since annotated boxes are not always tight around annotated masks.

    >>> resize({"image": np.zeros((4, 6, 13), np.uint16)}, 8, 3)["image"].shape
    (8, 3, 13)
    """
    old_height, old_width = size(record)
    if (height, width) == (old_height, old_width):
        return record
    rows = np.minimum(((np.arange(height) + 0.5) * (old_height / height)).astype(np.intp), old_height - 1)
    columns = np.minimum(((np.arange(width) + 0.5) * (old_width / width)).astype(np.intp), old_width - 1)
    scale_x, scale_y = width / old_width, height / old_height
    scale = np.asarray([scale_x, scale_y, scale_x, scale_y], np.float32)
    limit = np.asarray([width, height, width, height], np.float32)  # which the product may pass in its last bit

    def maps(row: Key, array: np.ndarray) -> np.ndarray:
        return resize_image(array, height, width) if row is BATCH["image"] else array[rows][:, columns]

    return move(
        record,
        maps=maps,
        boxes=lambda array: np.minimum(array * scale, limit),
        points=lambda array: _map_points(array, lambda x, y: (x * scale_x, y * scale_y)),
    )


def zoom(record: Record, factor: float) -> Record:
    """Scale the record as a camera of the same focal length would see it come nearer: depth is divided by the factor.

    Space is so squeezed along the optical axis, and normals turn with it. :func:`resize` stands for a longer focal
    length instead, which changes neither.

    >>> zoom({"depth": np.full((1, 2), 3.0, np.float32)}, 1.5)["depth"].tolist()
    [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]

    Reference:
      Eigen et al. 2014, arXiv:1406.2283, section 3.3.
    """
    height, width = size(record)
    done = resize(record, max(1, round(height * factor)), max(1, round(width * factor)))
    for name, row in known(dict(done)):
        if row is BATCH["depth"]:
            done[name] = done[name] / np.float32(factor)
        elif row.is_direction:
            turned = done[name] * np.asarray([1, 1, factor], np.float32)
            done[name] = turned / np.maximum(np.linalg.norm(turned, axis=-1, keepdims=True), 1e-12).astype(np.float32)
    return done


def crop(record: Record, top: int, left: int, height: int, width: int) -> Record:
    """Cut out that rectangle, which must lie inside the image.

    Objects that are wholly outside keep their row, with ``valid`` false; boxes that are cut are clipped, or follow the
    visible pixels where the object has some in ``instance_ids``; keypoints outside become absent.

    >>> crop({"label": np.asarray([[1, 2, 3]])}, 0, 1, 1, 2)["label"].tolist()
    [[2, 3]]
    """
    if (top, left, height, width) == (0, 0, *size(record)):
        return record
    moved = _shifted(record, lambda _, array: array[top : top + height, left : left + width], -left, -top)
    clipped = clip(moved)
    cut = {name: (moved[name] != clipped[name]).any(1) for name, row in known(moved) if row is BATCH["boxes"]}
    return refit_boxes(clipped, record, cut)


def pad(record: Record, top: int, bottom: int, left: int, right: int) -> Record:
    """Pad the record: black image, void label, false masks (:attr:`jaxseg.types.Key.fill`).

    >>> pad({"label": np.asarray([[1, 2]])}, 0, 0, 1, 0)["label"].tolist()
    [[255, 1, 2]]
    """
    if not (top or bottom or left or right):
        return record
    height, width = size(record)
    inside = (slice(top, top + height), slice(left, left + width))
    canvas = (height + top + bottom, width + left + right)

    def maps(row: Key, array: np.ndarray) -> np.ndarray:
        new = np.empty((*canvas, *array.shape[2:]), array.dtype)
        new[...] = row.fill
        new[inside] = array
        return new

    known_inside = np.zeros(canvas, bool)
    known_inside[inside] = True
    return with_masks(_shifted(record, maps, left, top), known_inside)


def move(
    record: Record,
    *,
    maps: Callable[[Key, np.ndarray], np.ndarray],
    boxes: Callable[[np.ndarray], np.ndarray],
    points: Callable[[np.ndarray], np.ndarray],
    directions: Callable[[np.ndarray], np.ndarray] = lambda array: array,
) -> Record:
    """Move every key of a record according to its axes; keys without geometry stay.

    Args:
      record: any record.
      maps: moves a map [h w ...]; given its row of the vocabulary for what to fill in.
      boxes: moves x0 y0 x1 y1 [... 4].
      points: moves x, y and a third value [... j 3].
      directions: turns the vectors of a map that has been moved, [h w 3].

    >>> def left(array):
    ...     return array - np.asarray([1, 0, 1, 0])
    >>> record = {"label": np.asarray([[1, 2]]), "boxes": np.asarray([[1, 0, 2, 1]])}
    >>> moved = move(record, maps=lambda row, array: array[:, 1:], boxes=left, points=lambda array: array)
    >>> moved["boxes"].tolist()
    [[0, 0, 1, 1]]
    """
    done = dict(record)
    for name, row in known(record):
        if row.is_map:
            done[name] = maps(row, record[name])
            if row.is_direction:
                done[name] = directions(done[name])
        elif row.is_box:
            done[name] = boxes(record[name])
        elif row.is_points:
            done[name] = points(record[name])
    return done


def with_masks(record: Record, inside: np.ndarray) -> Record:
    """Add the mask of every masked map that has none: true where ``inside`` bool[h w] is.

    >>> with_masks({"depth": np.ones((1, 2))}, np.asarray([[True, False]]))["depth_valid"].tolist()
    [[True, False]]
    """
    done = dict(record)
    for name, row in known(record):
        if row.is_map and row.mask and beside(name, row.mask) not in record:
            done[beside(name, row.mask)] = inside
    return done


def refit_boxes(record: Record, before: Record | None = None, cut: Mapping[str, np.ndarray] | None = None) -> Record:
    """Refit boxes to the pixels of each object, where the record has ``instance_ids``.

    Objects without a pixel become invalid; crowds keep their box, and so do objects that had no pixel before.

    Args:
      record: any record; pixels that an object has behind others (``hidden_ids``) count.
      before: the record before it was moved; None stands for one in which every object had pixels.
      cut: which boxes are refitted, bool[n] by the key of the boxes; the default is all.

    >>> record = {"boxes": np.zeros((1, 4), np.float32), "instance_ids": np.asarray([[0, 1], [0, 1]])}
    >>> refit_boxes(record)["boxes"].tolist()
    [[1.0, 0.0, 2.0, 2.0]]
    """
    done = dict(record)
    for name, row in known(record):
        if row is not BATCH["boxes"] or beside(name, "instance_ids") not in record:
            continue
        count = len(record[name])
        which = ~record.get(beside(name, "crowd"), np.zeros(count, bool))
        if cut is not None:
            which &= cut[name]
        if before is not None and which.any():
            pixels = pixels_of(before, name)
            which &= True if pixels is None else pixels > 0
        if which.any():
            maps = [record[key] for key in (beside(name, "instance_ids"), beside(name, "hidden_ids")) if key in record]
            done[name] = np.where(which[:, None], _tight_boxes(maps, count), record[name]).astype(record[name].dtype)
    return hide_empty(done)


def hide_empty(record: Record) -> Record:
    """Mark boxes without area as invalid.

    >>> hide_empty({"boxes": np.asarray([[0, 0, 2, 2], [3, 3, 3, 9]])})["valid"].tolist()
    [True, False]
    """
    done = dict(record)
    for name, row in known(record):
        if row.is_box and row.mask:
            x0, y0, x1, y1 = np.moveaxis(record[name], -1, 0)
            mask = beside(name, row.mask)
            done[mask] = (x1 > x0) & (y1 > y0) & record.get(mask, True)
    return done


def hide_lost(record: Record, before: Record) -> Record:
    """Mark objects as invalid that had pixels in the id maps before a move and have none any more.

    >>> boxes = np.asarray([[0, 0, 2, 2], [0, 0, 9, 9]])
    >>> before = {"boxes": boxes, "instance_ids": np.asarray([[1, 2]])}
    >>> hide_lost({"boxes": boxes, "instance_ids": np.asarray([[2]])}, before)["valid"].tolist()
    [False, True]
    """
    done = dict(record)
    for name, row in known(record):
        if row is BATCH["boxes"]:
            had, has = pixels_of(before, name), pixels_of(record, name)
            if had is not None and has is not None:
                valid = beside(name, "valid")
                done[valid] = ((had == 0) | (has > 0)) & record.get(valid, True)
    return done


def clip(record: Record) -> Record:
    """Clip boxes to the image and mark keypoints outside as absent.

    >>> clip({"label": np.zeros((4, 6)), "boxes": np.asarray([[-2, 1, 9, 3]])})["boxes"].tolist()
    [[0.0, 1.0, 6.0, 3.0]]
    """
    height, width = size(record)
    limit = np.asarray([width, height, width, height], np.float32)

    def points(array: np.ndarray) -> np.ndarray:
        x, y, _ = np.moveaxis(array, -1, 0)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return np.where(inside[..., None], array, 0).astype(np.float32)

    return move(
        record,
        maps=lambda _, array: array,
        boxes=lambda array: np.minimum(np.maximum(array, 0), limit).astype(np.float32),
        points=points,
    )


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale an image [h w c] of any dtype and number of channels: bilinear, averaging when it shrinks.

    >>> resize_image(np.asarray([[[0.0], [1.0]]], np.float32), 1, 4).ravel().tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    bilinear = Image.Resampling.BILINEAR
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), bilinear))
    bands = [
        np.asarray(Image.fromarray(np.ascontiguousarray(band, np.float32)).resize((width, height), bilinear))
        for band in np.moveaxis(image, -1, 0)
    ]
    scaled = np.stack(bands, -1)
    return scaled if image.dtype.kind == "f" else np.rint(scaled).astype(image.dtype)


def _tight_boxes(maps: list[np.ndarray], count: int) -> np.ndarray:
    """Return f32[n 4] around the pixels of the objects 1..n in any of the id maps; zeros where there is none."""
    low, high = np.full((count, 2), np.inf, np.float32), np.zeros((count, 2), np.float32)
    for ids in maps:
        for slot, found in enumerate(find_objects(ids.astype(np.int32), count)):
            if found is not None:
                rows, columns = found
                low[slot] = np.minimum(low[slot], (columns.start, rows.start))
                high[slot] = np.maximum(high[slot], (columns.stop, rows.stop))
    return np.concatenate([np.minimum(low, high), high], 1)


def _quarter_turn(record: Record) -> Record:
    width = size(record)[1]

    def directions(normal: np.ndarray) -> np.ndarray:
        # x' = y, y' = -x: what pointed right now points up, and y points down
        return np.stack([normal[..., 1], -normal[..., 0], normal[..., 2]], -1)

    def boxes(array: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = np.moveaxis(array, -1, 0)
        return np.stack([y0, width - x1, y1, width - x0], -1)

    return move(
        record,
        maps=lambda _, array: np.rot90(array),
        directions=directions,
        boxes=boxes,
        points=lambda array: _map_points(array, lambda x, y: (y, width - x)),
    )


def _shifted(record: Record, maps: Callable[[Key, np.ndarray], np.ndarray], dx: int, dy: int) -> Record:
    return move(
        record,
        maps=maps,
        boxes=lambda array: array + np.asarray([dx, dy, dx, dy], np.float32),
        points=lambda array: _map_points(array, lambda x, y: (x + dx, y + dy)),
    )


def _map_points(points: np.ndarray, place: Points) -> np.ndarray:
    x, y, visibility = np.moveaxis(points, -1, 0)
    moved = np.stack([*place(x, y), visibility], -1).astype(np.float32)
    return np.where(visibility[..., None] > 0, moved, 0).astype(np.float32)
