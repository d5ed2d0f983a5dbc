"""Edge maps on the host, without JAX: thinning, suppression across the edge, one-to-one matching within a tolerance.

What Berkeley's boundary benchmark (Martin et al. 2004, Arbelaez et al. 2011) and the public programs of edge detection
do to a map before and while it is compared with what people drew.
"""

import functools
import math

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.spatial import KDTree

AROUND = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""Row and column of the eight neighbours, from the east counterclockwise; neighbour i is bit i of a code."""


def thin(mask: np.ndarray) -> np.ndarray:
    """Return the mask reduced to lines of one pixel: MATLAB's ``bwmorph(mask, 'thin', inf)``.

    >>> thin(np.ones((3, 5), bool)).astype(int).tolist()
    [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]

    Args:
      mask: bool[h w].

    Returns:
      bool[h w]; neither splits nor loses a part.

    Reference:
      Guo and Hall 1989, doi:10.1145/62065.62074; Lam, Lee and Suen 1992, doi:10.1109/34.161346.
    """
    x = np.pad(mask.astype(np.uint8), 1)
    while True:
        before = int(x.sum())
        for removable in _removable():
            rows, columns = np.nonzero(x)
            code = np.zeros(len(rows), np.intp)
            for bit, (dy, dx) in enumerate(AROUND):
                code |= x[rows + dy, columns + dx].astype(np.intp) << bit
            gone = removable[code]
            x[rows[gone], columns[gone]] = 0
        if int(x.sum()) == before:
            return x[1:-1, 1:-1].astype(bool)


@functools.cache
def _removable() -> tuple[np.ndarray, np.ndarray]:
    """By the code of a neighbourhood: whether its pixel goes, in the first and in the second half of a pass."""
    code = np.arange(256)
    x = [(code >> i & 1).astype(bool) for i in range(8)]
    x = [*x, x[0]]
    crossings = sum((~x[i] & (x[i + 1] | x[i + 2])).astype(int) for i in (0, 2, 4, 6))
    pairs = sum((x[i] | x[i + 1]).astype(int) for i in (0, 2, 4, 6))
    other = sum((x[i] | x[i + 1]).astype(int) for i in (1, 3, 5, 7))
    least = np.minimum(pairs, other)
    ends = (crossings == 1) & (least >= 2) & (least <= 3)
    first = ends & ~((x[1] | x[2] | ~x[7]) & x[0])
    second = ends & ~((x[5] | x[6] | ~x[3]) & x[4])
    return first, second


def suppress(edges: np.ndarray, *, smooth: float = 4.0, margin: int = 5, slack: float = 1.01) -> np.ndarray:
    """Return an edge map with zero wherever a neighbour across the edge is stronger: non-maximum suppression.

    The direction of an edge is that of the second derivatives of the smoothed map.

    Args:
      edges: f32[h w], from 0 to 1.
      smooth: radius of the triangle filter before the direction is measured.
      margin: edges that close to the border are weakened in proportion.
      slack: an edge stays unless it times this is weaker than a neighbour.

    Returns:
      f32[h w].

    Reference:
      Dollar and Zitnick 2015, *Fast edge detection using structured forests*, doi:10.1109/TPAMI.2014.2377715; the
      public program's ``edgesNms``.

    >>> ridge = np.repeat(np.asarray([[0.0, 0.2, 0.5, 0.9, 0.5, 0.2, 0.0]], np.float32), 7, axis=0)
    >>> suppress(ridge, margin=0)[3].tolist()
    [0.0, 0.0, 0.0, 0.8999999761581421, 0.0, 0.0, 0.0]
    """
    soft = triangle(edges, smooth)
    dy, dx = np.gradient(soft)
    dxy, dxx = np.gradient(dx)
    dyy = np.gradient(dy)[0]
    angle = np.mod(np.arctan(dyy * np.where(dxy > 0, -1, 1) / (dxx + 1e-5)), math.pi)
    rows, columns = np.mgrid[: edges.shape[0], : edges.shape[1]].astype(np.float32)
    kept = edges * slack
    strongest = np.zeros_like(edges)
    for side in (-1, 1):
        place = (rows + side * np.sin(angle), columns + side * np.cos(angle))
        strongest = np.maximum(strongest, ndimage.map_coordinates(edges, place, order=1, mode="nearest"))
    out = np.where(kept < strongest, 0.0, edges)
    for axis, length in enumerate(edges.shape):
        index = np.arange(length)
        near = np.minimum(np.minimum(index, length - 1 - index) / max(margin, 1), 1.0) if margin else np.ones(length)
        out = out * near.reshape((-1, 1) if axis == 0 else (1, -1))
    return out.astype(np.float32)


def triangle(image: np.ndarray, radius: float) -> np.ndarray:
    """Return the image smoothed by a triangle filter, mirrored at the border.

    >>> triangle(np.asarray([[0.0, 0.0, 4.0, 0.0, 0.0]]), 1.0).tolist()
    [[0.0, 1.0, 2.0, 1.0, 0.0]]
    """
    reach = math.ceil(radius)
    kernel = np.maximum(radius + 1 - np.abs(np.arange(-reach, reach + 1)), 0.0)
    kernel /= kernel.sum()
    for axis in (0, 1):
        image = ndimage.convolve1d(image, kernel, axis=axis, mode="reflect")
    return image


def match(found: np.ndarray, true: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels of two edge maps belong to a largest one-to-one matching within a distance.

    Berkeley's ``correspondPixels`` looks for the cheapest assignment with a far higher price on unmatched pixels, so
    that it matches as many; only their number counts there.

    Args:
      found: bool[h w].
      true: bool[h w].
      radius: in pixels, Euclidean, inclusive.

    Returns:
      bool[h w] of each: the pixels that have a partner.

    >>> a, b = match(np.asarray([[1, 1, 0, 0, 0]], bool), np.asarray([[0, 0, 1, 0, 1]], bool), 2.0)
    >>> int(a.sum()), b.astype(int).tolist()
    (1, [[0, 0, 1, 0, 0]])
    """
    of_found, of_true = np.zeros(found.shape, bool), np.zeros(true.shape, bool)
    ours, theirs = np.argwhere(found), np.argwhere(true)
    if not len(ours) or not len(theirs):
        return of_found, of_true
    near = KDTree(ours).sparse_distance_matrix(KDTree(theirs), radius + 1e-9, output_type="coo_matrix")
    pairs = sparse.csr_matrix((np.ones(near.nnz, bool), (near.row, near.col)), shape=(len(ours), len(theirs)))
    partner = csgraph.maximum_bipartite_matching(pairs, perm_type="column")
    taken = partner >= 0
    of_found[tuple(ours[taken].T)] = True
    of_true[tuple(theirs[partner[taken]].T)] = True
    return of_found, of_true
