"""Records: one example as a dict of NumPy arrays under the keys of :data:`jaxseg.types.BATCH`, without the axis ``b``.

Inside the pipeline integer maps may be narrower than in a batch (a label is uint8), which is faster;
:func:`to_batch_row` converts them to their final dtypes and :func:`validate` checks every record.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from jaxseg.data.slots import areas, fit_slots
from jaxseg.errors import BadInput
from jaxseg.types import BATCH, VOID, Key, bare_key, beside, key_of

Record = dict[str, np.ndarray]
"""One example. Keys and meanings: :data:`jaxseg.types.BATCH`."""

PROPOSAL_SLOTS = 2000
"""Proposals per image unless told otherwise: as many as R-CNN and Fast R-CNN take."""

RLE_BYTES = 65536
"""Bytes of ``rle`` per image unless told otherwise: some hundred outlines as detailed as COCO's."""


def decode_image(data: bytes | np.ndarray) -> np.ndarray:
    """Decode PNG or JPEG bytes: uint8 [h w 3], or [h w] for one channel; a 16-bit PNG gives uint16 [h w].

    >>> decode_image(encode_png(np.zeros((2, 3), np.uint8))).shape
    (2, 3)
    """
    with Image.open(io.BytesIO(data if isinstance(data, bytes) else data.tobytes())) as image:
        array = np.asarray(image)
    return array.astype(np.uint16) if image.mode.startswith("I") else array


def encode_png(array: np.ndarray) -> bytes:
    """Encode uint8 [h w], uint8 [h w 3] or uint16 [h w] as PNG, lossless.

    >>> decode_image(encode_png(np.asarray([[1, 300]], np.uint16))).tolist()
    [[1, 300]]
    """
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG", compress_level=4)
    return out.getvalue()


def known(record: Record) -> Iterator[tuple[str, Key]]:
    """Yield the record's keys that the vocabulary knows, each with its row; others pass through transforms untouched.

    >>> [name for name, row in known({"parts/label": np.zeros((2, 2)), "note": np.zeros(1)})]
    ['parts/label']
    """
    for name in record:
        row = BATCH.get(bare_key(name))
        if row is not None:
            yield name, row


def size(record: Record) -> tuple[int, int]:
    """Return height and width of the record's image (or of any other map that it holds).

    Raises:
      BadInput: the record holds no map.

    >>> size({"image": np.zeros((4, 6, 3))})
    (4, 6)
    """
    for name, row in known(record):
        if row.is_map:
            return record[name].shape[0], record[name].shape[1]
    raise BadInput(f"a record without any map (it holds {', '.join(record) or 'nothing'}) has no size")


def to_batch_row(
    record: Record,
    *,
    keys: tuple[str, ...],
    slots: int,
    proposal_slots: int = PROPOSAL_SLOTS,
    rle_bytes: int = RLE_BYTES,
    where: str = "a record",
) -> Record:
    """Return the record as it goes into a batch: the keys asked for, in their final types, padded to slots.

    What may be padded or unknown comes with its mask, asked for or not: ``valid`` with objects, ``depth_valid`` with
    depth, and so on. A mask that the record lacks is all true, and a labelled record that lacks ``weight`` has the
    weight 1 everywhere: only training transforms put others. ``parts/label`` is the record's own ``parts/label`` or,
    if there is none, its ``label``. Objects are fitted into the slots by :func:`jaxseg.data.slots.fit_slots`: valid
    ones first, and where there are too many, the largest. Where the record does not say otherwise, no object is a
    crowd, difficult, or behind another, and ``area`` is that of the mask, or of the box.

    Args:
      record: one example after its transforms.
      keys: what the batch holds.
      slots: objects per image.
      proposal_slots: proposals per image.
      rle_bytes: length of ``rle``.
      where: what to call the example in an error.

    Raises:
      BadInput: a key is unknown or absent, its values do not fit its type, or there are more proposals or bytes of run
        lengths than there is room for.

    >>> record = {"image": np.zeros((4, 6, 3), np.uint8), "boxes": np.asarray([[0, 0, 3, 4]], np.float32)}
    >>> to_batch_row(record, keys=("boxes",), slots=2)["valid"].tolist()
    [True, False]
    """
    done: Record = {}
    if any("boxes" in (bare_key(name), *key_of(BATCH, name).needs) for name in keys):
        record = _fitted(record, slots, where)
    for name in with_masks(keys):
        row = key_of(BATCH, name)
        array = _value(record, name)
        if array is None:
            raise BadInput(f"{where} has no {name!r}; it has: {', '.join(record)}")
        if row.slots == "n":
            array = _padded(
                array, slots, f"{where} has {len(array)} rows of {name!r} but slots={slots}; set Data.slots"
            )
        elif row.slots == "p":
            rule = f"{where} has {len(array)} proposals but proposal_slots={proposal_slots}; set Data.proposal_slots"
            array = _padded(array, proposal_slots, rule)
        elif row is BATCH["rle"]:
            rule = f"{where} has {len(array)} bytes of {name!r} but rle_bytes={rle_bytes}; set Data.rle_bytes"
            array = _padded(array, rle_bytes, rule)
        done[name] = _cast(name, array, row, where)
    return done


