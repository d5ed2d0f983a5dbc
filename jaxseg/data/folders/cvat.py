"""Exports of CVAT in its format "CVAT for images 1.1": an XML and the images (docs.cvat.ai, XML annotation format).

::

    task/
      annotations.xml    shapes: polygon, box, ellipse, mask; one file or several
      images/a.png ...   or images/train/a.png, as whole projects have it, or anywhere below the folder

The classes are the labels of the task, in its order and colours. What lies in front follows from ``z_order`` and then
from the order of the file. Shapes of one ``group_id`` and one label are one object. Points, polylines, cuboids,
skeletons and tags have no area and are noted.
"""

import functools
from pathlib import Path
from xml.etree.ElementTree import Element

from jaxseg.data import problems, xml_files
from jaxseg.data.folders import exports, outlines
from jaxseg.data.folders.item import Colour, Found, Options
from jaxseg.data.folders.lookup import Images, files_below, head_of, split_in
from jaxseg.data.folders.shapes import Annotated, Draw, Shape
from jaxseg.data.notes import note
from jaxseg.errors import BadInput

MAX_BYTES = 2**30
"""Largest file that is read; masks as text take some thousand bytes each."""

_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")
"""Shapes, and types of labels, that no pixel belongs to."""


def recognises(root: Path) -> bool:
    """Return True if XML of CVAT lies below the folder.

    >>> recognises(Path("nowhere"))
    False
    """
    return any(_is_cvat(path) for path in files_below(root, (".xml",))[:20])


def read(root: Path, options: Options) -> Found:
    """Return what an export of CVAT holds.

    Raises:
      BadInput: a file is not what it should be, or an image is not there.

    >>> import tempfile
    >>> from jaxseg.data.folders.item import OPTIONS
    >>> text = '<annotations><image name="a.png" width="6" height="4"><box label="cell" xtl="0" ytl="0" '
    >>> text += 'xbr="2" ybr="2"/></image></annotations>'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "annotations.xml").write_text(text)
    ...     _ = (Path(folder) / "a.png").write_bytes(b"")
    ...     read(Path(folder), OPTIONS).items[0].objects()["boxes"].tolist()
    [[0.0, 0.0, 2.0, 2.0]]
    """
    images, several = Images(root, skip_missing=options["skip_missing"]), []
    labels: dict[str, Colour | None] = {}
    for path in files_below(root, (".xml",)):
        if not _is_cvat(path):
            continue
        with problems.each():
            tree = xml_files.parse(path, MAX_BYTES)
            if tree.find("track") is not None or tree.findtext("meta/task/mode") == "interpolation":
                raise BadInput(f"{path} is of CVAT for video; export it as 'CVAT for images 1.1'")
            labels |= _labels(tree)
            several += _images(tree, path, root, images)
    used = sorted({shape.name for each in several for shape in exports.shapes_of(each)} - set(labels))
    labels |= dict.fromkeys(used)
    colours = [colour for colour in labels.values() if colour is not None]
    return exports.found(
        root,
        several,
        list(labels),
        options,
        kind="CVAT for images",
        where=root,
        ordered=True,
        colours=colours if len(colours) == len(labels) else (),
        notes=images.notes(),
    )


def _is_cvat(path: Path) -> bool:
    head = head_of(path)
    return b"<annotations" in head and (b"<image " in head or b"<meta>" in head or b"<track " in head)


def _labels(tree: Element) -> dict[str, Colour | None]:
    """Return the labels that may have an area, with their colours."""
    found: dict[str, Colour | None] = {}
    for label in tree.iterfind("meta//labels/label"):
        name = (label.findtext("name") or "").strip()
        kind = (label.findtext("type") or "any").strip()
        if not name or kind in _WITHOUT_AREA or label.find("parent") is not None:
            continue
        text = (label.findtext("color") or "").strip().removeprefix("#")
        try:
            red, green, blue = bytes.fromhex(text)
            found[name] = (red, green, blue)
        except ValueError:
            found[name] = None
    return found


def _images(tree: Element, path: Path, root: Path, images: Images) -> list[Annotated]:
    found, seen = [], set()
    for element in tree.iterfind("image"):
        name = element.get("name", "")
        with images.each():
            if name in seen:
                raise BadInput(f"{path} lists image {name!r} twice; export the task again")
            seen.add(name)
            near = [path.parent / "images", path.parent, root / "images", root]
            subset = element.get("subset", "")
            if subset:
                near = [folder / subset for folder in near] + near
            image = images.find(name, where=f"{path}", near=near)
            where = f"{path}: image {name!r}"
            size = (int(_number(element, "height", where)), int(_number(element, "width", where)))
            rows = [(each, f"{path.name} image {name} shape {i}") for i, each in enumerate(element, 1)]
            made = [_shape(each, row, f"{where}, shape {i}") for i, (each, row) in enumerate(rows, 1)]
            found.append(
                Annotated(
                    name=image.relative_to(root).with_suffix("").as_posix(),
                    image=image,
                    size=size,
                    shapes=tuple(shape for shape in made if shape is not None),
                    files=(path,),
                    split=split_in((subset,)) or split_in(image.relative_to(root).parent.parts),
                    bare=len(element) == 0,
                )
            )
    return found


def _shape(element: Element, where: str, fault: str) -> Shape | None:
    kind = element.tag
    if kind in _WITHOUT_AREA:
        note("shapes without an area (points, lines, tags), passed over", where)
        return None
    name = (element.get("label") or "").strip()
    if not name:
        raise BadInput(f"{fault} ({kind}) has no label; export the task again")
    draw: Draw
    if kind == "polygon":
        draw = functools.partial(outlines.polygon, _points(element.get("points", ""), fault))
    elif kind == "box":
        x0, y0, x1, y1 = (_number(element, side, fault) for side in ("xtl", "ytl", "xbr", "ybr"))
        draw = functools.partial(outlines.rectangle, (x0, y0), (x1, y1), turn=_turn(element, fault))
    elif kind == "ellipse":
        x, y, along, across = (_number(element, side, fault) for side in ("cx", "cy", "rx", "ry"))
        draw = functools.partial(outlines.ellipse, (x, y), (along, across), turn=_turn(element, fault))
    elif kind == "mask":
        left, top, columns, rows = (int(_number(element, side, fault)) for side in ("left", "top", "width", "height"))
        try:
            counts = tuple(int(count) for count in element.get("rle", "").split(","))
        except ValueError:
            raise BadInput(f"{fault} (mask) has no run lengths that can be read; export the task again") from None
        draw = functools.partial(outlines.runs_in_window, counts, (left, top, columns, rows))
    else:
        raise BadInput(f"{fault} is a {kind!r}, which CVAT for images 1.1 has not; export the task again")
    group = element.get("group_id") or "0"
    layer = element.get("z_order") or "0"
    return Shape(
        name, where, draw, group="" if group == "0" else group, layer=int(layer) if layer.lstrip("-").isdigit() else 0
    )


def _points(text: str, fault: str) -> list[tuple[float, float]]:
    try:
        found = []
        for pair in text.split(";"):
            x, y = pair.split(",")
            found.append((float(x), float(y)))
        return found
    except ValueError:
        raise BadInput(f"{fault} (polygon) has points that are not pairs of numbers; export the task again") from None


def _turn(element: Element, fault: str) -> float:
    return _number(element, "rotation", fault) if element.get("rotation") else 0.0


def _number(element: Element, name: str, fault: str) -> float:
    text = element.get(name, "")
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{fault}: {name} is {text!r}, not a number; export the task again") from None
