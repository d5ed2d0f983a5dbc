"""Records: one example as a dict of NumPy arrays under the keys of :data:`jaxseg.types.BATCH`, without the axis ``b``.

Inside the pipeline integer maps may be narrower than in a batch (a label is uint8 until it leaves), which is faster;
:func:`to_batch_row` gives them their final types and :func:`validate` holds every record to the vocabulary.
"""

import io
import re

import numpy as np
from PIL import Image

from jaxseg.errors import BadInput
from jaxseg.types import BATCH, VOID

Record = dict[str, np.ndarray]
"""One example. Keys and meanings: :data:`jaxseg.types.BATCH`."""

OBJECT_KEYS = ("boxes", "classes", "valid", "crowd", "keypoints")
"""Keys whose first axis is the object slots."""

MAP_FILL = {
    "image": 0,
    "label": VOID,
    "weight": 0.0,
    "instance_ids": 0,
    "panoptic": (VOID, 0),
    "depth": 0.0,
    "depth_valid": False,
    "normal": 0.0,
    "normal_valid": False,
    "boundary": False,
    "saliency": False,
}
"""Keys that are maps over the image, and what stands where there is no image: black, void, invalid."""


def decode_image(data: bytes | np.ndarray) -> np.ndarray:
    """PNG or JPEG bytes -> uint8 [h w 3], or [h w] for one channel; 16-bit PNG -> uint16 [h w]."""
    with Image.open(io.BytesIO(data if isinstance(data, bytes) else data.tobytes())) as image:
        array = np.asarray(image)
    return array.astype(np.uint16) if image.mode.startswith("I") else array


def encode_png(array: np.ndarray) -> bytes:
    """uint8 [h w], uint8 [h w 3] or uint16 [h w] -> PNG bytes, lossless."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG", compress_level=4)
    return out.getvalue()


def size(record: Record) -> tuple[int, int]:
    """Height and width of the record's image (or of any other map that it holds)."""
    for key in MAP_FILL:
        if key in record:
            return record[key].shape[0], record[key].shape[1]
    raise BadInput(f"a record without any map (it holds {', '.join(record) or 'nothing'}) has no size")


def to_batch_row(record: Record, *, keys: tuple[str, ...], slots: int, where: str = "a record") -> Record:
    """The record as it goes into a batch: the keys asked for, their final types, objects padded to ``slots``.

    What may be padded or unknown comes with its mask, asked for or not: ``valid`` with objects, ``depth_valid`` with
    depth, ``normal_valid`` with normals, ``proposal_valid`` with proposals. A mask that the record lacks is all true,
    and a labelled record that lacks ``weight`` has the weight 1 everywhere: only training transforms put others.

    Raises:
      BadInput: a key is absent, or there are more objects than slots.
    """
    done: Record = {}
    record = _with_masks(record)
    for key in dict.fromkeys((*keys, *(_MASK_OF[key] for key in keys if key in _MASK_OF))):
        if key not in record:
            raise BadInput(f"{where} has no {key!r}; it has: {', '.join(record)}")
        array = record[key]
        if key in OBJECT_KEYS:
            array = _pad_slots(array, slots, where)
        done[key] = np.ascontiguousarray(array, dtype=np.dtype(BATCH[key].dtype))
    return done


_MASK_OF = {
    **dict.fromkeys(("boxes", "classes", "crowd", "keypoints"), "valid"),
    "depth": "depth_valid",
    "normal": "normal_valid",
    "proposals": "proposal_valid",
}


def _with_masks(record: Record) -> Record:
    done = dict(record)
    for key, mask in _MASK_OF.items():
        if key in record and mask not in record:
            axes = len(BATCH[mask].axes.split()) - 1
            done[mask] = np.ones(record[key].shape[:axes], bool)
    if "boxes" in record and "crowd" not in record:
        done["crowd"] = np.zeros(len(record["boxes"]), bool)
    if "label" in record and "weight" not in record:
        done["weight"] = np.ones(record["label"].shape, np.float32)
    return done