def with_masks(keys: Sequence[str]) -> tuple[str, ...]:
    """Return keys of a batch and the masks that come with them.

    >>> with_masks(("image", "depth"))
    ('image', 'depth', 'depth_valid')
    """
    masks = [beside(name, row.mask) for name, row in ((name, key_of(BATCH, name)) for name in keys) if row.mask]
    return tuple(dict.fromkeys((*keys, *masks)))


def _fitted(record: Record, slots: int, where: str) -> Record:
    try:
        return fit_slots(record, slots, where=where)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def _value(record: Record, name: str) -> np.ndarray | None:
    """Return the array of that name or its default: of the same task first, then the shared one."""
    for candidate in dict.fromkeys((name, bare_key(name))):
        if candidate in record:
            return record[candidate]
        made = _default(record, candidate)
        if made is not None:
            return made
    return None


def _default(record: Record, name: str) -> np.ndarray | None:
    bare = bare_key(name)
    if bare == "weight" and beside(name, "label") in record:
        return np.ones(record[beside(name, "label")].shape, np.float32)
    if bare in ("crowd", "difficult") and beside(name, "boxes") in record:
        return np.zeros(len(record[beside(name, "boxes")]), bool)
    if bare == "area" and beside(name, "boxes") in record:
        return areas(record, beside(name, "boxes"))
    if bare == "hidden_ids" and beside(name, "instance_ids") in record:
        return np.zeros(record[beside(name, "instance_ids")].shape, np.uint16)
    if bare == "present":
        return np.asarray(True)
    if name in ("extent", "size"):
        height, width = size(record)
        extent = record.get("extent", np.asarray([0, 0, width, height], np.float32))
        x0, y0, x1, y1 = np.rint(extent)
        return extent if name == "extent" else np.asarray([y1 - y0, x1 - x0], np.int32)
    for owner, row in BATCH.items():
        if row.mask == bare and beside(name, owner) in record:
            axes = len(BATCH[bare].letters) - 1
            return np.ones(record[beside(name, owner)].shape[:axes], bool)
    return None


def _cast(name: str, array: np.ndarray, row: Key, where: str) -> np.ndarray:
    """Convert to the row's dtype; where it allows several, leave the check to ``validate``."""
    if len(row.dtypes) > 1:
        return np.asarray(array, order="C")
    done = np.asarray(array, np.dtype(row.dtype), order="C")
    if not np.can_cast(array.dtype, row.dtype, "same_kind") and not np.array_equal(done, array):
        raise BadInput(f"{where}: {_describe(name, array)}, which does not fit {row.dtype}")
    return done


def validate(record: Record, *, where: str, limits: Mapping[str, int] | None = None) -> None:
    """Raise if a record breaks the vocabulary: known keys, dtypes, axes that agree, values in range.

    Args:
      record: one example, as it goes into a batch.
      where: what to call it in the error, "camvid/train[17]".
      limits: lengths of the tables that values index and of axes that are known, as
        :attr:`jaxseg.data.facts.Facts.limits` has them: "classes", "things", "c", "parts/classes". What is not among
        them is left open.

    Raises:
      BadInput: names the example, the key, dtype, shape and the range found.

    >>> validate({"label": np.full((2, 2), 7, np.int32)}, where="x", limits={"classes": 3})
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: x: 'label' is int32[2 2], 7..7, but value 7 is neither a class (0..2) nor void (255)
    """
    limits = limits or {}
    axes = {letter: length for letter, length in limits.items() if len(letter) == 1}
    for name, array in record.items():
        row = BATCH.get(bare_key(name))
        if row is None:
            raise BadInput(f"{where}: {name!r} is not a key of a batch")
        if array.dtype.name not in row.dtypes:
            raise BadInput(f"{where}: {_describe(name, array)}, but {' or '.join(row.dtypes)} belongs there")
        letters = row.letters[1:]
        if array.ndim != len(letters):
            raise BadInput(f"{where}: {_describe(name, array)}, but its axes are [{' '.join(letters)}]")
        for letter, length in zip(letters, array.shape, strict=True):
            of_task = letter if letter in "hwc" else beside(name, letter)
            expected = int(letter) if letter.isdigit() else axes.setdefault(of_task, length)
            if expected != length:
                raise BadInput(f"{where}: {_describe(name, array)}, but axis {letter!r} should be {expected}")
        fault = _fault(name, row, record, limits)
        if fault:
            raise BadInput(f"{where}: {_describe(name, array)}, {fault}")


