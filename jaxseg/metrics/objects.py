"""Objects found and true, as all metrics of objects see them: gathered on the device, unpacked on the host.

They are judged in the image as it was read where the batch says how it became the canvas (``original_size`` with
``size``): what was found is scaled back, masks are pasted there, and ``rle`` and ``area`` hold the truth exactly.
Otherwise they are judged on the canvas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import ndimage

from jaxseg.errors import BadInput
from jaxseg.ops import rle
from jaxseg.ops.paste import PasteRule, paste_rle

FRAME = ("size", "original_size", "extent", "index")
"""Keys of a batch that say where the image lies on the canvas, and which it is."""


@dataclass(frozen=True, eq=False)
class Objects:
    """Some objects of an image, the empty slots left out: NumPy arrays and strings, so that they pickle.

    Attributes:
      boxes: f64[n 4], ``x0 y0 x1 y1``.
      classes: i64[n].
      scores: f64[n] of what was found; of the truth, zeros.
      masks: for each object COCO's string of its runs in an image of ``ImageObjects.size``; empty where no masks are
        judged.
      keypoints: f64[n j 3]; without joints ``[n 0 3]``.
      area: f64[n], pixels.
      crowd: bool[n], of the truth: stands for a crowd.
      difficult: bool[n], of the truth: not asked for.

    >>> len(Objects(np.zeros((2, 4)), np.zeros(2, int)).boxes)
    2
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    masks: tuple[str, ...] = ()
    keypoints: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3)))
    area: np.ndarray = field(default_factory=lambda: np.zeros(0))
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    difficult: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True, eq=False)
class ImageObjects:
    """What was found in an image and what is there.

    Attributes:
      index: the number of the example in its split, -1 where the batch does not tell it.
      size: height and width of the image in which they are judged.
      found: the detections, best first.
      true: the truth.

    >>> nothing = Objects(np.zeros((0, 4)), np.zeros(0, int))
    >>> ImageObjects(0, (4, 6), nothing, nothing).size
    (4, 6)
    """

    index: int
    size: tuple[int, int]
    found: Objects
    true: Objects


def observe_objects(
    predictions: Mapping[str, Any], batch: Mapping[str, Any], *, masks: bool = False, keypoints: bool = False
) -> dict[str, Any]:
    """Return what metrics of objects need of a batch: fixed slots and maps, on the device.

    Args:
      predictions: ``boxes``, ``scores``, ``classes``, ``valid``, and ``masks`` or ``keypoints`` where asked for.
      batch: ``boxes``, ``classes``, ``valid``; ``crowd``, ``difficult``, ``area``, ``original_size`` and ``size`` where
        it has them; for masks ``rle`` or ``instance_ids`` with ``hidden_ids``.
      masks: whether masks are judged.
      keypoints: whether keypoints are judged.

    Raises:
      BadInput: masks are asked for and the batch has none.

    >>> batch = {"boxes": jnp.zeros((1, 2, 4)), "classes": jnp.zeros((1, 2), int), "valid": jnp.zeros((1, 2), bool)}
    >>> sorted(observe_objects({**batch, "scores": jnp.zeros((1, 2))}, batch))
    ['canvas', 'found', 'frame', 'real', 'true']
    """
    found = {key: predictions[key] for key in ("boxes", "scores", "classes", "valid")}
    true = {key: batch[key] for key in ("boxes", "classes", "valid", "crowd", "difficult", "area") if key in batch}
    frame = {key: batch[key] for key in FRAME if key in batch}
    maps = {key: batch[key] for key in ("instance_ids", "hidden_ids") if key in batch}
    exact = "rle" in batch and "original_size" in batch and not {"size", "extent"}.isdisjoint(batch)
    if keypoints:
        found["keypoints"], true["keypoints"] = predictions["keypoints"], batch["keypoints"]
    if masks:
        found["masks"] = predictions["masks"]
        if not exact and "instance_ids" not in batch:
            known = ", ".join(batch)
            raise BadInput(f"no masks among {known}: read 'instance_ids', or 'rle', 'size' and 'original_size'")
        true |= {"rle": batch["rle"]} if exact else maps
    if "area" not in true and maps:
        true["pixels"] = _pixels(maps, batch["boxes"].shape[1])
    elif "area" not in true and exact:
        true["rle"] = batch["rle"]
    rows = batch["boxes"].shape[0]
    canvas = (batch["image"] if "image" in batch else next(iter(maps.values()), jnp.zeros((rows, 0, 0)))).shape[1:3]
    return {
        "found": found,
        "true": true,
        "frame": frame,
        "canvas": jnp.broadcast_to(jnp.asarray(canvas, jnp.int32), (rows, 2)),
        "real": batch.get("real", jnp.ones(rows, bool)),
    }


