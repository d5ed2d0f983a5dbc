"""Lists in a folder that say which images are of which split, and which mask is whose: ``train.txt``, ``data.csv``."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jaxseg.data import label_files
from jaxseg.data.folders.layout import split_named
from jaxseg.data.folders.tables import NAMES
from jaxseg.errors import BadInput

_COLUMNS = {
    "image": ("image", "images", "img", "imagepath", "imgpath", "filename", "file", "path", "imagename", "imageid"),
    "mask": ("mask", "masks", "label", "labels", "maskpath", "labelpath", "annotation", "gt", "target", "segmentation"),
    "split": ("split", "subset", "set", "phase"),
    "group": ("group", "scene", "patient", "film"),
}


@dataclass(frozen=True)
class Entry:
    """A line of a list: an image and what the list says of it, each as it stands there.

    >>> Entry("train.txt line 1", "a", None, "train", None).split
    'train'
    """

    where: str
    image: str
    mask: str | None
    split: str | None
    group: str | None


def find_lists(root: Path, files: Iterable[str]) -> list[Entry]:
    """Return the lines of a folder's lists, in the order of the files and of their lines; nothing where it has none.

    A text file is a list if a split names it. A line is a name, or an image and its mask divided by a tab, a comma or
    blanks. A CSV is a list if it has a column of images and one of masks, splits or groups, or if a split names it.

    Raises:
      BadInput: a list is empty, or a split has two.

    >>> find_lists(Path("."), ["images/a.png"])
    []
    """
    files = list(files)
    found: list[Entry] = []
    lists: dict[str, list[str]] = {}
    for file in files:
        if not file.lower().endswith((".txt", ".csv")):
            continue
        path = PurePosixPath(file)
        split = split_named(path.stem)
        if path.suffix.lower() == ".txt" and split is not None:
            lists.setdefault(split, []).append(file)
        elif path.suffix.lower() == ".csv" and path.name.lower() not in NAMES:
            found += _of_csv(root, file, split)
    for split, several in lists.items():
        chosen = [file for file in several if "segmentation" in file.lower()] or several
        if len(chosen) > 1:
            raise BadInput(f"{root} has two lists of the split {split}: {chosen[0]} and {chosen[1]}; keep one of them")
        for number, line in enumerate(label_files.lines_of(root / chosen[0]), 1):
            found.append(Entry(f"{root / chosen[0]} line {number}", *label_files.divided(line), split, None))
    return found


def _of_csv(root: Path, file: str, split: str | None) -> list[Entry]:
    path = root / file
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text in UTF-8 ({error.reason}); save it as UTF-8") from None
    lines = text.splitlines()
    if not lines:
        return []
    rows = list(csv.reader(lines, delimiter=max(",;\t", key=lines[0].count)))
    titles = [re.sub(r"[^a-z]", "", title.lower()) for title in rows[0]]
    at = {key: next((titles.index(t) for t in names if t in titles), None) for key, names in _COLUMNS.items()}
    image = at["image"]
    if image is None or (split is None and at["mask"] is None and at["split"] is None and at["group"] is None):
        return []

    def cell(row: Sequence[str], column: int | None) -> str | None:
        return row[column].strip() or None if column is not None and column < len(row) else None

    found = []
    for number, row in enumerate(rows[1:], 2):
        name = cell(row, image)
        if name is None:
            continue
        named = cell(row, at["split"])
        where = f"{path} line {number}"
        found.append(
            Entry(
                where,
                name,
                cell(row, at["mask"]),
                split if named is None else split_named(named) or named,
                cell(row, at["group"]),
            )
        )
    return found
