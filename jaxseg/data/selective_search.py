"""Selective search (Uijlings et al. 2013): boxes around whatever could be an object, from regions merged step by step.

A graph-based segmentation (Felzenszwalb and Huttenlocher 2004, scikit-image's) begins; then the two most similar
neighbours become one, again and again, until one region is left. Every region on the way gives a box. Two colour
spaces, two sets of similarities and several sizes of the first regions make several such trees: the "fast mode" that
R-CNN and Fast R-CNN use.
"""

import heapq
from typing import Any

import numpy as np
from scipy import ndimage

from jaxseg.errors import BadInput

COLOUR_BINS, TEXTURE_BINS, DIRECTIONS = 25, 10, 8

STRATEGIES = (("colour", "texture", "size", "fill"), ("texture", "size", "fill"))
"""Sums of similarities, section 3.2 of the paper; each makes trees of its own."""


def selective_search(
    image: np.ndarray, *, scales: tuple[float | int, ...] = (50, 100), sigma: float = 0.8, min_width: int = 20
) -> np.ndarray:
    """Return f32[p 4], boxes x0 y0 x1 y1 of the image, each once, those of the largest trees' tops first.

    Args:
      image: uint8 RGB [h w 3].
      scales: k of the first segmentation, of images of values 0 to 255: larger, larger first regions.
      sigma: of its smoothing, pixels.
      min_width: of boxes, pixels; narrower and lower ones are left out.

    Raises:
      BadInput: scikit-image is not installed, or the image is none.

    >>> image = np.zeros((40, 60, 3), np.uint8)
    >>> image[10:30, 20:50] = 200
    >>> [20.0, 10.0, 50.0, 30.0] in selective_search(image, min_width=4).round().tolist()
    True
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise BadInput(f"selective search takes uint8 RGB images, not {image.dtype} {list(image.shape)}")
    felzenszwalb, spaces = _library()
    ranked: dict[tuple[int, ...], int] = {}
    for convert, low, high in spaces:
        pixels = (convert(image) - low) / (high - low)
        for scale in scales:
            labels = felzenszwalb(pixels, scale=float(scale), sigma=sigma, min_size=int(scale))
            regions = _Regions(pixels, labels)
            for strategy in STRATEGIES:
                boxes = regions.merged(strategy)
                for rank, box in enumerate(reversed(boxes)):
                    ranked[box] = min(ranked.get(box, rank), rank)
    order = sorted(ranked, key=lambda box: (ranked[box], box))
    found = np.asarray(order, np.float32).reshape(-1, 4)
    return found[((found[:, 2:] - found[:, :2]) >= min_width).all(1)]


def _library() -> tuple[Any, tuple[Any, ...]]:
    """Return the segmentation, and colour spaces with the ranges of their channels."""
    try:
        from skimage import color, segmentation
    except ImportError:
        raise BadInput("selective search needs scikit-image: pip install 'jaxseg[rcnn]'") from None
    lab = (color.rgb2lab, np.asarray([0.0, -128, -128]), np.asarray([100.0, 127, 127]))
    hsv = (color.rgb2hsv, np.zeros(3), np.ones(3))
    return segmentation.felzenszwalb, (hsv, lab)


class _Regions:
    """The first regions of an image: what their similarities are made of, and who touches whom."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray):
        count = int(labels.max()) + 1
        self.area = float(labels.size)
        self.size = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
        places = ndimage.find_objects(labels + 1)
        self.boxes: list[tuple[int, ...]] = [(x.start, y.start, x.stop, y.stop) for y, x in places]
        self.colour = _histograms(labels, np.moveaxis(pixels, -1, 0), COLOUR_BINS, count)
        self.texture = _histograms(labels, _gradients(pixels), TEXTURE_BINS, count)
        pairs = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
        touching = np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in pairs])
        touching = np.unique(np.sort(touching[touching[:, 0] != touching[:, 1]], axis=1), axis=0)
        self.neighbours: list[set[int]] = [set() for _ in range(count)]
        for a, b in touching.tolist():
            self.neighbours[a].add(b)
            self.neighbours[b].add(a)

    def merged(self, strategy: tuple[str, ...]) -> list[tuple[int, ...]]:
        """Return the boxes of all regions, in the order in which they come into being."""
        size, boxes = list(self.size), list(self.boxes)
        histograms = {"colour": list(self.colour), "texture": list(self.texture)}
        neighbours = [set(found) for found in self.neighbours]
        alive = [True] * len(size)

        def similarity(a: int, b: int) -> float:
            total = 0.0
            for name in strategy:
                if name in histograms:
                    total += float(np.minimum(histograms[name][a], histograms[name][b]).sum())
                elif name == "size":
                    total += 1 - (size[a] + size[b]) / self.area
                else:
                    x0, y0, x1, y1 = _around(boxes[a], boxes[b])
                    total += 1 - ((x1 - x0) * (y1 - y0) - size[a] - size[b]) / self.area
            return total

        queue = [(-similarity(a, b), a, b) for a, found in enumerate(neighbours) for b in found if a < b]
        heapq.heapify(queue)
        while queue:
            _, a, b = heapq.heappop(queue)
            if not (alive[a] and alive[b]):
                continue
            new, whole = len(size), size[a] + size[b]
            for table in histograms.values():
                table.append((size[a] * table[a] + size[b] * table[b]) / whole)
            size.append(whole)
            boxes.append(_around(boxes[a], boxes[b]))
            alive[a] = alive[b] = False
            alive.append(True)
            neighbours.append((neighbours[a] | neighbours[b]) - {a, b})
            for other in neighbours[new]:
                neighbours[other] -= {a, b}
                neighbours[other].add(new)
                heapq.heappush(queue, (-similarity(other, new), other, new))
        return boxes


def _around(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


def _gradients(pixels: np.ndarray) -> np.ndarray:
    """Return [c*8 h w], how much each channel rises in eight directions, 0 to 1."""
    found = []
    for channel in np.moveaxis(pixels, -1, 0):
        dx, dy = (ndimage.gaussian_filter1d(channel, 1.0, axis=axis, order=1) for axis in (1, 0))
        for i in range(DIRECTIONS):
            angle = 2 * np.pi * i / DIRECTIONS
            found.append(np.clip(2 * (dx * np.cos(angle) + dy * np.sin(angle)), 0, 1))
    return np.stack(found)


def _histograms(labels: np.ndarray, maps: np.ndarray, bins: int, count: int) -> np.ndarray:
    """Return [regions maps*bins], a histogram of each region over all maps together, which sums to 1."""
    columns = []
    for values in maps:
        at = np.minimum((values * bins).astype(np.int64), bins - 1).clip(0)
        flat = np.bincount((labels * bins + at).ravel(), minlength=count * bins)
        columns.append(flat.reshape(count, bins))
    whole = np.concatenate(columns, axis=1).astype(np.float64)
    return whole / np.maximum(whole.sum(1, keepdims=True), 1)