def unpack(observation: Any, *, masks: bool = False, rule: PasteRule = "torchvision") -> list[ImageObjects]:
    """Return the objects of every real row of what :func:`observe_objects` gathered.

    Args:
      observation: on the host.
      masks: whether to paste what was found and to cut out what is there.
      rule: how masks are pasted.

    >>> batch = {"boxes": jnp.ones((1, 2, 4)), "classes": jnp.zeros((1, 2), int), "valid": jnp.asarray([[True, False]])}
    >>> found = {**batch, "scores": jnp.zeros((1, 2))}
    >>> [len(image.true.boxes) for image in unpack(observe_objects(found, batch))]
    [1]
    """
    host = jax.tree.map(np.asarray, observation)
    rows = np.flatnonzero(host["real"]).tolist()
    return [_image(jax.tree.map(lambda x, row=row: x[row], host), masks, rule) for row in rows]


def in_order(images: list[ImageObjects]) -> list[ImageObjects]:
    """Return the images by their index: equal scores then stand in one order however the split was cut up.

    >>> nothing = Objects(np.zeros((0, 4)), np.zeros(0, int))
    >>> [image.index for image in in_order([ImageObjects(i, (4, 4), nothing, nothing) for i in (2, 0, 1)])]
    [0, 1, 2]
    """
    return sorted(images, key=lambda image: image.index)


def _image(row: Mapping[str, Any], masks: bool, rule: PasteRule) -> ImageObjects:
    index = int(row["frame"]["index"]) if "index" in row["frame"] else -1
    size, scale, corner = _frame(row, masks)
    found, keep = row["found"], np.flatnonzero(row["found"]["valid"])
    boxes = _move(found["boxes"][keep], scale, corner)
    pairs = zip(found["masks"][keep], boxes, strict=True) if masks else ()
    pasted = [paste_rle(mask, box, *size, rule=rule) for mask, box in pairs]
    detections = Objects(
        boxes=boxes,
        classes=found["classes"][keep].astype(np.int64),
        scores=found["scores"][keep].astype(np.float64),
        masks=tuple(rle.to_string(mask) for mask in pasted),
        keypoints=_joints(found, keep, scale, corner),
        area=np.asarray([rle.area(mask) for mask in pasted], np.float64),
    )
    true, keep = row["true"], np.flatnonzero(row["true"]["valid"])
    boxes = _move(true["boxes"][keep], scale, corner)
    lines = _lines(true["rle"], keep, size, index) if "rle" in true else ()
    if masks and "rle" not in true:
        lines = _cut_out(true, keep, size)
    truth = Objects(
        boxes=boxes,
        classes=true["classes"][keep].astype(np.int64),
        scores=np.zeros(len(keep)),
        masks=lines if masks else (),
        keypoints=_joints(true, keep, scale, corner),
        area=_areas(row, keep, boxes, lines, size, original=_is_original(row, masks)),
        crowd=_flags(true, "crowd", keep),
        difficult=_flags(true, "difficult", keep),
    )
    return ImageObjects(index, size, detections, truth)


def _areas(
    row: Mapping[str, Any],
    keep: np.ndarray,
    boxes: np.ndarray,
    lines: tuple[str, ...],
    size: tuple[int, int],
    *,
    original: bool,
) -> np.ndarray:
    """Areas of the truth where it is judged: as annotated, else of the masks, else of the boxes."""
    true, frame = row["true"], row["frame"]
    known = "original_size" in frame and not {"size", "extent"}.isdisjoint(frame)
    shrunk = _part(frame)[1].prod() / frame["original_size"].prod() if known else 1.0
    if "area" in true:
        return true["area"][keep].astype(np.float64) * (1.0 if original else shrunk)
    if "pixels" in true:
        return true["pixels"][keep].astype(np.float64) / (shrunk if original else 1.0)
    if lines:
        return np.asarray([rle.area(rle.from_string(line, *size)) for line in lines], np.float64)
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _is_original(row: Mapping[str, Any], masks: bool) -> bool:
    """True if the objects are judged in the image as it was read."""
    known = "original_size" in row["frame"] and not {"size", "extent"}.isdisjoint(row["frame"])
    return known and (not masks or "rle" in row["true"])


