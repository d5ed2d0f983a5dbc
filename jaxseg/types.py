"""The vocabulary: axis letters, and the keys of batches, outputs and predictions with their behaviour.

Axis letters, used in every signature (``Float[Array, "b h w k"]``):

==== ========================  ==== =========================
b    batch                     p    proposals
h w  image rows and columns    a    anchors
y x  feature map               d    detections
c    channels                  m    side of a box-relative mask
k    classes                   j    joints
n    ground-truth slots        t    tasks
==== ========================  ==== =========================

Boxes are ``x0 y0 x1 y1`` in absolute pixels, half-open. Classes count from 0; void is 255 in label maps. Images are
raw, NHWC, uint8 RGB unless the data set has other bands; kernels are HWIO. Padding always comes with a mask. A key may
be prefixed by the name of a task, ``parts/label``, and then behaves as the bare key does. Nothing here imports JAX, so
that data workers stay light.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from jaxseg.errors import BadInput, suggest

VOID = 255
"""The label of pixels that belong to no class: they carry no loss and count in no metric unless one says so."""

DATA_AXIS = "data"
"""Name of the axis over which a batch is spread: mesh axis of sharded steps, ``axis_name`` of replicated ones."""

ROWS_AXIS = "h"
"""Name of the mesh axis over which image rows may be spread as well."""

Rules = tuple[tuple[str, str | None], ...]
"""How the names of another framework's weights lead to ours, see :mod:`jaxseg.weights.names`."""

Bound = Literal["classes", "things", "slots", "not negative", "unit", "visibility", "box"]
"""What bounds the values of a key: ``Facts.classes`` (or void), ``Facts.things``, the number of object slots, zero,
unit length, COCO's visibility, the image."""


@dataclass(frozen=True)
class Figure:
    """How a figure of merit is shown and compared.

    Attributes:
      name: as in ``metrics.jsonl``, "miou"; figures called ``name/...``, one per class say, are shown likewise.
      title: for people, "mean IoU".
      unit: "%" for fractions of 1, shown in percent; "m", "px", or nothing.
      higher_is_better: False for errors.
      definition: how it is computed, a sentence or two for the reader of a report; empty where nobody has said.

    >>> Figure("miou", "mean IoU", "%").format(0.8563)
    '85.63'
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = True
    definition: str = ""

    def format(self, value: float) -> str:
        """Return a value in the figure's unit, without the unit; "absent" for NaN."""
        if value != value:
            return "absent"
        return f"{100 * value:.2f}" if self.unit == "%" else f"{value:.4g}"

    def is_better(self, value: float, other: float) -> bool:
        """Return True if the value is better than the other.

        >>> Figure("rmse", "error", "m", higher_is_better=False).is_better(0.5, 0.7)
        True
        """
        return value > other if self.higher_is_better else value < other


def figure_of(figures: Mapping[str, Figure], name: str) -> Figure:
    """Return how a figure is shown: by its own row, by that of the name before a slash, or else under its bare name.

    >>> figures = {"iou": Figure("iou", "IoU", "%")}
    >>> figure_of(figures, "iou/car").unit, figure_of(figures, "rmse").title
    ('%', 'rmse')
    """
    parts = name.split("/")
    for end in range(len(parts), 0, -1):
        if (known := figures.get("/".join(parts[:end]))) is not None:
            return known
    return Figure(name, name)


