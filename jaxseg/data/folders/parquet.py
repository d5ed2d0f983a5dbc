"""Image data sets of the Hugging Face Hub as they are downloaded: parquet with a column of images and one of masks.

::

    scenes/
      data/train-00000-of-00002.parquet ...    or train/0000.parquet; the split is in the name of the file or folder
      id2label.json                            optional: {"0": "wall", ...}; or a table of classes as for pairs of files

Images and masks are structs of ``bytes`` and ``path`` or bare bytes, encoded as PNG or JPEG. A row group is read whole
for one image, so a training reads long: ``jaxseg data prepare`` makes files that are read one by one. Needs pyarrow.

Reference: huggingface.co/docs/datasets, the feature ``Image``.
"""

import functools
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import problems
from jaxseg.data.folders.bands import as_file
from jaxseg.data.folders.item import Found, Item, Options
from jaxseg.data.folders.lookup import files_below, read_json, split_in
from jaxseg.data.folders.mask_files import Coding, read_mask
from jaxseg.data.folders.survey import Meaning, decide
from jaxseg.data.folders.tables import Table, find_table, parse_table
from jaxseg.data.listing import walk
from jaxseg.errors import BadInput, suggest

IMAGES = ("image", "img", "images", "pixel_values", "jpg", "png", "input", "photo")
"""Names of the column of images, the likeliest first."""

MASKS = (
    *("mask", "label", "labels", "annotation", "segmentation_mask", "semantic_mask", "segmentation", "seg", "masks"),
    *("annotated", "ground_truth", "gt", "target"),
)
"""Names of the column of masks, the likeliest first."""

Cell = functools.partial[bytes]

GROUPS = 4
"""Row groups that are kept in memory."""


def recognises(root: Path) -> bool:
    """Return True if parquet files lie below the folder.

    >>> recognises(Path("nowhere"))
    False
    """
    return bool(files_below(root, (".parquet",)))


def read(root: Path, options: Options) -> Found:
    """Return what the parquet files of a folder hold; the option ``masks`` names the column of the masks.

    Raises:
      BadInput: pyarrow is not installed, a file cannot be read, or it is not certain which columns are meant.

    >>> from jaxseg.data.folders.item import OPTIONS
    >>> read(Path("nowhere"), OPTIONS)
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: nowhere holds no row of parquet with an image
    """
    found: list[tuple[str, str | None, Path, Cell, Cell]] = []
    for path in files_below(root, (".parquet",)):
        with problems.each():
            image, mask = _columns(path, options["masks"])
            split = split_in(path.relative_to(root).with_suffix("").parts)
            for group, row, name in _rows(path, image):
                first, second = (functools.partial(cell, path, group, row, column) for column in (image, mask))
                found.append((name, split, path, first, second))
    if not found:
        raise BadInput(f"{root} holds no row of parquet with an image")
    meaning = _meaning(root, [mask for *_, mask in found], options)
    unique = len({name for name, *_ in found}) == len(found)
    items = []
    for number, (name, split, path, image, mask) in enumerate(found):
        name = name if unique else f"{number:06}"
        label = functools.partial(label_of, mask, name, meaning.coding)
        items.append(Item(name, image, label, split, files=(path,)))
    kind = f"parquet, {meaning.kind}"
    classes = meaning.coding.classes
    return Found(root, tuple(items), classes, meaning.palette, meaning.void, kind, notes=tuple(meaning.notes))


def cell(path: Path, group: int, row: int, column: str) -> bytes:
    """Return the encoded image of a cell.

    Args:
      path: the parquet file.
      group: number of the row group.
      row: in the group.
      column: the name.

    Raises:
      BadInput: the cell is empty.

    >>> import pyarrow, pyarrow.parquet, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pyarrow.parquet.write_table(pyarrow.table({"image": [b"a", b"b"]}), f"{folder}/a.parquet")
    ...     cell(Path(folder) / "a.parquet", 0, 1, "image")
    b'b'
    """
    value = _group(path, group, column)[row].as_py()
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if isinstance(data, bytes) and data:
        return data
    named = value.get("path") if isinstance(value, Mapping) else None
    if named and (path.parent / named).is_file():
        return (path.parent / named).read_bytes()
    raise BadInput(
        f"{path}: {column} of row {row} of group {group} holds no bytes"
        + (f" but the path {named}, where no file is" if named else "; take the row out")
    )


