"""Contact sheets: many small pictures with their names, and what is annotated in them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxseg.viz.geometry import colorize_depth, depth_range, with_depth_scale
from jaxseg.viz.labels import overlay
from jaxseg.viz.objects import draw_boxes
from jaxseg.viz.painter import THRESHOLD, paint
from jaxseg.viz.palettes import class_colors
from jaxseg.viz.panels import GAP, INK, PAPER, legend, stack
from jaxseg.viz.visible import visible

MOST_BOXES = 60
"""Boxes that are drawn on one picture."""


class Thumbnail(NamedTuple):
    """A small picture beside itself with what is annotated, its name, and the classes that it shows.

    >>> Thumbnail("train/a", np.zeros((2, 4, 3), np.uint8), frozenset()).name
    'train/a'
    """

    name: str
    picture: np.ndarray
    classes: frozenset[int]


def thumbnail(name: str, record: Mapping[str, Any], facts: Any, *, side: int = 220) -> Thumbnail:
    """Return an image, uint8 RGB no larger than ``side``, beside itself with its label map and boxes drawn over.

    The class called background is left as it is. Depth stands beside them, in colours whose metres are below it.

    Args:
      name: of the image.
      record: with ``image`` and, if there are some, ``label``, ``boxes`` and ``classes``, ``depth``.
      facts: classes, things and palette of the data set.
      side: pixels of the longer side.

    >>> import types
    >>> record = {"image": np.zeros((10, 20, 3), np.uint8), "label": np.zeros((10, 20), np.uint8)}
    >>> made = thumbnail("a", record, types.SimpleNamespace(classes=("sky",), things=(), palette=()), side=40)
    >>> made.picture.shape, sorted(made.classes)
    ((20, 82, 3), [0])
    """
    seen = visible(record["image"])
    height, width = seen.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    kind = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    small = np.asarray(Image.fromarray(seen).resize(size, kind))
    drawn, shown = small, frozenset()
    if "label" in record:
        label = np.asarray(record["label"]).astype(np.uint8)
        shown = frozenset(np.unique(label).tolist())
        label = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
        nothing = [k for k, each in enumerate(facts.classes) if each.lower().strip("_") in ("background", "bg")]
        drawn = np.where(np.isin(label, nothing)[..., None], small, overlay(small, label, class_colors(facts, label)))
    boxes = np.asarray(record.get("boxes", np.zeros((0, 4))), np.float64)
    if 0 < len(boxes) <= MOST_BOXES:
        classes = None if "label" in record else record.get("classes")
        drawn = draw_boxes(drawn, boxes * scale, classes=classes, names=facts.things)
    annotated = "label" in record or len(boxes) or "depth" not in record
    parts = [small, *([drawn] if annotated else []), *([_depth(record, size)] if "depth" in record else [])]
    return Thumbnail(name, _beside(parts), shown)


def _depth(record: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Return the depth of a record in colours at a width and a height, above the scale of its own range."""
    known = record.get("depth_valid")
    span = depth_range(record["depth"], known)
    drawn = colorize_depth(record["depth"], known)
    small = np.asarray(Image.fromarray(drawn).resize(size, Image.Resampling.NEAREST))
    return small if span is None else with_depth_scale(small, *span)


def _beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return pictures side by side, two pixels apart, at the same top."""
    height = max(len(picture) for picture in pictures)
    placed: list[np.ndarray] = []
    for picture in pictures:
        below = ((0, height - len(picture)), (0, 0), (0, 0))
        placed += [np.full((height, 2, 3), 255, np.uint8), np.pad(picture, below, constant_values=255)]
    return np.concatenate(placed[1:], 1)


def contact_sheet(thumbnails: Sequence[Thumbnail], facts: Any, *, columns: int = 3, title: str = "") -> np.ndarray:
    """Return a grid of small pictures with their names, and below it the classes that they show, uint8 ``[H W 3]``.

    Args:
      thumbnails: pictures of any sizes.
      facts: classes and palette of the data set.
      columns: of the grid.
      title: a line above it.

    >>> import types
    >>> facts = types.SimpleNamespace(classes=(), things=(), palette=())
    >>> contact_sheet([Thumbnail("a", np.zeros((20, 40, 3), np.uint8), frozenset())] * 2, facts, columns=2).shape
    (56, 104, 3)
    """
    width = max(each.picture.shape[1] for each in thumbnails)
    rows = [thumbnails[at : at + columns] for at in range(0, len(thumbnails), columns)]
    font = ImageFont.load_default(11)
    strips = []
    for row in rows:
        height = max(each.picture.shape[0] for each in row)
        strip = Image.new("RGB", (GAP + columns * (width + GAP), height + 20 + 2 * GAP), PAPER)
        draw = ImageDraw.Draw(strip)
        for column, each in enumerate(row):
            left = GAP + column * (width + GAP)
            strip.paste(Image.fromarray(each.picture), (left, GAP))
            draw.text((left, GAP + each.picture.shape[0] + 3), _fitting(each.name, width, font), INK, font=font)
        strips.append(np.asarray(strip))
    shown = np.asarray(sorted(set().union(*(each.classes for each in thumbnails))), np.int64)
    if facts.classes and len(shown):
        palette = class_colors(facts, np.arange(len(facts.classes)))
        strips.append(np.asarray(legend(shown, palette, facts.classes, strips[0].shape[1])))
    return stack(strips, title=title)


def overview(
    image: Any,
    predictions: Mapping[str, Any],
    facts: Any,
    *,
    threshold: float = THRESHOLD,
    side: int = 320,
    columns: int = 3,
    title: str = "",
) -> np.ndarray:
    """Return one sheet of everything that is predicted of an image: the image and a named picture of each kind.

    Args:
      image: ``[h w c]``.
      predictions: of this image.
      facts: of the data set: classes, palette.
      threshold: objects of a lower score are left out.
      side: pixels of a picture's longer side, at most; small pictures grow by whole factors.
      columns: of the sheet.
      title: a line above it.

    Returns:
      uint8 ``[H W 3]``; below the pictures stand the classes that a label map shows.

    >>> import types
    >>> facts, maps = types.SimpleNamespace(classes=(), tables={}), {"depth": np.ones((20, 40))}
    >>> overview(np.zeros((20, 40, 3), np.uint8), maps, facts, side=40, columns=2).shape
    (56, 104, 3)
    """
    pictures = {"image": visible(image), **paint(image, predictions, facts, threshold=threshold)}
    labels = predictions.get("label", np.zeros(0, np.uint8))
    shown = frozenset(np.unique(labels).tolist())
    made = [Thumbnail(name, _small(picture, side), shown) for name, picture in pictures.items()]
    return contact_sheet(made, facts, columns=columns, title=title)


def _small(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture whose longer side is as near to ``side`` as it comes without blur."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture.repeat(int(scale), 0).repeat(int(scale), 1)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _fitting(name: str, width: int, font: Any) -> str:
    """Return the end of a name that fits the width."""
    while len(name) > 4 and font.getlength(name) > width:
        name = f"...{name[4:]}"
    return name
