"""Read annotations in COCO's JSON: images, categories, objects, panoptic segments, each fault with its file and id.

What a file says of itself must hold: ids that occur twice, annotations of images or categories that it does not list,
images that are not there, are errors. Of single objects, what cannot be used is dropped, counted and named in the notes
of the preparation (:mod:`jaxseg.data.notes`): boxes that are not finite, have no area or lie outside the image, masks
that are broken, polygons of less than three points.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data.notes import note
from jaxseg.errors import BadInput
from jaxseg.ops import rle
from jaxseg.ops.rle import Rle

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Category:
    """A category of a file; ``above`` is its supercategory.

    >>> Category(18, "dog").thing
    True
    """

    id: int
    name: str
    thing: bool = True
    joints: tuple[str, ...] = ()
    colour: tuple[int, int, int] | None = None
    above: str = ""


@dataclass(frozen=True)
class CocoFile:
    """What a file lists.

    Attributes:
      path: the file.
      images: image id -> its row, in the file's order.
      annotations: image id -> the rows of its annotations, in the file's order.
      categories: category id -> the category, by rising id.

    >>> CocoFile(Path("a.json"), {}, {}, {}).annotations
    {}
    """

    path: Path
    images: Mapping[int, Row]
    annotations: Mapping[int, Sequence[Row]]
    categories: Mapping[int, Category]


@dataclass(frozen=True)
class CocoObject:
    """An object of an image.

    Attributes:
      id: of the annotation.
      category: its category id.
      box: x0 y0 x1 y1, inside the image.
      crowd: True if it stands for several.
      area: as annotated, pixels.
      mask: None where the file has none.
      keypoints: f32[j 3] as annotated; None where the file has none.

    >>> CocoObject(7, 18, (0.0, 0.0, 2.0, 1.0), False, 2.0).mask is None
    True
    """

    id: int
    category: int
    box: tuple[float, float, float, float]
    crowd: bool
    area: float
    mask: Rle | None = None
    keypoints: np.ndarray | None = None


class _Unusable(Exception):
    """Why an object is dropped, and the particulars."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.reason, self.detail = reason, f" ({detail})" if detail else ""


def read_coco(path: Path) -> CocoFile:
    """Read a file of instances, keypoints or panoptic segments.

    Raises:
      BadInput: it is absent, no such JSON, an id occurs twice, or an annotation names an image or a category that the
        file does not list.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a.json"
    ...     _ = file.write_text('{"images": [], "annotations": [], "categories": [{"id": 18, "name": "dog"}]}')
    ...     read_coco(file).categories[18].name
    'dog'
    """
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    try:
        with path.open(encoding="utf-8") as file:
            found = json.load(file)
        parts = [found[key] for key in ("images", "annotations", "categories")]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is no COCO JSON with images, annotations and categories: {error!r}") from None
    try:
        images = _by_id(path, "image", parts[0])
        categories = _categories(path, parts[2])
        return CocoFile(path, images, _annotations(path, parts[1], images, categories), categories)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: an entry lacks or misspells {error}") from None


def size_of(file: CocoFile, image_id: int) -> tuple[int, int]:
    """Return height and width of an image as the file states them.

    Raises:
      BadInput: it does not.

    >>> size_of(CocoFile(Path("a.json"), {3: {"height": 4, "width": 6}}, {}, {}), 3)
    (4, 6)
    """
    row = file.images[image_id]
    try:
        return int(row["height"]), int(row["width"])
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{file.path}: image {image_id} has no height and width") from None