@dataclass(frozen=True)
class Key:
    """One row of the vocabulary, from which transforms, batching, placement and prediction derive their behaviour.

    Attributes:
      dtype: NumPy's name; ``uint8|uint16|float32`` where several are allowed, the usual one first.
      axes: letters as in the table above, and numbers for fixed lengths.
      meaning: one line.
      fill: value outside the image, for keys with the axes ``h w``.
      mask: the boolean key that is true where this one holds something.
      needs: keys to read as well, where the data set has them, to make this one or to move it exactly.
      bound: what bounds the values, if anything.

    >>> BATCH["label"].letters, BATCH["label"].is_map, BATCH["boxes"].is_box
    (('b', 'h', 'w'), True, True)
    """

    dtype: str
    axes: str
    meaning: str
    fill: float | int | bool | tuple[int, ...] | None = None
    mask: str | None = None
    needs: tuple[str, ...] = ()
    bound: Bound | None = None

    @property
    def letters(self) -> tuple[str, ...]:
        """Axis letters in order."""
        return tuple(self.axes.split())

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Allowed dtypes, the usual one first."""
        return tuple(self.dtype.split("|"))

    @property
    def is_map(self) -> bool:
        """True if the key moves with the pixels of the image."""
        return {"h", "w"} <= set(self.letters)

    @property
    def is_box(self) -> bool:
        """True if the last axis is x0 y0 x1 y1."""
        return self.letters[-1] == "4"

    @property
    def is_points(self) -> bool:
        """True if the last axis is x, y and a third value that does not move."""
        return self.letters[-2:] == ("j", "3")

    @property
    def is_direction(self) -> bool:
        """True if the values are vectors in camera axes, which turn with the image."""
        return self.bound == "unit"

    @property
    def slots(self) -> str | None:
        """Letter of the slot axis, ``n``, ``p`` or ``d``; None without one."""
        return next((letter for letter in self.letters if letter in "npd"), None)


BATCH: Mapping[str, Key] = {
    "image": Key("uint8|uint16|float32", "b h w c", "raw values: RGB 0..255, or the data set's bands", fill=0),
    "real": Key("bool", "b", "false on rows that only fill up the last batch"),
    "present": Key("bool", "b", "true where the row carries the labels of the task before it, as in ``parts/present``"),
    "size": Key("int32", "b 2", "rows and columns that are image, not padding", needs=("extent",)),
    "original_size": Key("int32", "b 2", "rows and columns of the image as it was read"),
    "index": Key("int64", "b", "number of the example in its split; int32 on devices without 64-bit integers"),
    "extent": Key("float32", "b 4", "the part that is image, not padding: x0 y0 x1 y1"),
    "label": Key("int32", "b h w", "class of each pixel, 255 void", fill=VOID, bound="classes"),
    "weight": Key(
        "float32",
        "b h w",
        "weight of each pixel in the loss (U-Net's separation map)",
        fill=0.0,
        needs=("label",),
        bound="not negative",
    ),
    "boxes": Key(
        "float32",
        "b n 4",
        "x0 y0 x1 y1, pixels, half-open",
        mask="valid",
        needs=("instance_ids", "hidden_ids", "crowd", "difficult"),
        bound="box",
    ),
    "classes": Key("int32", "b n", "class of each object", mask="valid", needs=("boxes",), bound="things"),
    "valid": Key("bool", "b n", "true where the slot holds an object", needs=("boxes",)),
    "crowd": Key("bool", "b n", "true where the object stands for a crowd", mask="valid", needs=("boxes",)),
    "instance_ids": Key(
        "uint16",
        "b h w",
        "1 + slot of the object that owns the pixel, 0 for none",
        fill=0,
        needs=("boxes",),
        bound="slots",
    ),
    "hidden_ids": Key(
        "uint16",
        "b h w",
        "1 + slot of the next object behind the one that owns the pixel, 0 for none",
        fill=0,
        needs=("boxes", "instance_ids"),
        bound="slots",
    ),
    "difficult": Key("bool", "b n", "true where an object is not asked for (VOC)", mask="valid", needs=("boxes",)),
    "area": Key(
        "float32",
        "b n",
        "pixels of the object in the image as it was read, as annotated",
        mask="valid",
        needs=("boxes",),
        bound="not negative",
    ),
    "rle": Key(
        "uint8",
        "b r",
        "masks in the image as it was read: COCO's run lengths, a line for each slot, zeros behind",
        needs=("boxes",),
    ),
    "keypoints": Key(
        "float32",
        "b n j 3",
        "x, y, visibility as in COCO (0 absent, 1 hidden, 2 visible)",
        mask="valid",
        needs=("boxes",),
        bound="visibility",
    ),
    "panoptic": Key(
        "int32",
        "b h w 2",
        "class (255 void), instance id (0 for stuff, 1 + slot for objects with a slot)",
        fill=(VOID, 0),
        needs=("label", "instance_ids"),
        bound="classes",
    ),
    "depth": Key(
        "float32",
        "b h w",
        "distance along the optical axis, metres",
        fill=0.0,
        mask="depth_valid",
        bound="not negative",
    ),
    "depth_valid": Key("bool", "b h w", "true where depth is known", fill=False, needs=("depth",)),
    "normal": Key(
        "float32",
        "b h w 3",
        "unit surface normal in camera axes: x right, y down, z forward",
        fill=0.0,
        mask="normal_valid",
        bound="unit",
    ),
    "normal_valid": Key("bool", "b h w", "true where the normal is known", fill=False, needs=("normal",)),
    "boundary": Key("bool", "b h w", "object boundary", fill=False),
    "boundary_marks": Key("uint16", "b h w", "bit i: annotator i drew a boundary here, where several did", fill=0),
    "saliency": Key("bool", "b h w", "salient foreground", fill=False),
    "hints": Key("float32", "b h w 2", "colours that a user gives, a and b of CIE Lab", fill=0.0, mask="hint_valid"),
    "hint_valid": Key("bool", "b h w", "true where a colour is given", fill=False, needs=("hints",)),
    "proposals": Key("float32", "b p 4", "region proposals, x0 y0 x1 y1", mask="proposal_valid", bound="box"),
    "proposal_valid": Key("bool", "b p", "true where the slot holds a proposal", needs=("proposals",)),
}
"""What a batch may hold. A record is one example of it: the same keys without the axis ``b``."""

OUTPUTS: Mapping[str, Key] = {
    "logits": Key("float32", "b h w k", "class scores at image resolution (centre crop for valid convolutions)"),
    "aux_logits": Key("float32", "b h w k", "scores of an auxiliary head, training only; several: aux_logits_<which>"),
    "image_logits": Key("float32", "b k", "class scores of the image as a whole"),
    "boxes": Key("float32", "b d 4", "detections, x0 y0 x1 y1", mask="valid", bound="box"),
    "scores": Key("float32", "b d", "confidence of each detection", mask="valid"),
    "classes": Key("int32", "b d", "class of each detection", mask="valid", bound="things"),
    "valid": Key("bool", "b d", "true where the slot holds a detection"),
    "exact": Key("bool", "b", "true where no candidate that lacked a slot could be among the detections"),
    "masks": Key("float32", "b d m m", "box-relative mask probabilities", mask="valid"),
    "keypoints": Key("float32", "b d j 3", "x, y, score", mask="valid"),
    "depth": Key("float32", "b h w", "metres", bound="not negative"),
    "inverse_depth": Key("float32", "b h w", "nearness up to scale and shift: larger is nearer", bound="not negative"),
    "normal": Key("float32", "b h w 3", "unit vectors", bound="unit"),
    "computed": Key("bool", "b h w", "true where maps are computed; elsewhere no loss; training only"),
    "boundary_logits": Key("float32", "b h w", "scores of an object boundary, before the sigmoid"),
    "saliency_logits": Key("float32", "b h w", "scores of salient foreground, before the sigmoid"),
    "side_logits": Key("float32", "b h w l", "the same of each side output, finest first"),
    "ab_logits": Key("float32", "b y x q", "scores of the quantised ab colours"),
    "ab": Key("float32", "b h w 2", "colours, a and b of CIE Lab"),
    "anchors": Key("float32", "a 4", "anchors, level by level"),
    "image_anchors": Key("float32", "b a 4", "anchors of each image, where they are squashed to one size"),
    "anchor_deltas": Key("float32", "b a 4", "box codes of the anchors, training only"),
    "anchor_luck": Key("float32", "b a", "random numbers by which anchors are sampled, 0..1, training only"),
    "objectness": Key("float32", "b a", "logits of the anchors, training only"),
    "class_logits": Key("float32", "b a k", "class scores of the anchors, training only"),
    "cell_logits": Key("float32", "b y x k", "class scores of the cells of a grid, training only"),
    "cells": Key("float32", "a 4", "the anchors' cells of a grid, in fractions of the image, training only"),
    "image_size": Key("float32", "b 2", "rows and columns that the grid of cells lies on, training only"),
    "rois": Key("float32", "b s 4", "regions that the heads are trained on, positives first", mask="roi_valid"),
    "roi_valid": Key("bool", "b s", "true where the slot holds a region"),
    "roi_positive": Key("bool", "b s", "true where the region was drawn for an object that it covers"),
    "roi_logits": Key("float32", "b s k", "class scores of the regions, background included"),
    "roi_deltas": Key("float32", "b s k 4", "box codes of the regions, of each class"),
    "roi_repeated": Key(
        "bool", "b s", "true where the region is an earlier one, corrected, or an object's own box (MNC)"
    ),
    "mask_class_logits": Key("float32", "b s k", "class scores of the regions with their masks, background included"),
    "mask_logits": Key("float32", "b f m m k", "masks of the first regions, of each class"),
    "keypoint_logits": Key("float32", "b f m m j", "heatmaps of the first regions"),
    "log_variance": Key("float32", "t", "log of the variance of each task, by which losses are balanced"),
    "task_weight": Key("float32", "t", "factor of each task's losses, by GradNorm"),
    "task_echo": Key("float32", "t", "zeros through which the losses of the tasks come back to their weights"),
}
"""What a network may return."""

PREDICTIONS: Mapping[str, Key] = {
    "label": Key("int32", "b h w", "most probable class of each pixel", fill=VOID, bound="classes"),
    "probability": Key("float32", "b h w k", "class probabilities", fill=0.0),
    "variance": Key("float32", "b h w", "variance of the class probabilities over samples", fill=0.0),
    "boxes": Key("float32", "b d 4", "detections, x0 y0 x1 y1, pixels, half-open", mask="valid", bound="box"),
    "scores": Key("float32", "b d", "confidence of each detection, falling", mask="valid"),
    "classes": Key("int32", "b d", "class of each detection", mask="valid", bound="things"),
    "valid": Key("bool", "b d", "true where the slot holds a detection"),
    "masks": Key("float32", "b d m m", "box-relative mask probabilities", mask="valid"),
    "keypoints": Key("float32", "b d j 3", "x, y, score", mask="valid"),
    "instance_ids": Key("uint16", "b h w", "1 + slot of the object in front, 0 for none; of several tiles", fill=0),
    "panoptic": Key("int32", "b h w 2", "class (255 void), instance id (0 for stuff)", fill=(VOID, 0), bound="classes"),
    "depth": Key("float32", "b h w", "metres", fill=0.0, bound="not negative"),
    "inverse_depth": Key("float32", "b h w", "nearness up to scale and shift", fill=0.0, bound="not negative"),
    "normal": Key("float32", "b h w 3", "unit surface normal in camera axes", fill=0.0, bound="unit"),
    "boundary": Key("float32", "b h w", "probability of an object boundary", fill=0.0),
    "saliency": Key("float32", "b h w", "probability of salient foreground", fill=0.0),
    "ab": Key("float32", "b h w 2", "colours, a and b of CIE Lab; lightness is the image's own", fill=0.0),
    "image": Key("uint8", "b h w 3", "the image itself, coloured or restored, RGB 0..255", fill=0),
}
"""What a task makes of a network's outputs."""


