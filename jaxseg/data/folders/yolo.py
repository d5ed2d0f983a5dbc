"""Data sets in Ultralytics' YOLO format: a YAML with the classes, a text file of polygons or boxes for each image.

::

    cells/
      data.yaml                    names: [cell, ...]; train: images/train; val: images/val (folders or lists of images)
      images/train/a.png
      labels/train/a.txt           "0 0.1 0.2 0.5 0.2 0.5 0.6": class, then x y of each corner as shares of the image;
                                   or "0 0.5 0.5 0.2 0.3": class, centre, width and height of a box

Exports of label-studio have ``classes.txt``, a name a line, in place of the YAML. An image without a text file is
background alone, or left out with the option ``skip_missing``. Lines mean no order of what lies in front, so the
smaller object does. If some objects are boxes and others polygons, the pixels of the boxes are void in label maps.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from jaxseg.data import problems
from jaxseg.data.folders import exports, outlines
from jaxseg.data.folders.item import Found, Options
from jaxseg.data.folders.lookup import ImageMissing, Images, files_below, head_of, split_in
from jaxseg.data.folders.shapes import Annotated, Shape
from jaxseg.data.label_files import lines_of
from jaxseg.data.listing import SUFFIXES
from jaxseg.data.notes import note
from jaxseg.errors import BadInput

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Key of the YAML -> the split that it lists."""

Row = tuple[int, tuple[float, ...]]
"""Class, and the numbers behind it."""


def recognises(root: Path) -> bool:
    """Return True if the folder has a YAML with names and splits, or labels and ``classes.txt``.

    >>> recognises(Path("nowhere"))
    False
    """
    return _yaml_of(root) is not None or ((root / "classes.txt").is_file() and any((root / "labels").rglob("*.txt")))


def read(root: Path, options: Options) -> Found:
    """Return what a folder in YOLO's format holds.

    Raises:
      BadInput: a file is not what it should be, or an image is not there.

    >>> import tempfile
    >>> from jaxseg.data.folders.item import OPTIONS
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = Path(folder)
    ...     for name, text in (("classes.txt", "cell"), ("labels/a.txt", "0 0 0 1 0 1 1"), ("images/a.png", "")):
    ...         (root / name).parent.mkdir(exist_ok=True)
    ...         _ = (root / name).write_text(text)
    ...     read(root, OPTIONS).classes
    ('background', 'cell')
    """
    path = _yaml_of(root)
    absent = Images(root, skip_missing=options["skip_missing"])
    if path is None:
        names = lines_of(root / "classes.txt")
        pairs = [(split_in(image.relative_to(root).parts), image) for image in files_below(root / "images", SUFFIXES)]
    else:
        table = _parsed(path)
        names = _names(path, table)
        pairs = _listed(path, table, absent)
    several, boxes, polygons, seen = [], 0, 0, set()
    for split, image in pairs:
        if image in seen:
            problems.report(f"{path or root}: {image} is listed twice; list it in one split")
            continue
        seen.add(image)
        with problems.each():
            rows = _rows(_labels_of(image), len(names), path or root / "classes.txt")
            boxes += sum(len(numbers) == 4 for _, numbers in rows)
            polygons += sum(len(numbers) != 4 for _, numbers in rows)
            several.append(_annotated(image, split, rows, names, root))
    _check_spare(pairs, absent)
    return exports.found(
        root,
        several,
        names,
        options,
        kind="YOLO",
        where=path or root,
        ordered=False,
        notes=[*(["some objects are boxes without a polygon"] if boxes and polygons else []), *absent.notes()],
        masks=bool(polygons) or not boxes,
    )


def _yaml_of(root: Path) -> Path | None:
    """Return the YAML that names classes and splits."""
    if not root.is_dir():
        return None
    for path in sorted(root.iterdir()):
        if path.suffix.lower() in (".yaml", ".yml") and not path.name.startswith("."):
            head = head_of(path)
            if b"names" in head and any(f"{word}:".encode() in head for word in ("train", "val", "test")):
                return path
    return None


