"""Decide from masks and a table what the masks mean: numbers, colours, 0 and 255; which numbers there are."""

import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.data import problems
from jaxseg.data.folders.item import Colour
from jaxseg.data.folders.mask_files import Coding, hex_of, is_grey, pack
from jaxseg.data.folders.tables import VOIDS, Row, Table, parse_colour
from jaxseg.data.images import palette_of, read_colours, read_label
from jaxseg.errors import BadInput, suggest
from jaxseg.files import atomic, cache_dir
from jaxseg.types import VOID

SAMPLE = 32
"""Masks that are looked at first."""

_MOST = 255
"""Classes of a label map; void is the last of its numbers."""

_DENSE = 64
"""Numbers up to this one are classes, whether they occur or not; of larger ones, those that occur."""


@dataclass(frozen=True, eq=False)
class Meaning:
    """What the masks of a folder mean.

    Attributes:
      coding: how they are read.
      palette: a colour for each class; empty if there are none.
      void: what is void in them: numbers, colours, names.
      kind: in a few words.
      notes: choices that were made.

    >>> Meaning(Coding(("a",), ((0, 0),), (), "the masks"), (), (), "numbers", ()).kind
    'numbers'
    """

    coding: Coding
    palette: tuple[Colour, ...]
    void: tuple[int | str, ...]
    kind: str
    notes: tuple[str, ...]


def decide(root: Path, masks: Sequence[Path], table: Table | None, void: object) -> Meaning:
    """Decide what masks mean, by the table or, without one, by all numbers in them.

    Args:
      root: the folder, for messages.
      masks: files, in order.
      table: the classes, with their numbers or colours.
      void: the option of that name.

    Raises:
      BadInput: the masks hold colours without a table, more numbers than classes can be, or cannot be read; or the
        option names a class that is not there.

    >>> import tempfile
    >>> from jaxseg.data.records import encode_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.png"
    ...     _ = path.write_bytes(encode_png(np.asarray([[0, 255]], np.uint8)))
    ...     decide(Path(folder), [path], None, None).coding.classes
    ('background', 'foreground')
    """
    sample = [masks[i] for i in sorted({int(i) for i in np.linspace(0, len(masks) - 1, SAMPLE)})]
    first = _look_at(sample)
    numbers, colours, names = _voids(void)
    if table is None:
        return _numbered(root, _all_numbers(masks, first), first, numbers, colours, names)
    missing = [name for name in names if name not in {row.name for row in table.rows}]
    if missing:
        known = [row.name for row in table.rows]
        raise BadInput(f"option void: no class is called {missing[0]!r}{suggest(missing[0], known)}")
    kept = [row for row in table.rows if not _is_void(table, row, void, (numbers, colours, names))]
    if not kept or len(kept) > _MOST:
        raise BadInput(f"{root / table.file} leaves {len(kept)} classes; there can be 1 to {_MOST}")
    coded = any(row.colour is not None for row in table.rows)
    if first.colours and not coded:
        raise BadInput(f"{table.file} has no colours, but {_colours_found(first)}; write them there: name,r,g,b")
    dropped = [row for row in table.rows if row not in kept]
    classes = {row.name: number for number, row in enumerate(kept)}
    values = {_number(table, row): classes.get(row.name, VOID) for row in table.rows}
    notes = [f"{row.name!r} of {table.file} is void" for row in dropped]
    plain = all(row.value is None for row in table.rows)
    binary = plain and len(kept) == 2 and not dropped and not numbers and 255 in first.numbers
    if binary and 1 not in _all_numbers(masks, first).numbers:
        values = {0: 0, 255: 1}
    for number in numbers:
        values[number] = VOID
    if 255 not in values:
        values[255] = VOID
    marks = {row.colour: classes.get(row.name, VOID) for row in table.rows if row.colour is not None}
    codes = {_code(colour): number for colour, number in marks.items()} | dict.fromkeys(map(_code, colours), VOID)
    palette = tuple(row.colour for row in kept if row.colour is not None) if coded else _palette_in(masks, values, kept)
    coding = Coding(tuple(classes), _pairs(values), _pairs(codes), table.file, first.jpeg)
    kind = "RGB colours" if first.colours else "0 and 255" if values.get(255) == 1 else "numbers"
    spelled = (*numbers, *map(_hex, colours), *(row.name for row in dropped))
    return Meaning(coding, palette, spelled, kind, tuple(notes))