def _describe(name: str, array: np.ndarray) -> str:
    span = f", {array.min()}..{array.max()}" if array.size and array.dtype.kind in "iuf" else ""
    return f"{name!r} is {array.dtype}{re.sub(',', '', str(list(array.shape)))}{span}"


def _fault(name: str, row: Key, record: Record, limits: Mapping[str, int]) -> str | None:
    array = record[name]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "but every value must be finite"
    mask = record.get(beside(name, row.mask)) if row.mask else None
    if mask is not None and mask.shape == array.shape[: mask.ndim]:
        array = array[mask]
    if not array.size or row.bound is None:
        return None
    return _RULES[row.bound](name, array, record, limits)


def _class_fault(name: str, array: np.ndarray, record: Record, limits: Mapping[str, int]) -> str | None:
    classes = array if bare_key(name) == "label" else array[..., 0]
    top = limits.get(beside(name, "classes"), VOID)
    inside = ((classes >= 0) & (classes < top)) | (classes == VOID)
    if inside.all():
        return None
    wrong = int(classes[~inside].flat[0])
    return f"but value {wrong} is neither a class (0..{top - 1}) nor void ({VOID})"


def _thing_fault(name: str, array: np.ndarray, record: Record, limits: Mapping[str, int]) -> str | None:
    top = limits.get(beside(name, "things"))
    if top == 0:
        return "but the data set names no classes of objects (Facts.things)"
    if array.min() < 0 or (top is not None and array.max() >= top):
        return f"but classes are 0..{'' if top is None else top - 1}"
    return None


def _slot_fault(name: str, array: np.ndarray, record: Record, limits: Mapping[str, int]) -> str | None:
    boxes = record.get(beside(name, "boxes"))
    if boxes is not None and array.max() > len(boxes):
        return f"but there are {len(boxes)} object slots"
    return None


def _negative_fault(name: str, array: np.ndarray, record: Record, limits: Mapping[str, int]) -> str | None:
    return f"but {bare_key(name)}s cannot be negative" if array.min() < 0 else None


def _unit_fault(name: str, array: np.ndarray, record: Record, limits: Mapping[str, int]) -> str | None:
    length = np.linalg.norm(array, axis=-1)
    return f"but {bare_key(name)}s must have unit length" if np.abs(length - 1).max() > 1e-3 else None


def _visibility_fault(name: str, array: np.ndarray, record: Record, limits: Mapping[str, int]) -> str | None:
    known = np.isin(array[..., 2], (0, 1, 2)).all()
    return None if known else "but visibility is 0 (absent), 1 (hidden) or 2 (visible)"


def _box_fault(name: str, array: np.ndarray, record: Record, limits: Mapping[str, int]) -> str | None:
    if (array[:, 2:] <= array[:, :2]).any():
        return "but boxes are x0 y0 x1 y1 with x0 < x1 and y0 < y1"
    height, width = size(record)
    if array.min() < 0 or array[:, 2].max() > width or array[:, 3].max() > height:
        return f"but the image is {height} high and {width} wide"
    return None


_RULES: dict[str, Callable[[str, np.ndarray, Record, Mapping[str, int]], str | None]] = {
    "classes": _class_fault,
    "things": _thing_fault,
    "slots": _slot_fault,
    "not negative": _negative_fault,
    "unit": _unit_fault,
    "visibility": _visibility_fault,
    "box": _box_fault,
}


def _padded(array: np.ndarray, slots: int, rule: str) -> np.ndarray:
    if len(array) > slots:
        raise BadInput(f"{rule} to {len(array)} or more")
    return np.concatenate([array, np.zeros((slots - len(array), *array.shape[1:]), array.dtype)])
