"""Fit an image's objects into a fixed number of slots: valid ones first, the largest kept, every key of theirs along.

Dropped are, in this order, crowds and difficult objects, then the smallest boxes. What is dropped is counted
(:func:`dropped`), and warned of once per process and split.
"""

import threading
import warnings
from collections import Counter

import numpy as np

from jaxseg.errors import BadInput
from jaxseg.ops import rle
from jaxseg.types import BATCH, VOID, bare_key, beside

Record = dict[str, np.ndarray]

_dropped: Counter[str] = Counter()
_lock = threading.Lock()


def fit_slots(record: Record, slots: int, *, where: str = "a record") -> Record:
    """Return the record with at most ``slots`` objects, all of them valid, in their order.

    The numbers in ``instance_ids``, ``hidden_ids`` and ``panoptic`` and the lines of ``rle`` follow. Of dropped objects
    the pixels show what lies behind; ``panoptic`` keeps them as segments, numbered beyond the slots, but for crowds,
    which become void.

    Args:
      record: one example after its transforms, not padded.
      slots: how many objects there is room for.
      where: what to call the example, "coco/train[17]"; what precedes the bracket is what drops are counted under.

    Raises:
      BadInput: a key of the objects has another length than their boxes.

    >>> boxes = np.asarray([[0, 0, 1, 1], [0, 0, 9, 9], [0, 0, 4, 4]], np.float32)
    >>> record = {"boxes": boxes, "valid": np.asarray([True, True, False]), "classes": np.asarray([5, 6, 7])}
    >>> fit_slots(record, 8)["classes"].tolist()
    [5, 6]
    """
    done = dict(record)
    for name in record:
        if BATCH.get(bare_key(name)) is BATCH["boxes"]:
            order = _kept(record, name, slots, where)
            if not np.array_equal(order, np.arange(len(record[name]))):
                _reorder(done, name, order)
    return done


def dropped() -> dict[str, int]:
    """Return how many objects had no slot so far in this process: the data set's split -> a count.

    Every reading counts: an image that is read twice counts its objects twice.

    >>> dropped().get("a split that was not read", 0)
    0
    """
    with _lock:
        return dict(_dropped)


def areas(record: Record, name: str = "boxes") -> np.ndarray:
    """Return f32[n], the pixels of each object: those of its mask, or its box's area where it has no mask.

    >>> areas({"boxes": np.asarray([[0, 0, 2, 3]]), "instance_ids": np.asarray([[1, 0]])}).tolist()
    [1.0]
    """
    boxes = record[name]
    of_box = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1, dtype=np.float32)
    pixels = pixels_of(record, name)
    return of_box if pixels is None else np.where(pixels > 0, pixels, of_box).astype(np.float32)


def pixels_of(record: Record, name: str = "boxes") -> np.ndarray | None:
    """Return how many pixels each object has in the id maps, i64[n]; None without such a map.

    >>> pixels_of({"boxes": np.zeros((2, 4)), "instance_ids": np.asarray([[1, 1, 2]])}).tolist()
    [2, 1]
    """
    maps = [record[key] for key in (beside(name, "instance_ids"), beside(name, "hidden_ids")) if key in record]
    count = len(record[name])
    if not maps:
        return None
    return np.sum([np.bincount(ids.ravel(), minlength=count + 1)[1 : count + 1] for ids in maps], axis=0)


def masks_as_text(record: Record, name: str = "boxes") -> np.ndarray:
    """Return u8[r], the masks of the id maps as COCO's run lengths, a line for each object; empty without pixels.

    >>> record = {"boxes": np.zeros((1, 4)), "instance_ids": np.asarray([[0, 1], [1, 1]], np.uint16)}
    >>> masks_as_text(record).tobytes()
    b'13'
    """
    ids = record[beside(name, "instance_ids")]
    hidden = record.get(beside(name, "hidden_ids"))
    pixels = pixels_of(record, name)
    lines = []
    for number in range(1, len(record[name]) + 1):
        mask = ids == number
        if hidden is not None:
            mask |= hidden == number
        lines.append(rle.to_string(rle.encode(mask)) if pixels is not None and pixels[number - 1] else "")
    return text_of(lines)


