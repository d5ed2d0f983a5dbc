"""Geometry on the pixel grid: flips, quarter turns, scaling, cropping, padding. Reached through ``transforms``.

Depth is metres and a zoom does not change it: scaling an image stands for a longer focal length, not for a shorter
distance. Normals turn with the image: mirrored, x changes sign; turned, x and y turn; scaled, they stay.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from jaxseg.data.records import MAP_FILL, Record, size
from jaxseg.errors import BadInput


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right with probability ``p``.

    ``swap`` names the pairs of keypoints that change places (left eye, right eye), as pairs of joint numbers.
    """

    p: float | int = 0.5
    swap: tuple[tuple[int, int], ...] = ()

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """The record, mirrored or as it was."""
        return flip(record, self.swap) if rng.random() < self.p else record


@dataclass(frozen=True)
class RandomRotate90:
    """Turn by 0, 90, 180 or 270 degrees and mirror, each of the eight with equal probability. Exact: no resampling.

    A turn by 90 or 270 exchanges height and width: use it on square images, or crop after it.
    """

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """The record in one of its eight positions."""
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        return rotate90(flip(record) if mirrored else record, turns)


@dataclass(frozen=True)
class RandomScale:
    """Scale both sides by one factor, uniform in [low, high]; sizes are rounded."""

    low: float | int = 0.5
    high: float | int = 2.0

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """The record, larger or smaller."""
        height, width = size(record)
        factor = rng.uniform(self.low, self.high)
        return resize(record, max(1, round(height * factor)), max(1, round(width * factor)))


@dataclass(frozen=True)
class Resize:
    """Scale to exactly this height and width; the aspect ratio is not kept."""

    height: int
    width: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """The record at the size asked for."""
        return resize(record, self.height, self.width)


@dataclass(frozen=True)
class ResizeWithin:
    """Scale, keeping the aspect ratio, to the largest size whose sides are at most ``long`` and ``short``.

    With a large ``long`` the shorter side becomes ``short``, as detection and ADE20K do it.
    """

    long: int
    short: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """The record at that size, rounded."""
        height, width = size(record)
        factor = min(self.long / max(height, width), self.short / min(height, width))
        return resize(record, max(1, round(height * factor)), max(1, round(width * factor)))


@dataclass(frozen=True)
class RandomCrop:
    """Cut out ``height x width`` at a random place; sides that are too short are padded first, at random ends."""

    height: int
    width: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """A record of exactly that size."""
        height, width = size(record)
        missing_y, missing_x = max(0, self.height - height), max(0, self.width - width)
        before_y, before_x = int(rng.integers(missing_y + 1)), int(rng.integers(missing_x + 1))
        top = int(rng.integers(max(0, height - self.height) + 1))
        left = int(rng.integers(max(0, width - self.width) + 1))
        record = crop(record, top, left, min(height, self.height), min(width, self.width))
        return pad(record, before_y, missing_y - before_y, before_x, missing_x - before_x)


