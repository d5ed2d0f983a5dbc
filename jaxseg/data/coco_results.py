"""Results in COCO's formats: detections as JSON that ``loadRes`` reads, panoptic maps as PNGs with a JSON.

Formats: https://cocodataset.org/#format-results and https://github.com/cocodataset/panopticapi.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data.facts import Facts
from jaxseg.data.records import encode_png
from jaxseg.errors import BadInput
from jaxseg.files import atomic
from jaxseg.ops import rle
from jaxseg.ops.paste import PasteRule, paste_rle
from jaxseg.types import VOID

COUNTED = range(1, VOID + 1)
"""The ids of classes that have no others."""

OBJECTS = {"boxes": "bbox", "masks": "segmentation", "keypoints": "keypoints"}
"""Predictions of objects, and what COCO's results call them."""


def detection_rows(
    found: Mapping[str, np.ndarray],
    size: tuple[int, int],
    *,
    image_id: int,
    category_ids: Sequence[int],
    rule: PasteRule = "torchvision",
) -> list[dict[str, Any]]:
    """Return the detections of an image as rows of COCO's results, best first as they come.

    >>> found = {"boxes": [[2.0, 1.0, 6.0, 4.0]], "scores": [0.5], "classes": [1], "valid": [True]}
    >>> found = {key: np.asarray(value) for key, value in found.items()}
    >>> detection_rows(found, (8, 8), image_id=42, category_ids=(1, 18))
    [{'image_id': 42, 'category_id': 18, 'score': 0.5, 'bbox': [2.0, 1.0, 4.0, 3.0]}]

    Args:
      found: ``boxes`` [d 4], ``scores``, ``classes`` and ``valid`` of the image, and where there are some ``masks``
        [d m m] or ``keypoints`` [d j 3]; all in pixels of the image.
      size: the image's height and width, where masks are pasted.
      image_id: the image's.
      category_ids: the id of each class.
      rule: how masks are pasted, see :func:`jaxseg.ops.paste.paste_window`.

    Returns:
      Rows with ``image_id``, ``category_id``, ``score``, ``bbox`` and ``segmentation`` and ``keypoints`` where there
      are some.
    """
    rows = []
    for d in np.flatnonzero(found["valid"]).tolist():
        x0, y0, x1, y1 = (float(v) for v in found["boxes"][d])
        row: dict[str, Any] = {
            "image_id": int(image_id),
            "category_id": int(category_ids[int(found["classes"][d])]),
            "score": float(found["scores"][d]),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
        }
        if "masks" in found:
            row["segmentation"] = rle.to_coco(paste_rle(found["masks"][d], found["boxes"][d], *size, rule=rule))
        if "keypoints" in found:
            row["keypoints"] = np.asarray(found["keypoints"][d], np.float64).ravel().tolist()
        rows.append(row)
    return rows