def objects_of(file: CocoFile, image_id: int, *, joints: int = 0) -> list[CocoObject]:
    """Return the objects of an image that can be used, in the file's order; others are noted.

    Args:
      file: instances or keypoints.
      image_id: of the image.
      joints: how many keypoints an object has.

    Raises:
      BadInput: an annotation has another number of keypoints, or a visibility that COCO does not know.

    >>> row = {"id": 1, "category_id": 18, "bbox": [1, 1, 2, 9]}
    >>> file = CocoFile(Path("a.json"), {3: {"height": 4, "width": 6}}, {3: [row]}, {})
    >>> objects_of(file, 3)[0].box
    (1.0, 1.0, 3.0, 4.0)
    """
    height, width = size_of(file, image_id)
    found = []
    for row in file.annotations.get(image_id, ()):
        where = f"{file.path.name} annotation {row['id']}"
        try:
            found.append(_object(row, height, width, joints, where))
        except _Unusable as fault:
            note(f"objects dropped, {fault.reason}", where + fault.detail)
    return found


def panoptic_segments(
    file: CocoFile, image_id: int, ids: np.ndarray, name: str
) -> tuple[np.ndarray, list[tuple[int, bool]]]:
    """Return i32[h w], the number of each pixel's segment (0 void), and category id and crowd of the segments 1, 2, ...

    Args:
      file: the panoptic JSON.
      image_id: of the image.
      ids: i32[h w], segment ids as the PNG has them.
      name: the PNG's.

    Raises:
      BadInput: the PNG holds an id that the file does not list or the other way round, an id occurs twice, or a
        category is unknown.

    >>> rows = [{"segments_info": [{"id": 9, "category_id": 18, "iscrowd": 0}]}]
    >>> file = CocoFile(Path("a.json"), {3: {}}, {3: rows}, {18: Category(18, "dog")})
    >>> panoptic_segments(file, 3, np.asarray([[0, 9]]), "a.png")
    (array([[0, 1]], dtype=int32), [(18, False)])
    """
    rows = [segment for row in file.annotations.get(image_id, ()) for segment in row["segments_info"]]
    try:
        listed = [int(row["id"]) for row in rows]
        segments = [(int(row["category_id"]), bool(row.get("iscrowd", 0))) for row in rows]
    except KeyError as error:
        raise BadInput(f"{file.path}: a segment of image {image_id} has no {error}") from None
    seen = np.unique(ids[ids > 0]).tolist()
    for number in listed:
        if listed.count(number) > 1:
            raise BadInput(f"{file.path}: image {image_id} lists segment {number} twice")
    strange = sorted(set(seen) - set(listed))
    if strange:
        raise BadInput(f"{name}: segment {strange[0]} is not listed in {file.path} (image {image_id})")
    absent = sorted(set(listed) - set(seen))
    if absent:
        raise BadInput(f"{file.path}: segment {absent[0]} of image {image_id} has no pixel in {name}")
    for number, (category, _) in zip(listed, segments, strict=True):
        if category not in file.categories:
            raise BadInput(
                f"{file.path}: segment {number} of image {image_id} has category {category}, which is unknown"
            )
    order = np.argsort(listed)
    place = np.searchsorted(np.asarray(listed, np.int64)[order], ids) if listed else np.zeros(ids.shape, np.int64)
    numbers = np.append(order + 1, 0)[place]
    return np.where(ids > 0, numbers, 0).astype(np.int32), segments


