"""Check a data set before anything is trained: what its images and masks are like, and everything that is wrong.

Every example is read as training reads it. What would stop a training is a problem, and all of them are listed; what is
only strange (empty masks, the same picture in two splits, classes that never occur) is a warning.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import notes, problems, records, sets
from jaxseg.data.check_depth import SHOWN, DepthRow, DepthTally
from jaxseg.data.facts import Facts
from jaxseg.data.images import read_colours, read_label
from jaxseg.data.listing import SUFFIXES
from jaxseg.data.records import Record
from jaxseg.errors import BadInput, several
from jaxseg.types import VOID

Look = Callable[[Facts, str, str, Record], None]
"""Is given the facts, and the split, the name and the record of every example that can be read."""

FOLDER = "folder:"


@dataclass(frozen=True)
class ClassRow:
    """A class of label maps: its pixels, their share among all that are of a class, and the images that have some.

    >>> ClassRow("cell", 5, 0.25, 1).share
    0.25
    """

    name: str
    pixels: int
    share: float
    images: int


@dataclass(frozen=True)
class ThingRow:
    """A class of objects: how many there are, and in how many images.

    >>> ThingRow("cell", 12, 3).objects
    12
    """

    name: str
    objects: int
    images: int


@dataclass(frozen=True)
class Checked:
    """What a data set holds.

    Attributes:
      name: the folder or the data set.
      kind: its layout in a few words.
      splits: images of each split.
      sizes: "height x width" -> how many images.
      formats: bands and type as stored -> how many images.
      low: the smallest value of all images; None without any.
      high: the largest.
      classes: of label maps.
      void: pixels of no class.
      things: classes of objects.
      depth: in metres; None without any.
      unknown: images without a pixel of known depth.
      values: what the files of masks hold, numbers or "#rrggbb" -> how many files.
      empty: images without an object, known depth, or a pixel of any class but the background (the class called so, or
        the first).
      blank: images of a single value.
      duplicates: the same picture in several splits.
      repeated: the same picture several times in one split.
      problems: what would stop a training.
      warnings: what is strange.
      notes: choices that were made.

    >>> Checked("cells", "pairs").usable
    True
    """

    name: str
    kind: str
    splits: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    classes: tuple[ClassRow, ...] = ()
    void: int = 0
    things: tuple[ThingRow, ...] = ()
    depth: DepthRow | None = None
    unknown: tuple[str, ...] = ()
    values: dict[str, int] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    blank: tuple[str, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    repeated: tuple[tuple[str, ...], ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """True if a training would run."""
        return not self.problems


@dataclass(frozen=True)
class Example:
    """One example of a data set.

    Attributes:
      split: where it is.
      name: of the image.
      read: reads it as training does.
      files: from which its labels come.
      stored: returns bands and type of its file; None for those of the record.
      annotated: False for images without labels.

    >>> Example("train", "a", dict).files
    ()
    """

    split: str
    name: str
    read: Callable[[], Record]
    files: tuple[Path, ...] = ()
    stored: Callable[[], tuple[int, str]] | None = None
    annotated: bool = True


def check(
    name: str,
    *,
    options: Sequence[tuple[str, Any]] = (),
    data_dir: Path | None = None,
    look: Look | None = None,
    progress: Callable[[Sequence[Example]], Iterable[Example]] = iter,
) -> Checked:
    """Check a folder or a prepared data set.

    Args:
      name: a folder, ``folder:PATH``, or a data set.
      options: of the folder or of the data set.
      data_dir: where prepared data lie.
      look: is shown every example.
      progress: goes through the examples, and may show how far it is.

    Raises:
      BadInput: there is no such folder or data set, or it is not prepared.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = sets.prepare("scenes", data_dir=folder, options=tiny)
    ...     found = check("scenes", options=tiny, data_dir=Path(folder))
    >>> found.splits, found.sizes, found.usable
    ({'train': 3, 'val': 2}, {'8 x 8': 5}, True)
    """
    path = Path(name.removeprefix(FOLDER)).expanduser()
    with problems.gather() as faults, notes.gather() as noted:
        if name.startswith(FOLDER) or path.is_dir() or name not in sets.list_sets():
            facts, kind, examples, said = _of_folder(path, options)
        else:
            facts, kind, examples, said = _of_set(name, tuple(options), data_dir)
        tally = _Tally(facts)
        for example in progress(examples):
            with problems.each():
                record = _read(example)
                tally.add(example, record)
                if look is not None and facts is not None:
                    look(facts, example.split, example.name, record)
    if facts is not None and not faults:
        _check_splits(examples, faults, path)
    return tally.result(str(path) if path.is_dir() else name, kind, list(faults), [*said, *notes.report(noted)])


Opened = tuple[Facts | None, str, list[Example], list[str]]


def _of_folder(path: Path, options: Sequence[tuple[str, Any]]) -> Opened:
    from jaxseg.data.folders import scan
    from jaxseg.data.folders.bands import stored_bands
    from jaxseg.data.folders.records import read_item

    if not path.is_dir():
        raise BadInput(f"there is no folder {path} and no data set of that name ({', '.join(sets.list_sets())})")
    try:
        folder = scan.scan(path, options)
    except BadInput as error:
        problems.report(str(error))
        return None, "", [], []
    finally:
        scan.forget()  # a folder that was read with its problems set aside is not one to train on
    examples = [
        Example(
            split,
            item.name,
            lambda item=item: read_item(item, folder.channels, folder.dtype),
            item.files if item.maps is None else (),  # depth is no mask
            lambda item=item: stored_bands(item.image, item.name),
            any(part is not None for part in (item.label, item.objects, item.maps)),
        )
        for split, items in folder.splits.items()
        for item in items
    ]
    return folder.facts, folder.found.kind, examples, list(folder.found.notes)


def _of_set(name: str, options: sets.Options, data_dir: Path | None) -> Opened:
    facts = sets.facts(name, data_dir=data_dir, options=options)
    splits = sets.prepared_splits(name, data_dir=data_dir, options=options)
    if not splits:
        raise BadInput(f"data set {name!r} is not prepared, so there is nothing to check: jaxseg data prepare {name}")
    examples = []
    for split, count in splits.items():
        if not count:
            continue
        opened = sets.open_split(name, split, data_dir=data_dir, options=options)
        try:
            names = [str(each.decode() if isinstance(each, bytes) else each) for each in opened.column("id")]
        except BadInput:
            names = [f"{split}[{number}]" for number in range(count)]
        examples += [
            Example(split, names[number], lambda opened=opened, number=number: opened[number])
            for number in range(count)
        ]
    return facts, f"data set {name}", examples, []


def _read(example: Example) -> Record:
    try:
        return example.read()
    except BadInput:
        raise
    except (OSError, ValueError, SyntaxError, KeyError) as error:
        raise BadInput(f"{example.split}: {example.name} cannot be read ({' '.join(str(error).split())})") from error


def _check_splits(examples: Sequence[Example], faults: problems.Problems, path: Path) -> None:
    if not any(example.split.startswith("train") or "_train" in example.split for example in examples):
        there = ", ".join(dict.fromkeys(example.split for example in examples)) or "none"
        faults[f"{path}: there is no split to train on (splits: {there}); call it train"] = None


class _Tally:
    """Counts, over all examples."""

    def __init__(self, facts: Facts | None):
        self.facts = facts
        self.splits: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.values: Counter[str] = Counter()
        self.low, self.high = np.inf, -np.inf
        self.pixels, self.images = np.zeros(256, np.int64), np.zeros(256, np.int64)
        count = len(facts.things) if facts else 0
        self.objects, self.with_objects = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.by_split: dict[str, np.ndarray] = {}
        self.depth = DepthTally()
        self.empty: list[str] = []
        self.blank: list[str] = []
        self.same: dict[bytes, list[tuple[str, str]]] = defaultdict(list)

    def add(self, example: Example, record: Record) -> None:
        """Count an example, and raise if training would refuse it."""
        assert self.facts is not None
        where = f"{example.split}/{example.name}"
        image = record["image"]
        _validate(record, where, self.facts)
        self.splits[example.split] += 1
        self.sizes[f"{image.shape[0]} x {image.shape[1]}"] += 1
        channels, dtype = (image.shape[-1], image.dtype.name) if example.stored is None else example.stored()
        self.formats[f"{channels} band{'s' if channels != 1 else ''} of {dtype}"] += 1
        low, high = float(image.min()), float(image.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low == high:
            self.blank.append(where)
        for path in example.files:
            if path.suffix.lower() in SUFFIXES:
                self.values.update(_values(path))
        content = hashlib.sha256(repr((image.shape, image.dtype.name)).encode() + image.tobytes()).digest()
        self.same[content].append((example.split, example.name))
        self._count(example, record, where)

    def _count(self, example: Example, record: Record, where: str) -> None:
        assert self.facts is not None
        filled = False
        if "label" in record and self.facts.classes:
            found = np.bincount(record["label"].ravel(), minlength=256)[:256]
            self.pixels += found
            self.images += found > 0
            self.by_split[example.split] = self.by_split.get(example.split, np.zeros(256, np.int64)) + found
            inside = found[: len(self.facts.classes)].copy()
            inside[_background(self.facts.classes)] = 0
            filled = bool(inside.any())
        if "classes" in record:
            found = np.bincount(record["classes"], minlength=len(self.objects))
            self.objects += found
            self.with_objects += found > 0
            filled = filled or bool(found.any())
        filled = self.depth.add(where, record) or filled or bool(record.get("normal_valid", np.zeros(0)).any())
        if not filled and example.annotated and "depth" not in record:
            self.empty.append(where)

    def result(self, name: str, kind: str, faults: list[str], said: list[str]) -> Checked:
        """Return all that was counted."""
        classes = self.facts.classes if self.facts else ()
        things = self.facts.things if self.facts else ()
        whole = max(int(self.pixels[: len(classes)].sum()), 1)
        across = tuple(
            tuple(f"{split}/{each}" for split, each in several)
            for several in self.same.values()
            if len({split for split, _ in several}) > 1
        )
        within = tuple(
            tuple(f"{split}/{each}" for split, each in several)
            for several in self.same.values()
            if len(several) > 1 and len({split for split, _ in several}) == 1
        )
        if self.facts is not None and not self.splits and not faults:
            faults.append(f"{name} holds no image that can be read")
        return Checked(
            name=name,
            kind=kind,
            splits=dict(self.splits),
            sizes=dict(self.sizes.most_common()),
            formats=dict(self.formats.most_common()),
            low=self.low if self.splits else None,
            high=self.high if self.splits else None,
            classes=tuple(
                ClassRow(each, int(self.pixels[k]), float(self.pixels[k] / whole), int(self.images[k]))
                for k, each in enumerate(classes)
            ),
            void=int(self.pixels[VOID]),
            things=tuple(
                ThingRow(each, int(self.objects[k]), int(self.with_objects[k])) for k, each in enumerate(things)
            ),
            depth=self.depth.row,
            unknown=tuple(self.depth.unknown),
            values=dict(sorted(self.values.items(), key=lambda pair: (len(pair[0]), pair[0]))),
            empty=tuple(self.empty),
            blank=tuple(self.blank),
            duplicates=across,
            repeated=within,
            problems=tuple(faults),
            warnings=tuple(self._warnings(across, within)),
            notes=tuple(said),
        )

    def _warnings(self, across: Sequence[Sequence[str]], within: Sequence[Sequence[str]]) -> list[str]:
        found = []
        if across:
            found.append(f"the same picture is in several splits: {several(list(map(' = '.join, across)), SHOWN)}")
        if within:
            found.append(f"the same picture is there several times: {several(list(map(' = '.join, within)), SHOWN)}")
        if self.empty:
            found.append(f"nothing is annotated in {len(self.empty)} images: {several(self.empty, SHOWN)}")
        found += self.depth.warnings(self.facts is not None and "unit" in self.facts.options)
        if self.blank:
            found.append(f"images of a single value: {several(self.blank, SHOWN)}")
        classes = self.facts.classes if self.facts else ()
        absent = [each for k, each in enumerate(classes) if not self.pixels[k]]
        if absent and self.splits:
            found.append(f"classes without a pixel: {several(absent, SHOWN)}")
        train = sum((counts for split, counts in self.by_split.items() if "train" in split), np.zeros(256, np.int64))
        unseen = [each for k, each in enumerate(classes) if self.pixels[k] and not train[k]]
        if unseen and len(self.by_split) > 1:
            found.append(f"classes that no image of train has: {several(unseen, SHOWN)}")
        if self.splits and set(self.splits) == {"train"}:
            found.append("there is no split to evaluate on; the option split sets images apart")
        return found


def _validate(record: Record, where: str, facts: Facts) -> None:
    """Raise as the mouth of the pipeline does."""
    keys = tuple(key for key in facts.keys if key in record)
    slots = max(len(record["boxes"]), 1) if "boxes" in record else 1
    lengths = max(len(record["rle"]), 1) if "rle" in record else 1
    row = records.to_batch_row(record, keys=keys, slots=slots, rle_bytes=lengths, where=where)
    records.validate(row, where=where, limits=facts.limits)


def _values(path: Path) -> list[str]:
    """Return the numbers or the colours that the file of a mask holds."""
    colours = read_colours(path)
    if colours is not None and (colours[..., :1] != colours).any():
        codes = np.unique(colours.reshape(-1, colours.shape[-1]), axis=0)
        return ["#" + bytes(code.tolist()).hex() for code in codes[:VOID]]
    numbers = np.unique(read_label(path) if colours is None else colours[..., 0])
    return [str(number) for number in numbers[: VOID + 1].tolist()]


def _background(classes: Sequence[str]) -> list[int]:
    """Return the number of the class that stands for nothing: the one called so, or else the first of several."""
    named = [k for k, name in enumerate(classes) if name.lower().strip("_") in ("background", "bg")]
    return named or ([0] if len(classes) > 1 else [])