def encode_panoptic(
    panoptic: np.ndarray, category_ids: Sequence[int], *, crowd: Sequence[tuple[int, int]] = ()
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return a panoptic map as COCO has it: a picture whose colours are ids of segments, and what these are.

    >>> picture, segments = encode_panoptic(np.asarray([[[255, 0], [1, 3], [1, 3]]]), (17, 18))
    >>> picture[0].tolist()
    [[0, 0, 0], [1, 0, 0], [1, 0, 0]]
    >>> segments
    [{'id': 1, 'category_id': 18, 'area': 2, 'bbox': [1, 0, 2, 1], 'iscrowd': 0}]

    Args:
      panoptic: class and instance id, i32[h w 2]; classes without a category are void.
      category_ids: the id of each class.
      crowd: the segments, (class, instance id), that stand for crowds.

    Returns:
      u8[h w 3], R + 256 G + 65536 B is the id of a segment, counted from 1 by class and instance, 0 void; and the rows
      of ``segments_info``.
    """
    label, instance = (panoptic[..., i].astype(np.int64) for i in (0, 1))
    known = (label >= 0) & (label < len(category_ids))
    keys = np.where(known, (label << 32) | (instance & 0xFFFFFFFF), -1)
    found, place, area = np.unique(keys, return_inverse=True, return_counts=True)
    first = int((found < 0).sum())  # 1 if there is void, which comes first
    place = place.reshape(keys.shape)
    ends = []
    for axis, at in enumerate(np.indices(keys.shape, sparse=True)):
        there = np.zeros((len(found), keys.shape[axis]), bool)
        there[place, at] = True
        ends.append((there.argmax(1), keys.shape[axis] - there[:, ::-1].argmax(1)))
    (top, bottom), (left, right) = ends
    crowds = {(int(k), int(n)) for k, n in crowd}
    rows = [
        {
            "id": n + 1 - first,
            "category_id": int(category_ids[key >> 32]),
            "area": int(area[n]),
            "bbox": [int(v) for v in (left[n], top[n], right[n] - left[n], bottom[n] - top[n])],
            "iscrowd": int((key >> 32, key & 0xFFFFFFFF) in crowds),
        }
        for n, key in enumerate(found.tolist())
        if key >= 0
    ]
    ids = place + 1 - first
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8), rows


def labelled_image(
    found: Mapping[str, np.ndarray],
    size: tuple[int, int],
    *,
    file_name: str,
    facts: Facts,
    rule: PasteRule = "torchvision",
) -> dict[str, Any]:
    """Return the detections in one image as a COCO data set, which tools for labelling open; with scores.

    >>> facts = Facts("pets", "", (), (), {}, things=("cat", "dog"))
    >>> found = {"boxes": [[2.0, 1.0, 6.0, 4.0]], "scores": [0.5], "classes": [1], "valid": [True]}
    >>> found = {key: np.asarray(value) for key, value in found.items()}
    >>> tables = labelled_image(found, (8, 8), file_name="a.jpg", facts=facts)
    >>> tables["annotations"][0]["category_id"], tables["categories"][1]
    (2, {'id': 2, 'name': 'dog'})

    Args:
      found: as of :func:`detection_rows`.
      size: the image's height and width.
      file_name: the image's.
      facts: whose things the classes are.
      rule: how masks are pasted, see :func:`jaxseg.ops.paste.paste_window`.
    """
    ids = facts.thing_ids or COUNTED
    rows = detection_rows(found, size, image_id=1, category_ids=ids, rule=rule)
    for number, row in enumerate(rows, 1):
        mask = row.get("segmentation")
        area = rle.area(rle.from_coco(mask, *size)) if mask else row["bbox"][2] * row["bbox"][3]
        row |= {"id": number, "area": area, "iscrowd": 0}
        if "keypoints" in row:
            row["num_keypoints"] = len(row["keypoints"]) // 3
    categories: list[dict[str, Any]] = [{"id": ids[k], "name": name} for k, name in enumerate(facts.things)]
    if "keypoints" in found and facts.joints:
        categories = [{**category, "keypoints": list(facts.joints)} for category in categories]
    return {
        "images": [{"id": 1, "file_name": file_name, "height": size[0], "width": size[1]}],
        "annotations": rows,
        "categories": categories,
    }


class ResultFiles:
    """Collect the predictions of a split and write them as files that COCO's tools read.

    ``boxes.json``, ``masks.json`` and ``keypoints.json`` are results of detection, one file for each kind, as
    ``loadRes`` wants them; ``panoptic.json`` belongs to the PNGs in ``panoptic``, and ``label`` holds label maps whose
    pixels are classes. What a prediction holds decides which of them there are. Pictures are written at once, each JSON
    file at the end; one of the same name is replaced.

    Args:
      folder: where the files go.
      facts: of the data set; its categories are ``thing_ids`` and ``class_ids``, else 1, 2, ....
      rule: how masks are pasted, see :func:`jaxseg.ops.paste.paste_window`.

    >>> import tempfile
    >>> facts = Facts("pets", "", (), (), {}, things=("cat", "dog"))
    >>> found = {"boxes": [[2.0, 1.0, 6.0, 4.0]], "scores": [0.5], "classes": [1], "valid": [True]}
    >>> found = {key: np.asarray(value) for key, value in found.items()}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = ResultFiles(Path(folder), facts)
    ...     results.add(found, (8, 8), image_id=42)
    ...     [path.name for path in results.close()]
    ['boxes.json']
    """

    def __init__(self, folder: Path, facts: Facts, *, rule: PasteRule = "torchvision"):
        self._folder = folder
        self._facts = facts
        self._rule: PasteRule = rule
        self._classes = facts.class_ids or COUNTED
        self._seen: set[int] = set()
        self._rows: dict[str, list[str]] = {}
        self._panoptic: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._left: dict[str, None] = {}

    @property
    def left_out(self) -> tuple[str, ...]:
        """Predictions that none of these files holds."""
        return tuple(self._left)

    def add(self, found: Mapping[str, np.ndarray], size: tuple[int, int], *, image_id: int, name: str = "") -> None:
        """Add the predictions of an image, in its own pixels.

        Args:
          found: keys of :data:`jaxseg.types.PREDICTIONS`, without the axis ``b``.
          size: the image's height and width.
          image_id: the image's; no two may share it.
          name: of its PNGs, without suffix; by default the id with twelve digits, as COCO's own.

        Raises:
          BadInput: an image of this id was there before.
        """
        if image_id in self._seen:
            raise BadInput(f"two images have the id {image_id}, so results could not tell them apart")
        self._seen.add(image_id)
        name = name or f"{image_id:012d}"
        if "boxes" in found:
            self._add_objects(found, size, image_id)
        if "panoptic" in found:
            picture, segments = encode_panoptic(found["panoptic"], self._classes)
            self._write_png(self._folder / "panoptic" / f"{name}.png", picture)
            self._panoptic.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments})
            self._images.append({"id": image_id, "height": size[0], "width": size[1]})
        if "label" in found:
            self._write_png(self._folder / "label" / f"{name}.png", np.asarray(found["label"], np.uint8))
        self._left |= dict.fromkeys(key for key in found if key not in WRITTEN)

    def close(self) -> list[Path]:
        """Write the JSON files and return their paths."""
        files = {f"{kind}.json": "[" + ",\n".join(rows) + "]\n" for kind, rows in self._rows.items()}
        if self._panoptic:
            names = enumerate(self._facts.classes)
            categories = [
                {"id": self._classes[k], "name": name, "isthing": int(name in self._facts.things)} for k, name in names
            ]
            tables = {"images": self._images, "annotations": self._panoptic, "categories": categories}
            files["panoptic.json"] = json.dumps(tables) + "\n"
        for name, text in files.items():
            with atomic(self._folder / name) as part:
                part.write_text(text, encoding="utf-8")
        return [self._folder / name for name in files]

    def _add_objects(self, found: Mapping[str, np.ndarray], size: tuple[int, int], image_id: int) -> None:
        rows = detection_rows(
            found, size, image_id=image_id, category_ids=self._facts.thing_ids or COUNTED, rule=self._rule
        )
        for kind, column in OBJECTS.items():
            if kind in found:
                kept = self._rows.setdefault(kind, [])
                kept += [json.dumps({key: row[key] for key in (*SHARED, column)}) for row in rows]

    def _write_png(self, path: Path, picture: np.ndarray) -> None:
        with atomic(path) as part:
            part.write_bytes(encode_png(picture))


SHARED = ("image_id", "category_id", "score")
"""What every row of detections has."""

WRITTEN = (*OBJECTS, "scores", "classes", "valid", "panoptic", "label")
"""Predictions that come into files."""