@dataclass(frozen=True)
class CentreCrop:
    """Cut ``height x width`` out of the middle; sides that are too short are padded equally."""

    height: int
    width: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """A record of exactly that size."""
        height, width = size(record)
        kept_y, kept_x = min(height, self.height), min(width, self.width)
        record = crop(record, (height - kept_y) // 2, (width - kept_x) // 2, kept_y, kept_x)
        return _pad_centred(record, self.height, self.width)


@dataclass(frozen=True)
class PadTo:
    """Pad below and to the right up to ``height x width``, so that images of several sizes make one batch."""

    height: int
    width: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """The record, padded with black, void and invalid.

        Raises:
          BadInput: the image is larger than that already.
        """
        height, width = size(record)
        if height > self.height or width > self.width:
            raise BadInput(f"an image of {height}x{width} does not fit PadTo({self.height}, {self.width})")
        return pad(record, 0, self.height - height, 0, self.width - width)


@dataclass(frozen=True)
class PadToMultiple:
    """Pad below and to the right up to the next multiple of ``k``."""

    k: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """The record, padded with black, void and invalid."""
        height, width = size(record)
        return pad(record, 0, -height % self.k, 0, -width % self.k)


@dataclass(frozen=True)
class MirrorPad:
    """Surround the image with ``pixels`` of its own mirror image, as U-Net does for its valid convolutions.

    Only the image is mirrored; the label of the ring is void and its weight 0, since its pixels are repetitions.
    """

    pixels: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """The record with its ring."""
        p = self.pixels
        done = pad(record, p, p, p, p)
        if "image" in record:
            height, width = size(record)
            if p >= min(height, width):
                raise BadInput(
                    f"MirrorPad({p}) needs an image of more than {p} pixels a side, this is {height}x{width}"
                )
            done["image"] = np.pad(record["image"], ((p, p), (p, p), (0, 0)), mode="reflect")
        return done


def flip(record: Record, swap: tuple[tuple[int, int], ...] = ()) -> Record:
    """The record seen in a mirror: left becomes right."""
    width = size(record)[1]
    done = dict(record)
    for key in record.keys() & MAP_FILL.keys():
        done[key] = record[key][:, ::-1]
    if "normal" in record:
        done["normal"] = done["normal"] * np.asarray([-1, 1, 1], np.float32)
    for key in ("boxes", "proposals"):
        if key in record:
            x0, y0, x1, y1 = np.moveaxis(record[key], -1, 0)
            done[key] = np.stack([width - x1, y0, width - x0, y1], -1)
    if "keypoints" in record:
        done["keypoints"] = _map_keypoints(record["keypoints"], lambda x, y: (width - x, y))
        for left, right in swap:
            done["keypoints"][:, [left, right]] = done["keypoints"][:, [right, left]]
    return _hide_empty(done)


def rotate90(record: Record, turns: int) -> Record:
    """The record turned counter-clockwise by ``turns`` quarter turns (as ``np.rot90``)."""
    done = dict(record)
    for _ in range(turns % 4):
        width = size(done)[1]
        for key in record.keys() & MAP_FILL.keys():
            done[key] = np.rot90(done[key])
        if "normal" in record:  # x' = y, y' = -x: what pointed right now points up, and y points down
            normal = done["normal"]
            done["normal"] = np.stack([normal[..., 1], -normal[..., 0], normal[..., 2]], -1)
        for key in ("boxes", "proposals"):
            if key in record:
                x0, y0, x1, y1 = np.moveaxis(done[key], -1, 0)
                done[key] = np.stack([y0, width - x1, y1, width - x0], -1)
        if "keypoints" in record:
            done["keypoints"] = _map_keypoints(done["keypoints"], lambda x, y, w=width: (y, w - x))
    return done


def resize(record: Record, height: int, width: int) -> Record:
    """The record at another size: image bilinear (averaging when it shrinks), the other maps nearest."""
    old_height, old_width = size(record)
    if (height, width) == (old_height, old_width):
        return record
    rows = np.minimum(((np.arange(height) + 0.5) * (old_height / height)).astype(np.intp), old_height - 1)
    columns = np.minimum(((np.arange(width) + 0.5) * (old_width / width)).astype(np.intp), old_width - 1)
    done = dict(record)
    for key in record.keys() & MAP_FILL.keys():
        if key == "image":
            image = Image.fromarray(np.ascontiguousarray(record["image"]))
            done["image"] = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        else:
            done[key] = record[key][rows][:, columns]
    scale_x, scale_y = width / old_width, height / old_height
    for key in ("boxes", "proposals"):
        if key in record:
            done[key] = record[key] * np.asarray([scale_x, scale_y, scale_x, scale_y], np.float32)
    if "keypoints" in record:
        done["keypoints"] = _map_keypoints(record["keypoints"], lambda x, y: (x * scale_x, y * scale_y))
    return refit_boxes(done)


def crop(record: Record, top: int, left: int, height: int, width: int) -> Record:
    """The part of the record inside that rectangle, which must lie inside the image.

    Objects that are wholly outside keep their row, with ``valid`` false; boxes are clipped, or follow the visible
    pixels where the record has ``instance_ids``; keypoints outside become absent.
    """
    if (top, left, height, width) == (0, 0, *size(record)):
        return record
    done = dict(record)
    for key in record.keys() & MAP_FILL.keys():
        done[key] = record[key][top : top + height, left : left + width]
    _shift_points(done, -left, -top)
    return refit_boxes(_clip(done))


def pad(record: Record, top: int, bottom: int, left: int, right: int) -> Record:
    """The record with room around it: black image, void label, false masks (:data:`jaxseg.data.records.MAP_FILL`)."""
    if not (top or bottom or left or right):
        return record
    height, width = size(record)
    done = dict(record)
    for key in record.keys() & MAP_FILL.keys():
        old = record[key]
        new = np.empty((height + top + bottom, width + left + right, *old.shape[2:]), old.dtype)
        new[...] = MAP_FILL[key]
        new[top : top + height, left : left + width] = old
        done[key] = new
    if "depth" in record and "depth_valid" not in record:
        done["depth_valid"] = _inside_mask(done["depth"].shape[:2], top, left, height, width)
    if "normal" in record and "normal_valid" not in record:
        done["normal_valid"] = _inside_mask(done["normal"].shape[:2], top, left, height, width)
    _shift_points(done, left, top)
    return done


def refit_boxes(record: Record) -> Record:
    """Boxes drawn anew around the visible pixels of each object, where the record has ``instance_ids``.

    Objects without a visible pixel become invalid; crowds keep their box.
    """
    if "boxes" not in record or "instance_ids" not in record:
        return _hide_empty(record)
    ids = record["instance_ids"]
    boxes = record["boxes"].copy()
    crowd = record.get("crowd", np.zeros(len(boxes), bool))
    for slot in np.flatnonzero(~crowd):
        mine = ids == slot + 1
        rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
        boxes[slot] = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else 0
    return _hide_empty({**record, "boxes": boxes})


def _hide_empty(record: Record) -> Record:
    for key, mask in (("boxes", "valid"), ("proposals", "proposal_valid")):
        if key in record:
            x0, y0, x1, y1 = np.moveaxis(record[key], -1, 0)
            there = (x1 > x0) & (y1 > y0)
            record = {**record, mask: there & record.get(mask, True)}
    return record


def _clip(record: Record) -> Record:
    height, width = size(record)
    done = dict(record)
    for key in ("boxes", "proposals"):
        if key in record:
            limit = np.asarray([width, height, width, height], np.float32)
            done[key] = np.minimum(np.maximum(record[key], 0), limit).astype(np.float32)
    if "keypoints" in record:
        x, y, _ = np.moveaxis(record["keypoints"], -1, 0)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        done["keypoints"] = np.where(inside[..., None], record["keypoints"], 0).astype(np.float32)
    return done


def _shift_points(done: Record, dx: int, dy: int) -> None:
    for key in ("boxes", "proposals"):
        if key in done:
            done[key] = done[key] + np.asarray([dx, dy, dx, dy], np.float32)
    if "keypoints" in done:
        done["keypoints"] = _map_keypoints(done["keypoints"], lambda x, y: (x + dx, y + dy))


def _map_keypoints(keypoints: np.ndarray, move) -> np.ndarray:
    x, y, visibility = np.moveaxis(keypoints, -1, 0)
    moved = np.stack([*move(x, y), visibility], -1).astype(np.float32)
    return np.where(visibility[..., None] > 0, moved, 0).astype(np.float32)


def _inside_mask(shape: tuple[int, ...], top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def _pad_centred(record: Record, height: int, width: int) -> Record:
    old_height, old_width = size(record)
    missing_y, missing_x = height - old_height, width - old_width
    top, left = missing_y // 2, missing_x // 2
    return pad(record, top, missing_y - top, left, missing_x - left)