def _by_id(path: Path, kind: str, rows: Sequence[Row]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    for row in rows:
        number = row["id"]
        if not isinstance(number, int):
            raise BadInput(f"{path}: {kind} id {number!r} is not a whole number")
        if number in found:
            raise BadInput(f"{path}: {kind} id {number} occurs twice")
        found[number] = row
    return found


def _annotations(
    path: Path, rows: Sequence[Row], images: Mapping[int, Row], categories: Mapping[int, Category]
) -> dict[int, list[Row]]:
    panoptic = any("segments_info" in row for row in rows)
    if not panoptic:
        _by_id(path, "annotation", rows)
    found: dict[int, list[Row]] = {}
    for row in rows:
        name = f"the annotation of {row.get('file_name')!r}" if panoptic else f"annotation {row['id']}"
        if row["image_id"] not in images:
            raise BadInput(f"{path}: {name} is of image {row['image_id']}, which the file does not list")
        if not panoptic and row["category_id"] not in categories:
            raise BadInput(f"{path}: {name} has category {row['category_id']}, which the file does not list")
        if panoptic and row["image_id"] in found:
            raise BadInput(f"{path}: image {row['image_id']} has two panoptic annotations")
        found.setdefault(row["image_id"], []).append(row)
    return found


def _categories(path: Path, rows: Sequence[Row]) -> dict[int, Category]:
    by_id = _by_id(path, "category", rows)
    found, names = {}, {}
    for number in sorted(by_id):
        row = by_id[number]
        colour = row.get("color")
        name = str(row["name"])
        if name in names:
            raise BadInput(f"{path}: categories {names[name]} and {number} are both called {name!r}")
        names[name] = number
        found[number] = Category(
            id=number,
            name=name,
            thing=bool(row.get("isthing", 1)),
            joints=tuple(row.get("keypoints", ())),
            colour=(int(colour[0]), int(colour[1]), int(colour[2])) if colour else None,
            above=str(row.get("supercategory") or ""),
        )
    return found


def _object(row: Row, height: int, width: int, joints: int, where: str) -> CocoObject:
    mask = _mask(row.get("segmentation"), height, width, where)
    box = _box(row, mask, height, width, where)
    area = row.get("area")
    if not isinstance(area, int | float) or not np.isfinite(area) or area < 0:
        area = rle.area(mask) if mask is not None else (box[2] - box[0]) * (box[3] - box[1])
    return CocoObject(
        id=row["id"],
        category=row["category_id"],
        box=box,
        crowd=bool(row.get("iscrowd", 0)),
        area=float(area),
        mask=mask,
        keypoints=_keypoints(row.get("keypoints"), joints, where),
    )


def _mask(segmentation: Any, height: int, width: int, where: str) -> Rle | None:
    if segmentation is None or (isinstance(segmentation, Sequence) and not segmentation):
        return None
    try:
        if isinstance(segmentation, Mapping):
            return rle.from_coco(segmentation, height, width)
        whole = [polygon for polygon in segmentation if not hasattr(polygon, "__len__") or len(polygon) >= 6]
        if len(whole) < len(segmentation):
            note("polygons of less than three points, left out", where)
        if not whole:
            raise _Unusable("their polygons have less than three points")
        return rle.from_coco(whole, height, width)
    except BadInput as error:
        raise _Unusable("their masks are broken", str(error)) from None


def _box(row: Row, mask: Rle | None, height: int, width: int, where: str) -> tuple[float, float, float, float]:
    given = row.get("bbox")
    if given is None:
        if mask is None:
            raise _Unusable("they have neither a box nor a mask")
        given = rle.bounding_box(mask)
    try:
        x0, y0, box_width, box_height = (float(value) for value in given)
    except (TypeError, ValueError):
        raise _Unusable("their boxes are not x, y, width, height") from None
    if not np.isfinite([x0, y0, box_width, box_height]).all():
        raise _Unusable("their boxes are not finite")
    if box_width <= 0 or box_height <= 0:
        raise _Unusable("their boxes have no area")
    x1, y1 = x0 + box_width, y0 + box_height
    left, top, right, bottom = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if np.float32(right) <= np.float32(left) or np.float32(bottom) <= np.float32(top):
        raise _Unusable("their boxes lie outside the image")
    if max(left - x0, top - y0, x1 - right, y1 - bottom) > 1:
        note("boxes cut at the edge of the image, which they passed by more than a pixel", where)
    return left, top, right, bottom


def _keypoints(given: Any, joints: int, where: str) -> np.ndarray | None:
    if not joints or given in (None, []):
        return None
    try:
        points = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        raise BadInput(f"{where}: its keypoints are not numbers") from None
    if points.shape != (3 * joints,):
        raise BadInput(f"{where}: {points.size} numbers for {joints} keypoints, which are x, y, visibility each")
    points = points.reshape(joints, 3)
    if not np.isfinite(points).all() or not np.isin(points[:, 2], (0, 1, 2)).all():
        raise BadInput(f"{where}: its keypoints are not finite, or a visibility is not 0, 1 or 2")
    return np.where(points[:, 2:] > 0, points, 0)
