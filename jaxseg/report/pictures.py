"""The images of a report: the best, the median and the worst, with truth, prediction and errors side by side."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxseg import viz
from jaxseg.types import Figure

EACH = 3
"""Images of each group."""


class Picture(NamedTuple):
    """One picture of a report.

    >>> Picture("worst", 7, None, "").number
    7
    """

    group: str
    """"best", "median", "worst", or "image" where nothing ranks them."""
    number: int
    """Of the image in its split."""
    score: float | None
    """What ranks it."""
    source: str
    """A ``data:`` address."""


def choose(scores: Mapping[int, float], figure: Figure | None, *, each: int = EACH) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the best, the median and the worst images, none of them twice.

    Args:
      scores: value of each image.
      figure: says whether larger is better; None for yes.
      each: images of a group, fewer where there are not three times as many.

    >>> choose({0: 0.1, 1: 0.9, 2: 0.5, 3: 0.7}, None)
    {'worst': (0,), 'median': (2,), 'best': (1,)}
    """
    sign = 1 if figure is None or figure.higher_is_better else -1
    order = sorted(scores, key=lambda number: (sign * scores[number], number))
    count = max(1, min(each, len(order) // 3))
    worst = order[:count]
    best = [number for number in order[::-1][:count] if number not in worst]
    start = (len(order) - count) // 2
    middle = [number for number in order[start : start + count] if number not in (*worst, *best)]
    groups = {"worst": tuple(worst), "median": tuple(middle), "best": tuple(best)}
    return {name: numbers for name, numbers in groups.items() if numbers}


def draw(
    groups: Mapping[str, Sequence[int]],
    examples: Callable[[Iterable[int]], Iterable[Mapping[str, Any]]],
    predict: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    facts: Any,
    scores: Mapping[int, float],
) -> list[Picture]:
    """Draw each image of the groups with every painter that knows what is predicted of it.

    Args:
      groups: numbers of images by the group's name.
      examples: yields a batch of one row for each number.
      predict: from a batch to predictions.
      facts: of the data set.
      scores: of the images, for their captions.

    >>> batch = {"image": np.zeros((1, 8, 8, 3), np.uint8), "label": np.zeros((1, 8, 8), int)}
    >>> import types
    >>> facts = types.SimpleNamespace(classes=("sky",), palette=())
    >>> drawn = draw({"best": [2]}, lambda numbers: [batch], lambda b: {"label": b["label"]}, facts, {2: 1.0})
    >>> drawn[0].number, drawn[0].source[:22]
    (2, 'data:image/jpeg;base64')
    """
    order = [(group, number) for group, numbers in groups.items() for number in numbers]
    pictures = []
    for (group, number), batch in zip(order, examples([number for _, number in order]), strict=True):
        found = {key: np.asarray(value) for key, value in predict(batch).items()}
        sheets = viz.compare(batch, found, facts)
        if sheets:
            pictures.append(Picture(group, number, scores.get(number), photograph(viz.stack(list(sheets.values())))))
    return pictures


def photograph(picture: np.ndarray) -> str:
    """Return a picture, uint8 ``[h w 3]``, as the ``data:`` address of a JPEG with full colours.

    >>> photograph(np.zeros((2, 2, 3), np.uint8))[:15]
    'data:image/jpeg'
    """
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(out, format="JPEG", quality=90, subsampling=0)
    return address(out.getvalue(), "image/jpeg")


def address(data: bytes, kind: str) -> str:
    """Return bytes as a ``data:`` address, which needs no network and no file beside the page.

    >>> address(b"<svg/>", "image/svg+xml")
    'data:image/svg+xml;base64,PHN2Zy8+'
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
