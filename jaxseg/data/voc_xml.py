"""Read objects from annotations in the XML of PASCAL VOC: one file for each image, a box for each object.

VOC counts pixels from 1 and its corners belong to the box: ``xmin 1, xmax 640`` is all of an image 640 wide. Here it
becomes ``x0 0, x1 640``, half-open.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from jaxseg.data.notes import note
from jaxseg.data.xml_files import parse
from jaxseg.errors import BadInput, suggest

MAX_BYTES = 8 * 2**20
"""Largest annotation that is read; an image of VOC takes a few thousand."""


@dataclass(frozen=True)
class NamedBox:
    """One object of an annotation.

    Attributes:
      name: its class.
      box: x0 y0 x1 y1, half-open, as annotated: it may leave the image or be empty.
      difficult: True if a detector is not asked for it.

    >>> NamedBox("dog", (0.0, 1.0, 3.0, 4.0)).difficult
    False
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool = False


@dataclass(frozen=True)
class Annotation:
    """Objects of one image, and the image's height and width where the file states them.

    >>> Annotation(Path("a.xml"), (4, 6), ()).size
    (4, 6)
    """

    path: Path
    size: tuple[int, int] | None
    objects: tuple[NamedBox, ...]


def read_annotation(path: Path) -> Annotation:
    """Read an annotation.

    Files above ``MAX_BYTES`` and files that declare a document type, and with it entities that may unfold into more
    than memory holds, are refused.

    Raises:
      BadInput: the file is absent, too large, no XML, or an object lacks its name or a corner. Objects are counted from
        1 in the order of the file.

    >>> import tempfile
    >>> corners = "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
    >>> text = f"<annotation><object><name>dog</name><bndbox>{corners}</bndbox></object></annotation>"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.xml").write_text(text)
    ...     read_annotation(Path(folder) / "a.xml").objects
    (NamedBox(name='dog', box=(0.0, 1.0, 3.0, 4.0), difficult=False),)
    """
    root = parse(path, MAX_BYTES)
    found = tuple(_object(element, f"{path}: object {i}") for i, element in enumerate(root.findall("object"), 1))
    return Annotation(path, _size(root, path), found)


def to_objects(annotation: Annotation, things: Sequence[str], *, height: int, width: int) -> dict[str, Any]:
    """Return ``boxes``, ``classes``, ``difficult`` and ``area`` (of the boxes) of an annotation.

    Boxes that leave the image are clipped; boxes without extent (a click instead of a box) or wholly outside are left
    out. Each is noted with its file and object.

    Args:
      annotation: what was read.
      things: names of the classes, in the order in which they are counted.
      height: of the image.
      width: of the image.

    Raises:
      BadInput: a class is not among ``things``.

    >>> annotation = Annotation(Path("a.xml"), None, (NamedBox("dog", (0.0, 1.0, 3.0, 9.0)),))
    >>> to_objects(annotation, ("cat", "dog"), height=4, width=6)["boxes"].tolist()
    [[0.0, 1.0, 3.0, 4.0]]
    """
    boxes, classes, difficult = [], [], []
    for number, each in enumerate(annotation.objects, 1):
        where = f"{annotation.path.name} object {number} ({each.name})"
        if each.name not in things:
            raise BadInput(
                f"{annotation.path}: object {number} is of class {each.name!r}, which is none of "
                f"{', '.join(things)}{suggest(each.name, things)}"
            )
        x0, y0, x1, y1 = each.box
        if x1 - x0 <= 1 or y1 - y0 <= 1:  # corners that coincide enclose one pixel in VOC's count
            note("left out, boxes without extent", where)
            continue
        inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if inside[2] <= inside[0] or inside[3] <= inside[1]:
            note("left out, boxes outside of their image", where)
            continue
        if inside != each.box:
            note("clipped, boxes that leave their image", where)
        boxes.append(inside)
        classes.append(things.index(each.name))
        difficult.append(each.difficult)
    array = np.asarray(boxes, np.float32).reshape(-1, 4)
    return {
        "boxes": array,
        "classes": np.asarray(classes, np.int32),
        "difficult": np.asarray(difficult, bool),
        "area": (array[:, 2] - array[:, 0]) * (array[:, 3] - array[:, 1]),
    }


def _object(element: Element, where: str) -> NamedBox:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise BadInput(f"{where} has no name")
    box = element.find("bndbox")
    if box is None:
        raise BadInput(f"{where} ({name}) has no bndbox")
    x0, y0, x1, y1 = (_number(box, corner, f"{where} ({name})") for corner in ("xmin", "ymin", "xmax", "ymax"))
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise BadInput(f"{where} ({name}): difficult is {difficult!r}, neither 0 nor 1")
    return NamedBox(name, (x0 - 1, y0 - 1, x1, y1), difficult == "1")


def _number(element: Element, name: str, where: str) -> float:
    text = (element.findtext(name) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{where}: {name} is {text!r}, not a number")
    return value


def _size(root: Element, path: Path) -> tuple[int, int] | None:
    """Return height and width where the file states them; zeros, as some programs write, state nothing."""
    size = root.find("size")
    if size is None:
        return None
    height, width = (int(_number(size, side, f"{path}: size")) for side in ("height", "width"))
    return (height, width) if height > 0 and width > 0 else None