def _parsed(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no YAML that can be read ({' '.join(str(error).split())})") from None
    if not isinstance(table, Mapping):
        raise BadInput(f"{path} has no names and no splits; it is written as 'names: [cell]' and 'train: images/train'")
    return table


def _names(path: Path, table: Mapping[str, Any]) -> list[str]:
    names = table.get("names")
    if isinstance(names, Mapping):
        if sorted(names) != list(range(len(names))):
            raise BadInput(f"{path}: names are numbered {', '.join(map(str, names))}, not 0, 1, ... without a gap")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise BadInput(f"{path} has no list of names; write 'names: [cell, ...]' in the order of the labels' numbers")
    count = table.get("nc", len(names))
    if count != len(names):
        raise BadInput(f"{path} has {len(names)} names but nc: {count}; make them agree")
    return [str(name) for name in names]


def _listed(path: Path, table: Mapping[str, Any], absent: Images) -> list[tuple[str | None, Path]]:
    """Return the images of every split."""
    found: list[tuple[str | None, Path]] = []
    bases = [path.parent / str(table["path"])] if table.get("path") else []
    for split in dict.fromkeys(SPLITS.values()):
        for key in [word for word, meant in SPLITS.items() if meant == split and table.get(word)]:
            given = table[key] if isinstance(table[key], list) else [table[key]]
            for entry in given:
                found += [(split, image) for image in _entry(path, str(entry), [*bases, path.parent], absent)]
    if not found:
        raise BadInput(f"{path} names no images; write 'train: images/train' and 'val: images/val'")
    return found


def _entry(path: Path, entry: str, bases: Sequence[Path], absent: Images) -> list[Path]:
    """Return the images of a folder or a list; ``../train/images``, as Roboflow writes it, is also sought beside."""
    variants = [entry, entry.removeprefix("../")] if entry.startswith("../") else [entry]
    for place in (base / variant for variant in variants for base in bases):
        if place.is_dir():
            return files_below(place, SUFFIXES)
        if place.suffix == ".txt" and place.is_file():
            images = []
            for line in lines_of(place):
                near = [base / line for base in (place.parent, *bases)]
                image = next((each for each in near if each.is_file()), None)
                if image is not None:
                    images.append(image)
                    continue
                with absent.each():
                    raise ImageMissing(
                        f"{place} lists {line}, which is not there; put it there, take the line out, or leave such "
                        "images out: --option skip_missing=True",
                        line,
                    )
            return images
    if variants[-1].endswith(tuple(SUFFIXES)):
        raise BadInput(f"{path}: {entry} is an image; name folders or a list of images in a text file")
    problems.report(f"{path}: there is no folder or list {entry}; correct the path")
    return []


def _labels_of(image: Path) -> Path:
    """Return where the labels of an image lie: ``images`` in its path is ``labels`` there, the last one that it has."""
    parts = list(image.parts)
    at = next((i for i in range(len(parts) - 2, -1, -1) if parts[i] == "images"), None)
    if at is not None:
        parts[at] = "labels"
    return Path(*parts).with_suffix(".txt")


def _rows(path: Path, count: int, table: Path) -> list[Row]:
    if not path.is_file():
        note("images without a file of labels, background alone", path.name)
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        try:
            kind, numbers = int(words[0]), tuple(float(word) for word in words[1:])
        except ValueError:
            raise BadInput(f"{where} is not a class number and shares of the image: {line[:60]!r}") from None
        if not 0 <= kind < count:
            raise BadInput(
                f"{where} has class {kind}, but {table} names {count} (0 to {count - 1}); add the name there"
            )
        if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
            raise BadInput(f"{where} has {len(numbers)} numbers; a polygon has x y of 3 corners or more, a box has 4")
        if not all(-0.01 <= share <= 1.01 for share in numbers):
            raise BadInput(f"{where} has a coordinate outside 0..1; they are shares of the image, not pixels")
        found.append((kind, numbers))
    return found


def _annotated(image: Path, split: str | None, rows: list[Row], names: Sequence[str], root: Path) -> Annotated:
    inner = image.relative_to(root) if image.is_relative_to(root) else Path(image.name)
    return Annotated(
        name=PurePosixPath(inner.as_posix()).with_suffix("").as_posix(),
        image=image,
        size=None,
        shapes=functools.partial(_shapes, image, rows, names),
        files=(_labels_of(image),),
        split=split,
        bare=not _labels_of(image).is_file(),
    )


def _shapes(image: Path, rows: Sequence[Row], names: Sequence[str]) -> tuple[Shape, ...]:
    height, width = exports.upright_size(image)
    found = []
    for number, (kind, numbers) in enumerate(rows, 1):
        where = f"{image.stem}.txt line {number}"
        if len(numbers) == 4:
            x, y, across, down = (share * side for share, side in zip(numbers, (width, height) * 2, strict=True))
            box = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
            found.append(Shape(names[kind], where, None, box))
            continue
        corners = [(x * width, y * height) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
        found.append(Shape(names[kind], where, functools.partial(outlines.polygon, corners)))
    return tuple(found)


def _check_spare(pairs: Sequence[tuple[str | None, Path]], absent: Images) -> None:
    """Report files of labels whose image is not there."""
    wanted = {_labels_of(image) for _, image in pairs}
    for folder in sorted({path.parent for path in wanted}):
        for path in files_below(folder, (".txt",)) if folder.is_dir() else ():
            if path not in wanted and path.parent == folder and folder.name != "images" and _is_label(path):
                with absent.each():
                    raise ImageMissing(
                        f"{path} has no image beside it; put the image there, remove the file, or leave such files "
                        "out: --option skip_missing=True",
                        path.name,
                    )


def _is_label(path: Path) -> bool:
    words = head_of(path, 200).split()
    return path.name not in ("classes.txt", "labels.txt", "notes.txt") and bool(words) and words[0].isdigit()
