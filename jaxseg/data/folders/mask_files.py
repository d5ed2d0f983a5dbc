"""Read masks: numbers or colours in a file, or a file for each class, as u8[h w] of classes and void."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxseg.data.images import palette_of, read_colours, read_label
from jaxseg.errors import BadInput
from jaxseg.types import VOID


@dataclass(frozen=True)
class Coding:
    """What masks hold for the classes.

    Attributes:
      classes: their names.
      values: pairs of a number and its class, or :data:`~jaxseg.types.VOID`.
      colours: pairs of a colour, 65536 r + 256 g + b, and its class or void.
      source: where they are from, for messages: "classes.csv".
      threshold: whether grey masks are black or white, as JPEG leaves them.

    >>> Coding(("background", "cell"), ((0, 0), (255, 1)), (), "the masks").lookup.tolist()[254:]
    [-1, 1]
    """

    classes: tuple[str, ...]
    values: tuple[tuple[int, int], ...]
    colours: tuple[tuple[int, int], ...]
    source: str
    threshold: bool = False

    @functools.cached_property
    def lookup(self) -> np.ndarray:
        """i16[number], the class of each number, -1 for none."""
        table = np.full(max([255, *(value for value, _ in self.values if value < 2**16)]) + 1, -1, np.int16)
        for value, number in self.values:
            if 0 <= value < len(table):
                table[value] = number
        return table

    @functools.cached_property
    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        """The colours in rising order i32[k], and their classes i16[k]."""
        pairs = sorted(self.colours)
        return np.asarray([code for code, _ in pairs], np.int32), np.asarray([number for _, number in pairs], np.int16)


def read_mask(path: Path, coding: Coding) -> np.ndarray:
    """Read the classes u8[h w] of a mask.

    A palette counts by its colours where the coding has colours and all that the mask shows are among them.

    Raises:
      BadInput: the file cannot be read, or holds a number or a colour that is neither a class nor void.

    >>> import tempfile
    >>> from jaxseg.data.records import encode_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.png"
    ...     _ = path.write_bytes(encode_png(np.asarray([[0, 255]], np.uint8)))
    ...     read_mask(path, Coding(("background", "cell"), ((0, 0), (255, 1)), (), "the masks")).tolist()
    [[0, 1]]
    """
    rgb = read_colours(path)
    if rgb is not None:
        if coding.colours:
            return _by_colour(path, pack(rgb), coding)
        if not is_grey(rgb):
            raise BadInput(f"{path} holds colours, other masks hold numbers; save all of them alike")
        return _by_number(path, rgb[..., 0], coding)
    numbers = read_label(path)
    if coding.colours:
        own = palette_of(path) if numbers.dtype == np.uint8 and path.suffix.lower() != ".npy" else None
        if own is not None:
            shown = pack(np.asarray(own + [(0, 0, 0)] * (256 - len(own)), np.uint8))[numbers]
            if np.isin(np.unique(shown), coding.codes[0]).all():
                return _by_colour(path, shown, coding)
    return _by_number(path, numbers, coding)


def read_class_masks(paths: Sequence[tuple[int, Path]], rest: int, ordered: bool) -> np.ndarray:
    """Read the classes u8[h w] of masks of one class each, in which everything but 0 is the class.

    Args:
      paths: class and file.
      rest: the class of pixels in none of the files, or void.
      ordered: whether the classes' order was given, so that of two classes at a pixel the later one counts.

    Raises:
      BadInput: a file cannot be read, holds more than two numbers, is of another size than the others, or, unless
        ``ordered``, two classes share a pixel.

    >>> import tempfile
    >>> from jaxseg.data.records import encode_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.png"
    ...     _ = path.write_bytes(encode_png(np.asarray([[0, 255]], np.uint8)))
    ...     read_class_masks([(1, path)], rest=0, ordered=False).tolist()
    [[0, 1]]
    """
    label: np.ndarray | None = None
    taken: np.ndarray | None = None
    for number, path in sorted(paths):
        inside = read_part(path)
        if label is None or taken is None:
            label, taken = np.full(inside.shape, rest, np.uint8), np.zeros(inside.shape, bool)
        if inside.shape != label.shape:
            raise BadInput(f"{path} is {size_of(inside)}, other masks of that image are {size_of(label)}")
        both = int((inside & taken).sum())
        if both and not ordered:
            raise BadInput(
                f"{path}: {both} pixels are of another class too; say which is in front by the order of the classes, "
                "the front one last: --option classes=A,B,C"
            )
        label[inside] = number
        taken |= inside
    assert label is not None, "an image without a mask has no reader"
    return label


def read_part(path: Path) -> np.ndarray:
    """Read the mask of one class or one object, bool[h w]: everything but 0.

    Raises:
      BadInput: the file cannot be read, or holds more than 0 and one other number.

    >>> import tempfile
    >>> from jaxseg.data.records import encode_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.png"
    ...     _ = path.write_bytes(encode_png(np.asarray([[0, 255]], np.uint8)))
    ...     read_part(path).tolist()
    [[False, True]]
    """
    rgb = read_colours(path)
    mask = read_label(path) if rgb is None else rgb[..., 0]
    values = np.unique(mask).tolist()
    if (rgb is not None and not is_grey(rgb)) or len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise BadInput(
            f"{path} is the mask of one class or object but holds {_listed(values)}; such a mask is 0 and one other"
        )
    return mask != 0


def size_of(mask: np.ndarray) -> str:
    """Return width and height of a mask as messages have them.

    >>> size_of(np.zeros((4, 6)))
    '6x4'
    """
    return f"{mask.shape[1]}x{mask.shape[0]}"


def pack(rgb: np.ndarray) -> np.ndarray:
    """Return colours u8[... 3] as numbers i32[...]: 65536 r + 256 g + b.

    >>> pack(np.asarray([[1, 0, 2]], np.uint8)).tolist()
    [65538]
    """
    wide = rgb.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def is_grey(rgb: np.ndarray) -> bool:
    """Return True if red, green and blue are equal everywhere.

    >>> is_grey(np.zeros((1, 1, 3)))
    True
    """
    return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())


def hex_of(code: int) -> str:
    """Return the usual spelling of a colour.

    >>> hex_of(65538)
    '#010002'
    """
    return f"#{code:06x}"


def _by_number(path: Path, numbers: np.ndarray, coding: Coding) -> np.ndarray:
    if coding.threshold and numbers.dtype == np.uint8:
        numbers = np.where(numbers < 128, np.uint8(0), np.uint8(255))
    table = coding.lookup
    if numbers.dtype != np.uint8:
        outside = (numbers < 0) | (numbers >= len(table))
        found = table[np.where(outside, 0, numbers)]
        found[outside] = -1
    else:
        found = table[numbers]
    if (found < 0).any():
        wrong = int(numbers[found < 0].flat[0])
        known = sorted(value for value, number in coding.values if number != VOID)
        raise BadInput(
            f"{path}: value {wrong} ({int((numbers == wrong).sum())} pixels) is none of the {len(coding.classes)} "
            f"classes of {coding.source} ({_listed(known)}) nor void; add it to classes.csv, correct the mask, or say "
            f"--option void={wrong}"
        )
    return found.astype(np.uint8)


def _by_colour(path: Path, shown: np.ndarray, coding: Coding) -> np.ndarray:
    codes, classes = coding.codes
    places = np.searchsorted(codes, shown).clip(max=len(codes) - 1)
    strange = codes[places] != shown
    if strange.any():
        wrong = int(shown[strange].flat[0])
        distances = np.abs(_channels(codes) - _channels(np.asarray(wrong))).sum(-1)
        nearest = int(codes[distances.argmin()])
        number = dict(coding.colours)[nearest]
        name = "void" if number == VOID else coding.classes[number]
        red, green, blue = _channels(np.asarray(wrong)).tolist()
        raise BadInput(
            f"{path}: colour {hex_of(wrong)} ({int((shown == wrong).sum())} pixels) is not in {coding.source}; the "
            f"nearest there is {hex_of(nearest)} ({name}); add the row NAME,{red},{green},{blue}, correct the mask, or "
            f"say --option void={hex_of(wrong)}"
        )
    return classes[places].astype(np.uint8)


def _channels(codes: np.ndarray) -> np.ndarray:
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1)


def _listed(values: Sequence[int]) -> str:
    """Return numbers as a range where they are one, or the first of them."""
    if len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}..{values[-1]}"
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