@dataclass(frozen=True, eq=False)
class _Contents:
    """Numbers, and colours with their pixels, that masks hold; one that holds colours; whether grey ones are JPEGs."""

    numbers: frozenset[int]
    colours: Counter[int]
    example: Path | None
    jpeg: bool


def _look_at(masks: Sequence[Path]) -> _Contents:
    """Read masks, in threads; what cannot be read is a problem."""
    numbers: set[int] = set()
    colours: Counter[int] = Counter()
    example, jpeg = None, False
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for path, made in zip(masks, pool.map(_try_contents, masks), strict=True):
            if isinstance(made, BadInput):
                problems.report(str(made))
                continue
            found, of_colours = made
            if of_colours:
                colours, example = colours + of_colours, example or path
            elif path.suffix.lower() in (".jpg", ".jpeg"):
                jpeg = True
                found = {0 if value < 128 else 255 for value in found}
            numbers |= found
    return _Contents(frozenset(numbers), colours, example, jpeg)


def _try_contents(path: Path) -> tuple[set[int], Counter[int]] | BadInput:
    try:
        return _contents(path)
    except BadInput as error:
        return error


def _contents(path: Path) -> tuple[set[int], Counter[int]]:
    quick = _histogram(path)
    if quick is not None:
        return set(np.flatnonzero(quick).tolist()), Counter()
    rgb = read_colours(path)
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    if rgb is not None and not is_grey(rgb):
        if jpeg:
            raise BadInput(f"{path} is a mask in colours as JPEG, which blurs them; save it as PNG")
        codes, counts = np.unique(pack(rgb), return_counts=True)
        if len(codes) > 4 * _MOST:
            raise BadInput(
                f"{path} holds {len(codes)} colours: a photograph, not a mask; masks hold one for each class"
            )
        return set(), Counter(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
    label = read_label(path) if rgb is None else rgb[..., 0]
    if label.dtype == np.uint8:
        counts = np.bincount(label.ravel(), minlength=256)
        found = set(np.flatnonzero(counts).tolist())
        blurred = int(counts[32:224].sum())
        if jpeg and found and (blurred > label.size / 10 or (max(found) < 224 and max(found) > 0)):
            raise BadInput(f"{path} is a mask of numbers as JPEG, which blurs them; save it as PNG")
        return found, Counter()
    values = np.unique(label)
    if len(values) > _MOST + 1:
        raise BadInput(f"{path} holds {len(values)} numbers, of which there can be {_MOST} and void; is it a mask?")
    return set(values.tolist()), Counter()


def _histogram(path: Path) -> np.ndarray | None:
    """Return how often each number occurs in a PNG of 8-bit numbers; None for other files, which take longer."""
    try:
        data = path.read_bytes()
        if data[:8] != b"\x89PNG\r\n\x1a\n" or data[24:26] not in (b"\x08\x00", b"\x08\x03"):
            return None
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.histogram()) if image.width * image.height < 2**24 else None
    except (OSError, SyntaxError, ValueError):
        return None  # the slower reader says what is wrong