def text_of(lines: list[str]) -> np.ndarray:
    """Return u8[r], the lines joined as ``rle`` of a record holds them.

    >>> lines_of_text(text_of(["13", "", "X1"]), 3)
    ['13', '', 'X1']
    """
    return np.frombuffer("\n".join(lines).encode("ascii"), np.uint8)


def lines_of_text(text: np.ndarray, count: int) -> list[str]:
    """Return the lines of ``rle`` u8[r] of a record or of a row of a batch, ``count`` of them, "" where there is none.

    Raises:
      BadInput: there are more lines than objects.

    >>> lines_of_text(np.frombuffer(b"13" + bytes(4), np.uint8), 2)
    ['13', '']
    """
    lines = text.tobytes().rstrip(b"\0").decode("ascii").split("\n")
    if len(lines) > max(count, 1):
        raise BadInput(f"'rle' has {len(lines)} lines for {count} objects")
    return (lines + [""] * count)[:count]


def _kept(record: Record, name: str, slots: int, where: str) -> np.ndarray:
    """Return the rows that are kept, in their order."""
    boxes = record[name]
    rows = np.flatnonzero(record.get(beside(name, "valid"), np.ones(len(boxes), bool)))
    if len(rows) <= slots:
        return rows
    lesser = np.zeros(len(boxes), bool)
    for key in ("crowd", "difficult"):
        lesser |= record.get(beside(name, key), False)
    size = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1, dtype=np.float64)
    best = rows[np.lexsort((rows, -size[rows], lesser[rows]))][:slots]
    split = where.partition("[")[0]
    with _lock:
        first = split not in _dropped
        _dropped[split] += len(rows) - slots
    if first:
        warnings.warn(
            f"{where} has {len(rows)} objects but slots={slots}: there and in all further images of {split} the "
            f"largest are kept; to keep all of this one set Data.slots to {len(rows)} or more",
            stacklevel=2,
        )
    return np.sort(best)


def _reorder(record: Record, name: str, order: np.ndarray) -> None:
    """Let every key of the objects of ``name`` follow their new order, in place."""
    count = len(record[name])
    numbers = np.zeros(count + 1, np.int64)
    numbers[order + 1] = np.arange(1, len(order) + 1)
    crowd = record.get(beside(name, "crowd"), np.zeros(count, bool))
    for key, row in BATCH.items():
        full = beside(name, key)
        if full in record and row.slots == "n":
            if len(record[full]) != count:
                raise BadInput(f"{full!r} has {len(record[full])} rows for {count} boxes")
            record[full] = record[full][order]
    if beside(name, "rle") in record:
        lines = lines_of_text(record[beside(name, "rle")], count)
        record[beside(name, "rle")] = text_of([lines[row] for row in order])
    if beside(name, "panoptic") in record:
        record[beside(name, "panoptic")] = _panoptic(record[beside(name, "panoptic")], numbers, crowd)
    front, behind = beside(name, "instance_ids"), beside(name, "hidden_ids")
    if front in record:
        record[front] = _renumbered(record[front], numbers)
        if behind in record:
            hidden = _renumbered(record[behind], numbers)
            bare = record[front] == 0
            record[front] = np.where(bare, hidden, record[front])
            record[behind] = np.where(bare, 0, hidden).astype(hidden.dtype)


def _renumbered(ids: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the map with new numbers; a number that no object has stays, for ``validate`` to find."""
    top = int(ids.max(initial=0))
    table = np.concatenate([numbers, np.arange(len(numbers), top + 1)]) if top >= len(numbers) else numbers
    return table.astype(ids.dtype)[ids]


def _panoptic(panoptic: np.ndarray, numbers: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the map [h w 2] with new numbers: dropped objects beyond all slots, dropped crowds void."""
    gone = np.append(False, (numbers[1:] == 0))
    table = np.where(gone, 2**16 + np.arange(len(numbers)), numbers)
    done = panoptic.copy()
    ids = _renumbered(panoptic[..., 1], table)
    lost = np.append(False, crowd & gone[1:])
    void = (panoptic[..., 1] < len(lost)) & lost[np.minimum(panoptic[..., 1], len(lost) - 1)]
    done[..., 0] = np.where(void, VOID, panoptic[..., 0])
    done[..., 1] = np.where(void, 0, ids)
    return done
