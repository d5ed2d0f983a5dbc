"""Images with annotations in COCO's JSON, as label maps and objects: of COCO itself, CVAT, label-studio, Roboflow.

::

    cells/
      annotations/instances_train.json  instances_val.json    or one JSON; or train/_annotations.coco.json, as Roboflow
      images/a.png ...                                        anywhere below the folder

What is refused and what is left out of a JSON: :mod:`jaxseg.data.coco_json`. Classes are the categories by their ids.
A file has no order of what lies in front, so the smaller object does; crowds are of their class in label maps. The data
set ``coco`` reads the same files with keypoints and panoptic segments as well.
"""

import functools
import mmap
from collections.abc import Sequence
from pathlib import Path

from jaxseg.data import problems
from jaxseg.data.coco_categories import merge_tables
from jaxseg.data.coco_json import Category, CocoFile, CocoObject, objects_of, read_coco, size_of
from jaxseg.data.folders import exports
from jaxseg.data.folders.item import Found, Options
from jaxseg.data.folders.lookup import Images, files_below, split_in
from jaxseg.data.folders.shapes import Annotated, Shape
from jaxseg.errors import BadInput
from jaxseg.ops.rle import Rle

_PREFIX = "instances_"


def recognises(root: Path) -> bool:
    """Return True if JSON in COCO's format lies below the folder.

    >>> recognises(Path("nowhere"))
    False
    """
    return any(_is_coco(path) for path in files_below(root, (".json",))[:20])


def read(root: Path, options: Options) -> Found:
    """Return what a folder with COCO JSON holds; the option ``masks`` names the file where there are others.

    Raises:
      BadInput: a file is not what it should be, or an image is not there.

    >>> import json, tempfile
    >>> from jaxseg.data.folders.item import OPTIONS
    >>> row = {"id": 1, "image_id": 3, "category_id": 7, "bbox": [0, 0, 2, 2], "segmentation": [[0, 0, 2, 0, 2, 2]]}
    >>> content = {"images": [{"id": 3, "file_name": "a.png", "height": 4, "width": 6}], "annotations": [row]}
    >>> content["categories"] = [{"id": 7, "name": "cell"}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "all.json").write_text(json.dumps(content))
    ...     _ = (Path(folder) / "a.png").write_bytes(b"")
    ...     read(Path(folder), OPTIONS).classes
    ('background', 'cell')
    """
    chosen = options.get("masks")
    paths = [root / chosen] if chosen else [path for path in files_below(root, (".json",)) if _is_coco(path)]
    if not chosen and any(path.name.startswith(_PREFIX) for path in paths):
        paths = [path for path in paths if path.name.startswith(_PREFIX)]
    files, notes = [], []
    for path in paths:
        with problems.each():
            file = read_coco(path)
            if any("segments_info" in row for rows in file.annotations.values() for row in rows):
                notes.append(f"{path.name} holds panoptic segments, which the data set coco reads; passed over")
            elif not file.annotations and len(paths) > 1:
                notes.append(f"{path.name} has no annotation; passed over")
            else:
                files.append(file)
    images = Images(root, skip_missing=options["skip_missing"])
    several = [each for file in files for each in _annotated(file, root, images)]
    table = merge_tables(files) if files else []
    headings = [category for category in table if _is_heading(category, files)]
    notes += [
        f"category {each.name!r}, which stands above all others and has no annotation, is no class" for each in headings
    ]
    table = [category for category in table if category not in headings]
    colours = [category.colour for category in table if category.colour is not None]
    return exports.found(
        root,
        several,
        [category.name for category in table],
        options,
        kind="COCO JSON",
        where=paths[0] if len(paths) == 1 else root,
        ordered=False,
        colours=colours if len(colours) == len(table) else (),
        notes=[*notes, *images.notes()],
        masks=any(row.get("segmentation") for file in files for rows in file.annotations.values() for row in rows),
    )


def _is_coco(path: Path) -> bool:
    """Return True if a JSON has the keys of COCO's, wherever in the file they are."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if not content[:64].lstrip().startswith(b"{"):
                return False
            return all(content.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"'))
    except (OSError, ValueError):
        return False  # it is empty, or cannot be read


def _annotated(file: CocoFile, root: Path, images: Images) -> list[Annotated]:
    beside, stem = file.path.parent, file.path.stem.removeprefix(_PREFIX)
    near = [
        folder / inner
        for folder in dict.fromkeys((beside, root, beside.parent))
        for inner in (f"images/{stem}", stem, "images", "")
    ]
    inner = file.path.relative_to(root) if file.path.is_relative_to(root) else Path(file.path.name)
    found = []
    for number, row in file.images.items():
        with images.each():
            where = f"{file.path}: image {number}"
            image = images.find(str(row.get("file_name") or ""), where=where, near=near)
            below = image.relative_to(root)
            found.append(
                Annotated(
                    name=below.with_suffix("").as_posix(),
                    image=image,
                    size=size_of(file, number),
                    shapes=functools.partial(_shapes, file, number),
                    files=(file.path,),
                    split=split_in((*inner.parent.parts, stem)) or split_in(below.parent.parts),
                    bare=not file.annotations.get(number),
                )
            )
    return found


def _shapes(file: CocoFile, image_id: int) -> tuple[Shape, ...]:
    return tuple(_shape(file, one) for one in objects_of(file, image_id))


def _shape(file: CocoFile, one: CocoObject) -> Shape:
    return Shape(
        name=file.categories[one.category].name,
        where=f"{file.path.name} annotation {one.id}",
        draw=None if one.mask is None else functools.partial(_mask, one.mask),
        box=one.box,
        crowd=one.crowd,
        area=one.area,
    )


def _mask(mask: Rle, height: int, width: int) -> Rle:
    if (mask.height, mask.width) != (height, width):
        raise BadInput(f"a mask of {mask.width}x{mask.height} for an image of {width}x{height}")
    return mask


def _is_heading(category: Category, files: Sequence[CocoFile]) -> bool:
    """Return True for the category without annotations that Roboflow puts above all others."""
    others = [each for file in files for each in file.categories.values() if each.id != category.id]
    rows = (row for file in files for several in file.annotations.values() for row in several)
    return (
        bool(others)
        and all(each.above == category.name for each in others)
        and all(row["category_id"] != category.id for row in rows)
    )