def _all_numbers(masks: Sequence[Path], first: _Contents) -> _Contents:
    """Read every mask, once: what was found is kept in the cache as long as no mask changes."""
    if first.colours or len(masks) <= SAMPLE:
        return first
    lines = []
    for path in masks:
        status = path.stat()
        lines.append(f"{path}\0{status.st_size}\0{status.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    folder = cache_dir()
    path = None if folder is None else folder / "folders" / f"{digest}.json"
    if path is not None and path.is_file():
        return _Contents(frozenset(json.loads(path.read_text(encoding="utf-8"))), Counter(), None, first.jpeg)
    found = _look_at(masks)
    if path is not None and not found.colours:
        with contextlib.suppress(OSError), atomic(path) as part:  # if it cannot be kept, it is read again next time
            part.write_text(json.dumps(sorted(found.numbers)), encoding="utf-8")
    return found


def _numbered(
    root: Path,
    contents: _Contents,
    first: _Contents,
    numbers: Sequence[int],
    colours: Sequence[Colour],
    names: Sequence[str],
) -> Meaning:
    """Return the meaning of masks without a table."""
    if contents.colours:
        raise BadInput(
            f"{root}: {_colours_found(contents)}, and no table says what they mean; write {root / 'classes.csv'} with "
            "the rows name,r,g,b, or say --option classes=NAME=#rrggbb,..."
        )
    if names or colours:
        spelled = names[0] if names else _hex(colours[0])
        raise BadInput(f"option void is {spelled!r}, but the masks of {root} hold numbers without a table of classes")
    values = contents.numbers - set(numbers)
    if values <= {0, 255} and 255 in values:
        coding = Coding(
            ("background", "foreground"), _pairs({0: 0, 255: 1} | dict.fromkeys(numbers, VOID)), (), "the masks"
        )
        coding = Coding(coding.classes, coding.values, (), coding.source, first.jpeg)
        return Meaning(coding, ((0, 0, 0), (255, 255, 255)), tuple(numbers), "0 and 255", ())
    kept, notes = values - {255}, []
    if kept and min(kept) < 0:
        raise BadInput(f"{root}: masks hold the number {min(kept)}; say --option void={min(kept)} if it is no class")
    top = max(kept, default=0)
    if top < max(_DENSE, 2 * len(kept)):
        used = list(range(top + 1))
        gaps = [value for value in used if value not in kept]
        if gaps:
            notes.append(f"no mask holds {', '.join(map(str, gaps[:8]))}, counted as classes since {top} is one")
    else:
        used = sorted(kept)
        notes.append(f"the numbers {', '.join(map(str, used[:8]))} of the masks became classes 0 to {len(used) - 1}")
    if len(used) > _MOST:
        raise BadInput(
            f"{root}: masks hold {len(used)} numbers, of which there can be {_MOST} and void; are they masks?"
        )
    binary = used in ([0, 1], [0])
    classes = ("background", "foreground") if binary else tuple(f"class_{value}" for value in used)
    coded = {value: number for number, value in enumerate(used)} | dict.fromkeys(numbers, VOID)
    if binary:
        coded.setdefault(1, 1)
    coded.setdefault(255, VOID)
    if not binary:
        notes.append(
            f"{len(used)} classes without names; write {root / 'classes.csv'} with the rows name,id to name them"
        )
    void = (*numbers, *([255] if 255 in contents.numbers and 255 not in numbers else []))
    return Meaning(Coding(classes, _pairs(coded), (), "the masks"), (), void, "numbers", tuple(notes))


def _colours_found(contents: _Contents) -> str:
    whole = contents.colours.total()
    shown = [f"{hex_of(code)} {100 * count / whole:.1f} %" for code, count in contents.colours.most_common(16)]
    more = len(contents.colours) - len(shown)
    return (
        f"masks such as {contents.example} hold colours ({', '.join(shown)}{f' and {more} more' if more > 0 else ''})"
    )


def _voids(void: object) -> tuple[list[int], list[Colour], list[str]]:
    """Return numbers, colours and names of the option ``void``."""
    items = [] if void is None else list(void) if isinstance(void, tuple | list) else [void]
    words = [word.strip() for item in items if isinstance(item, str) for word in item.split(",")]
    numbers = [item for item in items if type(item) is int] + [int(word) for word in words if word.isdigit()]
    colours = [colour for word in words if (colour := parse_colour(word)) is not None]
    names = [word for word in words if word and not word.isdigit() and parse_colour(word) is None]
    strange = [item for item in items if type(item) is not int and not isinstance(item, str)]
    if strange:
        raise BadInput(f"option void is {void!r}; it takes numbers, colours such as '#ff00ff', or names of classes")
    return numbers, colours, names


def _is_void(table: Table, row: Row, void: object, said: tuple[Sequence[int], Sequence[Colour], Sequence[str]]) -> bool:
    """Return True for a class that the option makes void, or that is called so where the option says nothing."""
    numbers, colours, names = said
    by_code = _number(table, row) in numbers or row.colour in colours
    return row.name in names or by_code or (void is None and row.name.lower() in VOIDS)


def _number(table: Table, row: Row) -> int:
    return table.rows.index(row) if row.value is None else row.value


def _palette_in(masks: Sequence[Path], values: Mapping[int, int], kept: Sequence[Row]) -> tuple[Colour, ...]:
    """Return the colours of the first mask's palette in the classes' order; none where it has none or too few."""
    if not masks or masks[0].suffix.lower() in (".npy", ".tif", ".tiff"):
        return ()
    try:
        own = palette_of(masks[0])
    except BadInput:
        return ()
    number_of = {number: value for value, number in values.items()}
    found = [own[number_of[n]] for n in range(len(kept)) if own and n in number_of and 0 <= number_of[n] < len(own)]
    return tuple(found) if len(found) == len(kept) else ()


def _pairs(found: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(found.items()))


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _hex(colour: Colour) -> str:
    return hex_of(_code(colour))
