"""Paste box-relative masks into an image, in NumPy and one object at a time."""

from typing import Any

import numpy as np

from jaxseg.ops.paste import paste_window


def paste_mask(mask: Any, box: Any, size: tuple[int, int]) -> np.ndarray:
    """Return a box-relative mask at the pixels of an image, by bilinear interpolation; 0 outside the box.

    Cell ``i`` of the mask has its centre at ``x0 + (i + 0.5) (x1 - x0) / m``, as in Detectron2; beyond the mask's edge
    lie zeros.

    Args:
      mask: probabilities ``[m m]``.
      box: ``x0 y0 x1 y1`` in pixels.
      size: height and width of the image.

    Returns:
      float32 ``[h w]``.

    >>> paste_mask([[1.0, 0.5], [0.0, 1.0]], [1, 0, 3, 2], (2, 4))[0].tolist()
    [0.0, 1.0, 0.5, 0.0]
    """
    mask = np.asarray(mask, np.float32)
    x0, y0, x1, y1 = (float(v) for v in box)
    out = np.zeros(size, np.float32)
    rows, down = _weights(y0, y1, mask.shape[0], size[0])
    columns, across = _weights(x0, x1, mask.shape[1], size[1])
    out[rows, columns] = down @ mask @ across.T
    return out


def instance_map(
    masks: Any, boxes: Any, size: tuple[int, int], *, scores: Any = None, valid: Any = None, threshold: float = 0.5
) -> np.ndarray:
    """Return 1 + slot of the object in front at each pixel, 0 for none, uint16 ``[h w]``.

    Where objects overlap, that of the higher score lies in front; without scores the lower slot.

    Args:
      masks: box-relative probabilities ``[d m m]``.
      boxes: ``[d 4]``.
      size: height and width of the image.
      scores: confidences ``[d]``.
      valid: slots that hold an object, bool ``[d]``; None for all.
      threshold: probability from which a pixel belongs to the object.

    >>> instance_map(np.ones((2, 1, 1)), [[0, 0, 4, 4], [2, 0, 6, 4]], (4, 6), scores=[0.5, 0.9])[1].tolist()
    [1, 1, 2, 2, 2, 2]
    """
    return instance_maps(masks, boxes, size, scores=scores, valid=valid, threshold=threshold)[0]


def instance_maps(
    masks: Any, boxes: Any, size: tuple[int, int], *, scores: Any = None, valid: Any = None, threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return the map of objects in front and that of the next ones behind them, each uint16 ``[h w]``.

    These are ``instance_ids`` and ``hidden_ids`` of the vocabulary, in the order of :func:`instance_map`.

    >>> front, hidden = instance_maps(np.ones((2, 1, 1)), [[0, 0, 4, 4], [2, 0, 6, 4]], (4, 6), scores=[0.5, 0.9])
    >>> hidden[1].tolist()
    [0, 0, 1, 1, 0, 0]
    """
    order = np.arange(len(boxes)) if scores is None else np.argsort(-np.asarray(scores), kind="stable")
    held = np.ones(len(boxes), bool) if valid is None else np.asarray(valid, bool)
    front, hidden = np.zeros(size, np.uint16), np.zeros(size, np.uint16)
    for slot in order[::-1].tolist():
        if held[slot]:
            inside, top, left = paste_window(masks[slot], boxes[slot], *size, rule="detectron2", threshold=threshold)
            part = slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1])
            hidden[part][inside] = front[part][inside]
            front[part][inside] = slot + 1
    return front, hidden


def _weights(low: float, high: float, cells: int, length: int) -> tuple[slice, np.ndarray]:
    """Return the pixels of the image whose centres lie in the box along one axis, and their weights of the cells."""
    pixels = np.arange(length) + 0.5
    inside = np.flatnonzero((pixels > low) & (pixels < high))
    if not inside.size:
        return slice(0, 0), np.zeros((0, cells), np.float32)
    at = (pixels[inside] - low) / (high - low) * cells - 0.5
    distance = np.abs(at[:, None] - np.arange(cells)[None])
    return slice(int(inside[0]), int(inside[-1]) + 1), np.maximum(1 - distance, 0).astype(np.float32)