def label_of(read_cell: Cell, name: str, coding: Coding) -> np.ndarray:
    """Return the classes u8[h w] of a mask.

    Args:
      read_cell: returns the encoded mask.
      name: of the image, for messages.
      coding: what the mask means.

    >>> from jaxseg.data.records import encode_png
    >>> mask = functools.partial(encode_png, np.asarray([[0, 255]], np.uint8))
    >>> label_of(mask, "a", Coding(("background", "cell"), ((0, 0), (255, 1)), (), "the masks")).tolist()
    [[0, 1]]
    """
    with as_file(read_cell, name) as path:
        return read_mask(path, coding)


@functools.lru_cache(maxsize=GROUPS)
def _group(path: Path, group: int, column: str) -> Any:
    with _opened(path) as file:
        return file.read_row_group(group, columns=[column]).column(column)


def _opened(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BadInput(f"{path} needs another package to be read: pip install 'jaxseg[parquet]'") from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"{path} is no parquet that can be read ({' '.join(str(error).split())})") from None


def _columns(path: Path, wanted: str | None) -> tuple[str, str]:
    """Return the names of the columns of images and of masks."""
    with _opened(path) as file:
        schema = file.schema_arrow
    pictures = [name for name in schema.names if _is_picture(schema, name)]
    if wanted is not None and wanted not in pictures:
        raise BadInput(f"{path} has no column of images {wanted!r}{suggest(wanted, pictures)}; it has {_list(schema)}")
    mask = wanted or next((name for name in MASKS if name in pictures), None)
    others = [name for name in pictures if name != mask]
    image = next((name for name in IMAGES if name in others), others[0] if len(others) == 1 else None)
    if mask is None and image is not None and len(pictures) == 2:
        mask = next(name for name in pictures if name != image)
    if image is None or mask is None:
        raise BadInput(
            f"{path} has the columns {_list(schema)}, none of which is known as "
            f"{'images' if image is None else 'masks'}; name the column of the masks: --option masks=NAME"
        )
    return image, mask


def _is_picture(schema: Any, name: str) -> bool:
    """Return True for a column of encoded images: bytes, or a struct with them."""
    import pyarrow

    kind = schema.field(name).type
    if pyarrow.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _list(schema: Any) -> str:
    return ", ".join(schema.names)


def _rows(path: Path, image: str) -> list[tuple[int, int, str]]:
    """Return row group, row in it and name of every row; the name is that of the image's file if it has one."""
    import pyarrow

    with _opened(path) as file:
        is_struct = pyarrow.types.is_struct(file.schema_arrow.field(image).type)
        found = []
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            named: Sequence[Any] = [None] * count
            if is_struct and any(field.name == "path" for field in file.schema_arrow.field(image).type):
                column = file.read_row_group(group, columns=[f"{image}.path"]).column(image)
                named = [value.get("path") if value else None for value in column.to_pylist()]
            for row, name in enumerate(named):
                plain = Path(str(name).replace("\\", "/")).stem if name else f"{path.stem}_{len(found):06}"
                found.append((group, row, plain))
    return found


def _meaning(root: Path, cells: Sequence[Cell], options: Options) -> Meaning:
    """Return what the masks mean: by a table, or by what all of them hold."""
    given = options["classes"]
    names = given.split(",") if isinstance(given, str) else [str(name) for name in given]
    table = parse_table(names) if names else _id2label(root) or find_table(root, list(walk(root)))
    chosen = [cells[int(i)] for i in np.unique(np.linspace(0, len(cells) - 1, 64))] if table is not None else cells
    with tempfile.TemporaryDirectory(prefix="jaxseg-") as folder:
        paths = []
        for number, each in enumerate(chosen):
            with problems.each():
                paths.append(Path(folder) / f"{number}.png")
                paths[-1].write_bytes(each())
        try:
            return decide(root, paths, table, options["void"])
        except BadInput as error:
            raise BadInput(str(error).replace(f"{folder}/", "mask ")) from None


def _id2label(root: Path) -> Table | None:
    path = next((path for path in files_below(root, (".json",)) if path.name == "id2label.json"), None)
    if path is None:
        return None
    found = read_json(path)
    if not isinstance(found, Mapping) or not all(str(number).isdigit() for number in found):
        raise BadInput(f"{path} is no table of numbers and names, {json.dumps({'0': 'wall'})}")
    return parse_table([f"{name}={number}" for number, name in found.items()])