def _part(frame: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Corner x, y and width and height of the canvas's part that is image."""
    if "extent" in frame:
        extent = frame["extent"].astype(np.float64)
        return extent[:2], extent[2:] - extent[:2]
    return np.zeros(2), frame["size"][::-1].astype(np.float64)


def _frame(row: Mapping[str, Any], masks: bool) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Size of the image in which objects are judged; canvas to it: scale in x and y, after taking off the corner."""
    if not _is_original(row, masks):
        height, width = row["canvas"].tolist()
        return (height, width), np.ones(2), np.zeros(2)
    height, width = row["frame"]["original_size"].tolist()
    corner, span = _part(row["frame"])
    return (height, width), np.asarray([width, height]) / np.maximum(span, 1), corner


def _move(boxes: np.ndarray, scale: np.ndarray, corner: np.ndarray) -> np.ndarray:
    return (boxes.astype(np.float64) - np.tile(corner, 2)) * np.tile(scale, 2)


def _joints(objects: Mapping[str, Any], keep: np.ndarray, scale: np.ndarray, corner: np.ndarray) -> np.ndarray:
    if "keypoints" not in objects:
        return np.zeros((len(keep), 0, 3))
    points = objects["keypoints"][keep].astype(np.float64)
    points[..., :2] = (points[..., :2] - corner) * scale
    return points


def _flags(true: Mapping[str, Any], key: str, number: np.ndarray) -> np.ndarray:
    return true[key][number].astype(bool) if key in true else np.zeros(len(number), bool)


def _lines(data: np.ndarray, number: np.ndarray, size: tuple[int, int], index: int) -> tuple[str, ...]:
    """Return the strings of the slots; each must fill the image. An object without a mask gets an empty one."""
    lines = data.tobytes().rstrip(b"\0").decode("latin-1").split("\n")
    if len(number) and number[-1] >= len(lines):
        raise BadInput(f"example {index} has {len(lines)} masks in 'rle' for {number[-1] + 1} objects")
    nothing = rle.to_string(rle.encode_window(np.zeros((0, 0)), 0, 0, *size))
    for slot in number.tolist():
        try:
            rle.from_string(lines[slot] or nothing, *size)
        except BadInput as error:
            raise BadInput(f"example {index}, object {slot}: {error}") from None
    return tuple(lines[slot] or nothing for slot in number.tolist())


def _cut_out(true: Mapping[str, Any], number: np.ndarray, size: tuple[int, int]) -> tuple[str, ...]:
    """Return the strings of the slots' masks on the canvas, those behind others included."""
    layers = [true[key].astype(np.int32) for key in ("instance_ids", "hidden_ids") if key in true]
    boxes = [cast(list[Any], ndimage.find_objects(layer)) for layer in layers]
    strings = []
    for slot in number.tolist():
        parts = []
        for layer, places in zip(layers, boxes, strict=True):
            place = places[slot] if slot < len(places) else None
            if place is not None:
                window = layer[place] == slot + 1
                parts.append(rle.encode_window(window, place[0].start, place[1].start, *size))
        whole = rle.merge(parts) if parts else rle.encode_window(np.zeros((0, 0)), 0, 0, *size)
        strings.append(rle.to_string(whole))
    return tuple(strings)


def _pixels(maps: Mapping[str, Array], slots: int) -> Array:
    """Return how many pixels of the canvas each slot's mask has, f32[b n]."""
    count = jax.vmap(lambda ids: jnp.bincount(ids.reshape(-1).astype(jnp.int32), length=slots + 1)[1:])
    return sum(count(ids) for ids in maps.values()).astype(jnp.float32)  # pyright: ignore[reportAttributeAccessIssue]
