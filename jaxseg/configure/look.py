"""Look at a data set: the facts about its images and labels that decide how to train on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from jaxseg.data import sets
from jaxseg.data.depth_counts import DepthCounts
from jaxseg.data.facts import Facts
from jaxseg.data.records import Record
from jaxseg.data.statistics import count_classes, measure_bands
from jaxseg.errors import BadInput

LOOKED_AT = 100
"""Images that are opened, evenly spread over the training split."""

SURVEYED = 2000
"""Images of a split whose depth is read before anything is trained: a file that is no depth shows itself then."""

TRAIN, VAL = ("train", "trainval", "training"), ("val", "valid", "validation", "test")
"""Names of splits, the first that is there is taken."""


@dataclass(frozen=True)
class Objects:
    """Facts about the objects of a data set.

    Attributes:
      most: of an image.
      sides: roots of the areas of boxes, pixels: of the smallest twentieth, the median, the largest twentieth.
      masks: whether they have masks.

    >>> Objects(9, (8.0, 20.0, 60.0), False).most
    9
    """

    most: int
    sides: tuple[float, float, float]
    masks: bool


@dataclass(frozen=True)
class Depths:
    """Facts about the depth of a data set, over the training pixels where it is known.

    Attributes:
      metres: below which a hundredth of the pixels, half of them, and all but a hundredth lie.
      log_spread: standard deviation of the log of depth.
      missing: share of the pixels whose depth is not known.

    >>> Depths((0.8, 1.9, 3.0), 0.3, 0.1).metres[1]
    1.9
    """

    metres: tuple[float, float, float]
    log_spread: float
    missing: float


@dataclass(frozen=True)
class Look:
    """Facts about a data set that decide how to train on it.

    Attributes:
      dataset: as in :class:`jaxseg.data.examples.Source`.
      options: likewise.
      facts: classes, things, bands.
      train: name of the training split.
      val: name of the validation split.
      images: number of training images.
      sizes: different heights and widths of the training images that were opened.
      val_sizes: of validation images.
      dtype: of the pixels.
      mean: of each band, in the images' own units.
      std: likewise.
      share: of each class among labelled pixels.
      extent: of each class, the median size of its connected parts as a share of the image; 0 for absent classes.
      upright: True if up is up: classes lie higher or lower in most images.
      mirrored: True if left and right may change places.
      looked_at: number of images that were opened.
      objects: in them; None where they were not looked at.
      depth: of all training images, up to :data:`SURVEYED`; None where it was not looked at.

    >>> Look("a", (), Facts("a", "", ("x", "y"), (), {}), "train", "val", 9, ((4, 6),), ((4, 6),)).lopsided
    False
    """

    dataset: str
    options: tuple[tuple[str, Any], ...]
    facts: Facts
    train: str
    val: str
    images: int
    sizes: tuple[tuple[int, int], ...]
    val_sizes: tuple[tuple[int, int], ...]
    dtype: str = "uint8"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    share: tuple[float, ...] = ()
    extent: tuple[float, ...] = ()
    upright: bool = True
    mirrored: bool = True
    looked_at: int = 0
    objects: Objects | None = None
    depth: Depths | None = None

    @property
    def bands(self) -> int:
        """Number of bands of an image."""
        return len(self.mean) or len(self.facts.bands)

    @property
    def is_rgb(self) -> bool:
        """True for colour photographs: three bands of 8 bits."""
        return self.bands == 3 and self.dtype == "uint8"

    @property
    def lopsided(self) -> bool:
        """True if the most frequent class has ten times the pixels of the rarest that occurs."""
        seen = [share for share in self.share if share > 0]
        return len(seen) > 1 and max(seen) > 10 * min(seen)

    @property
    def tiny(self) -> tuple[int, ...]:
        """Classes of under 2 % of the pixels whose parts are usually under 0.5 % of an image."""
        pairs = zip(self.share, self.extent, strict=True)
        return tuple(k for k, (share, extent) in enumerate(pairs) if 0 < share < 0.02 and 0 < extent < 0.005)


def look(
    dataset: str,
    *,
    options: tuple[tuple[str, Any], ...] = (),
    data_dir: Any = None,
    objects: bool = False,
    depth: bool = False,
) -> Look:
    """Open some images of a data set and return what decides how to train on it.

    >>> import tempfile
    >>> tiny = (("size", 16), ("train", 3), ("val", 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     seen = look("scenes", options=tiny, data_dir=folder)
    >>> seen.images, seen.sizes, seen.is_rgb
    (3, ((16, 16),), True)

    Args:
      dataset: as in :class:`jaxseg.data.examples.Source`.
      options: likewise.
      data_dir: where prepared data lie.
      objects: whether to look at the objects too.
      depth: whether to look at the depth, even where there are label maps; where there are none it is looked at anyway.

    Raises:
      BadInput: the data set is not prepared, has no training or validation split, or no objects or depth that were
        asked for, or a depth map cannot be trained on.
    """
    given = {"data_dir": data_dir, "options": options}
    there = sets.prepared_splits(dataset, **given) or sets.facts(dataset, **given).splits
    train, val = (_split(dataset, there, names) for names in (TRAIN, VAL))
    facts = sets.facts(dataset, **given)
    if objects and "boxes" not in facts.keys:
        raise BadInput(
            f"data set {dataset!r} has {_kinds(facts)} and no objects: detectors need boxes (COCO JSON, YOLO, CVAT, a "
            "mask for each object); choose a semantic model, such as unet_resnet34"
        )
    if depth and "depth" not in facts.keys:
        raise BadInput(f"data set {dataset!r} has {_kinds(facts)} and no depth, which this network learns")
    depth = "depth" in facts.keys and not objects and (depth or facts.num_classes < 2)
    wanted = ("image", "label", *(("boxes", "instance_ids") if objects else ("depth", "depth_valid") if depth else ()))
    keys = tuple(k for k in wanted if k in facts.keys)
    records = sets.open_split(dataset, train, keys=keys, **given)
    held_out = sets.open_split(dataset, val, keys=keys if depth else ("image",), **given)
    chosen = np.unique(np.linspace(0, len(records) - 1, LOOKED_AT).round().astype(int))
    opened = (records[int(i)] for i in chosen)
    rows = ((record["image"].shape[:2], _thinned(record), record.get("boxes")) for record in opened)
    shapes, seen, boxes = zip(*rows, strict=True)
    bands = measure_bands(seen)
    labels = [record["label"] for record in seen if "label" in record]
    return Look(
        dataset=dataset,
        options=options,
        facts=facts,
        train=train,
        val=val,
        images=len(records),
        sizes=_sizes(shapes),
        val_sizes=_sizes(held_out.sizes()),
        dtype=seen[0]["image"].dtype.name,
        mean=tuple(float(f"{value:.4g}") for value in bands.mean),
        std=tuple(float(f"{max(value, 1e-3):.4g}") for value in bands.std),
        **_of_labels(labels, facts.num_classes),
        looked_at=len(chosen),
        objects=_of_objects(dataset, boxes, "instance_ids" in facts.keys) if objects else None,
        depth=_of_depth(dataset, records, held_out) if depth else None,
    )


def _kinds(facts: Facts) -> str:
    """Return what a data set has to learn, in words."""
    named = (("label", "label maps"), ("boxes", "objects"), ("depth", "depth"))
    return " and ".join(word for key, word in named if key in facts.keys) or "images alone"


def _split(dataset: str, there: Any, names: Sequence[str]) -> str:
    found = next((name for name in names if name in there), None)
    if found is None:
        raise BadInput(
            f"data set {dataset!r} has no split {' or '.join(map(repr, names[:2]))}; there are: {', '.join(there)}"
        )
    return found


def _thinned(record: Record) -> Record:
    """Return a record at every n-th pixel, so that about a megapixel of each image is looked at."""
    height, width = record["image"].shape[:2]
    step = max(1, round((height * width / 2**20) ** 0.5))
    return {key: value[::step, ::step] for key, value in record.items() if key in ("image", "label")}


def _sizes(found: Any) -> tuple[tuple[int, int], ...]:
    return tuple((int(h), int(w)) for h, w in np.unique(np.asarray(found), axis=0))


def _of_labels(labels: Sequence[np.ndarray], num_classes: int) -> dict[str, Any]:
    """Return what the label maps decide; nothing without label maps."""
    if not labels or not num_classes:
        return {}
    counts = count_classes([{"label": label} for label in labels], num_classes)
    total = max(int(counts.pixels.sum()), 1)
    return {
        "share": tuple(float(f"{share:.3g}") for share in counts.pixels / total),
        "extent": tuple(_extent(labels, k) for k in range(num_classes)),
        "upright": len(labels) < 3 or _differs(labels, num_classes, axis=0),
        "mirrored": len(labels) < 3 or not _differs(labels, num_classes, axis=1),
    }


def _of_objects(dataset: str, boxes: Sequence[Any], masks: bool) -> Objects:
    whole = np.concatenate([np.asarray(some, np.float64).reshape(-1, 4) for some in boxes])
    if not len(whole):
        raise BadInput(f"none of the {len(boxes)} training images of {dataset!r} that were opened has an object")
    sides = np.sqrt(np.prod(whole[:, 2:] - whole[:, :2], axis=1))
    low, middle, high = (float(f"{side:.3g}") for side in np.quantile(sides, (0.05, 0.5, 0.95)))
    return Objects(max(len(some) for some in boxes), (low, middle, high), masks)


def _of_depth(dataset: str, records: Any, held_out: Any) -> Depths:
    """Return what the training depth decides, after reading that of both splits as training does."""
    counts = []
    for some in (records, held_out):
        counts.append(DepthCounts.none())
        for place in np.unique(np.linspace(0, len(some) - 1, SURVEYED).round().astype(int)).tolist():
            counts[-1] += DepthCounts.of(some[place])
    if not all(each.any for each in counts):
        raise BadInput(f"depth of {dataset!r} is not known in a single pixel of its training or its validation images")
    nearest, median, farthest = (counts[0].quantile(share) for share in (0.01, 0.5, 0.99))
    spread, missing = (float(f"{value:.3g}") for value in (counts[0].log_spread, counts[0].missing))
    return Depths((nearest, median, farthest), spread, missing)


def _extent(labels: Sequence[np.ndarray], k: int) -> float:
    """Return the median size of the connected parts of a class as a share of the image, in at most 20 images."""
    having = [label for label in labels if (label == k).any()][:20]
    parts: list[float] = []
    for label in having:
        numbered = np.zeros(label.shape, np.int32)
        ndimage.label(label == k, output=numbered)
        parts += (np.bincount(numbered.ravel())[1:] / label.size).tolist()
    return float(f"{np.median(parts):.3g}") if parts else 0.0


def _differs(labels: Sequence[np.ndarray], num_classes: int, *, axis: int) -> bool:
    """Return True if a class is more frequent in one half of the images than in the other, beyond chance.

    The share of each class in the first half less that in the second is averaged over images; it counts if it is over
    0.05 and over four standard errors, which three images cannot reach by chance.
    """
    found = []
    for label in labels:
        first, second = np.array_split(label, 2, axis=axis)
        shares = [np.bincount(half.ravel(), minlength=256)[:num_classes] / half.size for half in (first, second)]
        found.append(shares[0] - shares[1])
    values = np.stack(found)
    mean, error = values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5
    return bool(np.any((np.abs(mean) > 0.05) & (np.abs(mean) > 4 * error)))
