"""Folders annotated with labelme: one JSON beside each image (github.com/wkentaro/labelme).

::

    cells/
      a.png  a.json      shapes: polygon, rectangle, oriented_rectangle, circle, mask
      b.json             the image may also lie inside of the JSON (imageData)
      labels.txt         optional: the classes in their order, a line each; __ignore__ and _background_ as in labelme

Later shapes lie over earlier ones, as labelme's own converter draws them. Points and lines have no area and are noted.
"""

import base64
import binascii
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseg.data import problems
from jaxseg.data.folders import exports, outlines
from jaxseg.data.folders.item import Found, Options
from jaxseg.data.folders.lookup import Images, files_below, head_of, read_json, split_in
from jaxseg.data.folders.shapes import Annotated, Draw, Shape
from jaxseg.data.label_files import lines_of
from jaxseg.data.notes import note
from jaxseg.errors import BadInput

_CORNERS = {"rectangle": 2, "circle": 2, "mask": 2}


def recognises(root: Path) -> bool:
    """Return True if JSON of labelme lies below the folder.

    >>> recognises(Path("nowhere"))
    False
    """
    return any(_is_labelme(path) for path in files_below(root, (".json",))[:20])


def read(root: Path, options: Options) -> Found:
    """Return what a folder of labelme holds.

    Raises:
      BadInput: a file is not what it should be, or its image is not there.

    >>> import json, tempfile
    >>> from jaxseg.data.folders.item import OPTIONS
    >>> shape = {"label": "cell", "points": [[0, 0], [2, 0], [2, 2]], "shape_type": "polygon"}
    >>> content = {"shapes": [shape], "imagePath": "a.png", "imageHeight": 4, "imageWidth": 6}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.json").write_text(json.dumps(content))
    ...     _ = (Path(folder) / "a.png").write_bytes(b"")
    ...     read(Path(folder), OPTIONS).classes
    ('background', 'cell')
    """
    images, several = Images(root, skip_missing=options["skip_missing"]), []
    for path in files_below(root, (".json",)):
        if not _is_labelme(path):
            note("JSON that labelme did not write, passed over", path.name)
            continue
        with images.each():
            several.append(_annotated(path, root, images))
    _check_names(several)
    table = root / "labels.txt"
    used = sorted({shape.name for each in several for shape in exports.shapes_of(each)})
    names = lines_of(table) if table.is_file() else used
    unknown = [name for name in used if name not in names]
    if unknown:
        raise BadInput(f"{table} lacks {unknown[0]!r}, which shapes are called; add a line or correct the shapes")
    notes = [] if table.is_file() or options["classes"] else ["classes are in the order of their names"]
    used_images = {each.image for each in several}
    spare = [path.name for path in images.all() if path not in used_images]
    if spare:
        notes.append(f"{len(spare)} images without a JSON are left out: {', '.join(spare[:3])}")
    notes += images.notes()
    return exports.found(root, several, names, options, kind="labelme", where=root, ordered=True, notes=notes)


def embedded(path: Path) -> bytes:
    """Return the image that lies inside of a JSON, encoded.

    Raises:
      BadInput: there is none, or it is no base64.

    >>> import json, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.json").write_text(json.dumps({"imageData": "AAE="}))
    ...     embedded(Path(folder) / "a.json")
    b'\\x00\\x01'
    """
    try:
        return base64.b64decode(read_json(path)["imageData"], validate=True)
    except (binascii.Error, TypeError, KeyError, ValueError):
        raise BadInput(f"{path}: its imageData is no image in base64; put the image beside it") from None


def _is_labelme(path: Path) -> bool:
    head = head_of(path)
    return b'"shapes"' in head and (b'"imagePath"' in head or b'"imageData"' in head or b'"flags"' in head)


def _annotated(path: Path, root: Path, images: Images) -> Annotated:
    content = read_json(path)
    shapes = content.get("shapes") if isinstance(content, Mapping) else None
    if not isinstance(shapes, list):
        raise BadInput(f"{path} has no list of shapes; save it again with labelme")
    name = str(content.get("imagePath") or "")
    image: Any = images.search(name, where=str(path), near=[path.parent])
    if image is None and content.get("imageData"):
        image = functools.partial(embedded, path)
    elif image is None:
        image = images.find(name, where=str(path))
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (int(height), int(width)) if isinstance(height, int) and isinstance(width, int) else None
    made = [_shape(row, number, path) for number, row in enumerate(shapes, 1)]
    inner = path.relative_to(root)
    return Annotated(
        name=inner.with_suffix("").as_posix(),
        image=image,
        size=size,
        shapes=tuple(shape for shape in made if shape is not None),
        files=(path,),
        split=split_in(inner.parent.parts),
    )


def _shape(row: Any, number: int, path: Path) -> Shape | None:
    where = f"{path.name} shape {number}"
    if not isinstance(row, Mapping) or not str(row.get("label") or "").strip():
        raise BadInput(f"{path}: shape {number} has no label; name it in labelme")
    points, kind = row.get("points"), row.get("shape_type") or "polygon"
    try:
        corners = [(float(x), float(y)) for x, y in points or ()]
    except (TypeError, ValueError):
        raise BadInput(f"{path}: shape {number} has points that are not pairs of numbers") from None
    if len(corners) != _CORNERS.get(kind, len(corners)):
        raise BadInput(f"{path}: shape {number} is a {kind} of {len(corners)} points, not {_CORNERS[kind]}")
    draw: Draw
    if kind in ("polygon", "oriented_rectangle"):
        draw = functools.partial(outlines.polygon, corners)
    elif kind == "rectangle":
        draw = functools.partial(outlines.rectangle, *corners)
    elif kind == "circle":
        (x, y), (edge_x, edge_y) = corners
        radius = ((x - edge_x) ** 2 + (y - edge_y) ** 2) ** 0.5
        draw = functools.partial(outlines.ellipse, (x, y), (radius, radius))
    elif kind == "mask":
        draw = functools.partial(outlines.png_in_window, str(row.get("mask")), corners[0])
    else:
        note("points and lines, which have no area, passed over", where)
        return None
    group = row.get("group_id")
    return Shape(str(row["label"]).strip(), where, draw, group="" if group is None else str(group))


def _check_names(several: list[Annotated]) -> None:
    """Report images that two files annotate."""
    seen: dict[Any, Path] = {}
    for each in several:
        if isinstance(each.image, Path) and each.image in seen:
            problems.report(f"{each.files[0]} and {seen[each.image]} both annotate {each.image}; remove one")
        if isinstance(each.image, Path):
            seen[each.image] = each.files[0]
