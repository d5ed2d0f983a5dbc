"""Draw boxes, instances and keypoints on an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxseg.viz.labels import edges
from jaxseg.viz.palettes import distinct_palette


def draw_instances(image: Any, instance_ids: Any, hidden_ids: Any = None, *, alpha: float = 0.5) -> np.ndarray:
    """Blend a colour of its own over each instance and outline it in white, uint8 [h w 3].

    Where an instance lies behind another, both colours are mixed, and its outline is drawn too.

    Args:
      image: uint8 [h w 3].
      instance_ids: integers [h w], 0 where no instance is; the number decides the colour, also in
        :func:`draw_boxes` (slot + 1).
      hidden_ids: the next instances behind those, integers [h w].
      alpha: share of the colour.

    >>> draw_instances(np.zeros((1, 2, 3), np.uint8), [[0, 0]]).tolist()
    [[[0, 0, 0], [0, 0, 0]]]
    """
    ids = np.asarray(instance_ids).astype(np.int64)
    hidden = np.zeros_like(ids) if hidden_ids is None else np.asarray(hidden_ids).astype(np.int64)
    colors = np.asarray([(0, 0, 0), *distinct_palette(max(int(ids.max()), int(hidden.max()), 1))], np.float32)
    film = np.where(ids > 0, alpha, 0.0)[..., None]
    color = np.where((hidden > 0)[..., None], (colors[ids] + colors[hidden]) / 2, colors[ids])
    mixed = np.asarray(image).astype(np.float32) * (1 - film) + color * film
    mixed[edges(ids) | edges(hidden)] = 255
    return np.rint(mixed).astype(np.uint8)


def draw_boxes(
    image: Any,
    boxes: Any,
    *,
    classes: Any = None,
    names: Sequence[str] = (),
    scores: Any = None,
    valid: Any = None,
    keypoints: Any = None,
    skeleton: Sequence[tuple[int, int]] = (),
    zoom: int = 1,
) -> np.ndarray:
    """Draw a frame, and a label where there is one, for each valid box, uint8 [h w 3].

    Args:
      image: uint8 [h w 3].
      boxes: [n 4], x0 y0 x1 y1 in pixels, half-open.
      classes: their classes, integers [n].
      names: names of the classes; without them the numbers are written.
      scores: confidences [n], written behind the class.
      valid: which slots hold a box, bool [n]; None for all.
      keypoints: [n j 3], x, y, visibility: discs where visible (2), rings where hidden (1).
      skeleton: pairs of joints between which a limb is drawn, where neither is absent.
      zoom: whole factor by which the image is enlarged first, so that labels are legible on small ones.

    >>> draw_boxes(np.zeros((20, 30, 3), np.uint8), [[2, 3, 9, 12]], zoom=2).shape
    (40, 60, 3)
    """
    image = np.asarray(image).repeat(zoom, 0).repeat(zoom, 1)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4) * zoom
    slots = np.flatnonzero(np.ones(len(boxes), bool) if valid is None else np.asarray(valid, bool))
    colors = distinct_palette(len(boxes))
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    width = max(1, round(min(image.shape[:2]) / 130))
    for i in slots.tolist():
        x0, y0, x1, y1 = boxes[i].tolist()
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=colors[i], width=width)
        if keypoints is not None:
            points = np.asarray(keypoints, np.float64)[i] * (zoom, zoom, 1)
            _limbs(draw, points, skeleton, colors[i], width)
            _dots(draw, points, colors[i], 1 + 1.5 * width)
    for i in slots.tolist():
        words = []
        if classes is not None:
            c = int(np.asarray(classes)[i])
            words.append(names[c] if 0 <= c < len(names) else str(c))
        if scores is not None:
            words.append(f"{float(np.asarray(scores)[i]):.2f}")
        if words:
            _tag(draw, " ".join(words), boxes[i], colors[i], canvas.size)
    return np.asarray(canvas)


def _limbs(
    draw: Any, points: np.ndarray, skeleton: Sequence[tuple[int, int]], color: tuple[int, int, int], width: int
) -> None:
    """Draw the limbs over a dark rim, by which those of neighbouring objects stay apart."""
    limbs = [(points[a], points[b]) for a, b in skeleton if points[a, 2] > 0 and points[b, 2] > 0]
    for a, b in limbs:
        draw.line((a[0], a[1], b[0], b[1]), fill=(20, 20, 20), width=width + 2)
    for a, b in limbs:
        draw.line((a[0], a[1], b[0], b[1]), fill=color, width=width)


def _dots(draw: Any, points: np.ndarray, color: tuple[int, int, int], radius: float) -> None:
    for x, y, visibility in points.tolist():
        if visibility > 0:
            at = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(at, fill=color if visibility > 1 else None, outline=(255, 255, 255))


def _tag(draw: Any, text: str, box: np.ndarray, color: tuple[int, int, int], size: tuple[int, int]) -> None:
    """Draw a label on the box's upper edge, kept inside the picture."""
    font = ImageFont.load_default(max(10, min(16, min(size) // 22)))
    left, top, right, bottom = font.getbbox(text)
    w, h = right - left + 6, bottom - top + 4
    x = min(max(float(box[0]), 0), max(size[0] - w, 0))
    y = float(box[1]) - h if box[1] >= h else float(box[1])
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    draw.rectangle((x, y, x + w, y + h), fill=color)
    draw.text((x + 3 - left, y + 2 - top), text, (0, 0, 0) if bright else (255, 255, 255), font=font)