def validate(record: Record, *, where: str, num_classes: int | None = None) -> None:
    """Hold a record to the vocabulary: known keys, dtypes, axes that agree, values in range.

    Args:
      record: one example, as it goes into a batch.
      where: what to call it in the error, "camvid/train[17]".
      num_classes: upper bound of ``label`` and ``classes`` (255 allowed in ``label``); None leaves it open.

    Raises:
      BadInput: names the example, the key, dtype, shape and the range found.
    """
    axes: dict[str, int] = {}
    for key, array in record.items():
        if key not in BATCH:
            raise BadInput(f"{where}: {key!r} is not a key of a batch")
        expected = BATCH[key]
        if array.dtype != np.dtype(expected.dtype):
            raise BadInput(f"{where}: {_describe(key, array)}, but {expected.dtype} belongs there")
        letters = expected.axes.split()[1:]
        if array.ndim != len(letters):
            raise BadInput(f"{where}: {_describe(key, array)}, but its axes are [{' '.join(letters)}]")
        for letter, length in zip(letters, array.shape, strict=True):
            known = int(letter) if letter.isdigit() else axes.setdefault(letter, length)
            if known != length:
                raise BadInput(f"{where}: {_describe(key, array)}, but axis {letter!r} should be {known}")
        fault = _fault(key, array, record, num_classes)
        if fault:
            raise BadInput(f"{where}: {_describe(key, array)}, {fault}")


def _describe(key: str, array: np.ndarray) -> str:
    span = f", {array.min()}..{array.max()}" if array.size and array.dtype.kind in "iuf" else ""
    return f"{key!r} is {array.dtype}{re.sub(',', '', str(list(array.shape)))}{span}"


def _fault(key: str, array: np.ndarray, record: Record, num_classes: int | None) -> str | None:
    if not array.size:
        return None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "but every value must be finite"
    if key in ("label", "panoptic"):
        classes = array if key == "label" else array[..., 0]
        top = VOID if num_classes is None else num_classes
        inside = ((classes >= 0) & (classes < top)) | (classes == VOID)
        if not inside.all():
            wrong = int(classes[~inside].flat[0])
            return f"but value {wrong} is neither a class (0..{top - 1}) nor void ({VOID})"
    if key == "weight" and array.min() < 0:
        return "but weights cannot be negative"
    if key == "depth" and array.min() < 0:
        return "but depths cannot be negative"
    if key == "normal":
        known = record.get("normal_valid", np.ones(array.shape[:2], bool))
        length = np.linalg.norm(array[known], axis=-1)
        if length.size and np.abs(length - 1).max() > 1e-3:
            return "but normals must have unit length"
    return _object_fault(key, array, record, num_classes)


def _object_fault(key: str, array: np.ndarray, record: Record, num_classes: int | None) -> str | None:
    valid = record.get("valid")
    if key in ("boxes", "classes", "keypoints") and valid is not None and len(valid) == len(array):
        array = array[valid]
    if not array.size:
        return None
    if key == "boxes":
        if (array[:, 2:] <= array[:, :2]).any():
            return "but boxes are x0 y0 x1 y1 with x0 < x1 and y0 < y1"
        height, width = size(record)
        if array.min() < 0 or array[:, 2].max() > width or array[:, 3].max() > height:
            return f"but the image is {height} high and {width} wide"
    if key == "classes" and (array.min() < 0 or (num_classes is not None and array.max() >= num_classes)):
        return f"but classes are 0..{'' if num_classes is None else num_classes - 1}"
    if key == "keypoints" and not np.isin(array[..., 2], (0, 1, 2)).all():
        return "but visibility is 0 (absent), 1 (hidden) or 2 (visible)"
    if key == "instance_ids" and "boxes" in record and array.max() > len(record["boxes"]):
        return f"but there are {len(record['boxes'])} object slots"
    return None


def _pad_slots(array: np.ndarray, slots: int, where: str) -> np.ndarray:
    if len(array) > slots:
        raise BadInput(f"{where} has {len(array)} objects but slots={slots}; set Data.slots to {len(array)} or more")
    return np.concatenate([array, np.zeros((slots - len(array), *array.shape[1:]), array.dtype)])