def key_of(table: Mapping[str, Key], name: str) -> Key:
    """Return the row of a key; the name of a task before it, as in ``parts/label``, does not matter.

    Args:
      table: ``BATCH``, ``OUTPUTS`` or ``PREDICTIONS``.
      name: a key, bare or prefixed.

    Raises:
      BadInput: the table has no such key; similar names are offered.

    >>> key_of(BATCH, "parts/label") is BATCH["label"]
    True
    """
    bare = bare_key(name)
    if bare not in table:
        raise BadInput(f"{name!r} is not a key{suggest(bare, table)}")
    return table[bare]


def bare_key(name: str) -> str:
    """Return the key without the name of its task.

    >>> bare_key("parts/label"), bare_key("label")
    ('label', 'label')
    """
    return name.rpartition("/")[2]


def beside(name: str, key: str) -> str:
    """Return ``key`` with the same task's prefix as ``name``.

    >>> beside("parts/boxes", "valid"), beside("boxes", "valid")
    ('parts/valid', 'valid')
    """
    task, slash, _ = name.rpartition("/")
    return f"{task}{slash}{key}"


def closure(names: Iterable[str], table: Mapping[str, Key] = BATCH) -> tuple[str, ...]:
    """Return the keys, their masks and everything that they need, and so on, sorted.

    A prefixed key may be made of the bare one, which is therefore among them.

    >>> closure(["depth"])
    ('depth', 'depth_valid')
    """
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            row = key_of(table, name)
            todo += [beside(name, other) for other in (*row.needs, *filter(None, [row.mask]))]
            todo.append(bare_key(name))
    return tuple(sorted(found))


def mesh_axes(name: str) -> tuple[str | None, ...]:
    """Return the mesh axis over which each axis of a batch's key is spread; None for an axis that stays whole.

    Keys outside the vocabulary are spread over their first axis.

    >>> mesh_axes("label"), mesh_axes("boxes")
    (('data', 'h', None), ('data', None, None))
    """
    if bare_key(name) not in BATCH:
        return (DATA_AXIS,)
    spread = {"b": DATA_AXIS, "h": ROWS_AXIS}
    return tuple(spread.get(letter) for letter in key_of(BATCH, name).letters)
