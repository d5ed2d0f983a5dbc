"""The quantised ab plane of CIE Lab, and what colorization makes of it (Zhang et al. 2016, arXiv:1603.08511)."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import ndimage
from scipy.spatial import Delaunay

from jaxseg.ops.lab import rgb_to_lab

STEP, REACH = 10, 110
"""Width of a bin of a and b, and the last centre: 23 x 23 in all."""


@functools.cache
def _bins() -> np.ndarray:
    side = np.linspace(0.0, 255.0, 65, dtype=np.float32)
    first, second = (x.ravel() for x in np.meshgrid(side, side))
    faces = []
    for channel in range(3):
        for level in (0.0, 255.0):
            face = np.stack([np.full_like(first, level), first, second], -1)
            faces.append(np.roll(face, channel, axis=-1))
    ab = rgb_to_lab(np.concatenate(faces))[:, 1:]
    axis = np.arange(-REACH, REACH + 1, STEP)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    inside = Delaunay(ab).find_simplex(grid) >= 0
    return grid[np.asarray(ndimage.binary_dilation(inside, np.ones((3, 3))), bool)]


def ab_bins() -> np.ndarray:
    """Return the centres of the bins of the ab plane that sRGB reaches, 313 of a 23x23 grid.

    They are the points of a grid of 10 that lie within the convex hull of the gamut, and their eight neighbours.

    >>> ab_bins().shape, ab_bins()[0].tolist()
    ((313, 2), [-90, 50])

    Returns:
      i64[q 2], by a, then by b.

    Reference:
      Zhang et al. 2016, arXiv:1603.08511, section 2.1, Figure 3; equal to the release's ``pts_in_hull.npy``.
    """
    return _bins().copy()


def all_bins() -> np.ndarray:
    """Return the centres of the whole grid of 23x23 bins, i64[529 2].

    >>> all_bins().shape
    (529, 2)
    """
    axis = np.arange(-REACH, REACH + 1, STEP)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


def nearest_bin(ab: Float[Array, "*s 2"], bins: np.ndarray) -> Int[Array, "*s"]:
    """Return the number of the nearest bin of each colour that sRGB reaches; of others that of their cell of the grid.

    >>> int(nearest_bin(jnp.asarray([3.0, -4.0]), all_bins()))
    264
    """
    grid = all_bins()
    table = ((grid[:, None] - bins[None]) ** 2).sum(-1).argmin(1).astype(np.int32)
    side = 2 * REACH // STEP + 1
    cell = jnp.clip(jnp.round(ab / STEP).astype(jnp.int32) + REACH // STEP, 0, side - 1)
    return jnp.asarray(table)[cell[..., 0] * side + cell[..., 1]]


def soft_bins(
    ab: Float[Array, "*s 2"], bins: np.ndarray, *, neighbours: int = 5, sigma: float = 5.0
) -> Float[Array, "*s q"]:
    """Return each colour as weights of its nearest bins, by a Gaussian of their distance, that sum to one.

    >>> [round(x, 3) for x in sorted(soft_bins(jnp.zeros(2), ab_bins()).tolist())[-2:]]
    [0.088, 0.649]

    Args:
      ab: colours.
      bins: their centres.
      neighbours: how many bins; 5 in the paper, 10 in the authors' program.
      sigma: of the Gaussian.

    Reference:
      Zhang et al. 2016, arXiv:1603.08511, section 2.1.
    """
    squares = _distances(ab, bins)
    chosen = -jax.lax.top_k(-squares, neighbours)[0][..., -1:]
    weights = jnp.where(squares <= chosen, jnp.exp(-squares / (2 * sigma**2)), 0.0)
    total = weights.sum(-1, keepdims=True)
    hard = jax.nn.one_hot(nearest_bin(ab, bins), bins.shape[0], dtype=jnp.float32)
    return jnp.where(total > 1e-30, weights / jnp.maximum(total, 1e-30), hard)


def prior_of(images: Iterable[np.ndarray], *, smooth: float = 5.0) -> np.ndarray:
    """Return the share of each of the 313 bins among the pixels of images, smoothed over the ab plane.

    >>> prior = prior_of([np.full((2, 2, 3), 90, np.uint8)])
    >>> ab_bins()[prior.argmax()].tolist(), round(float(prior.sum()), 6)
    ([0, 0], 1.0)

    Args:
      images: u8 RGB [h w 3].
      smooth: deviation of the Gaussian, in units of a and b.

    Reference:
      Zhang et al. 2016, arXiv:1603.08511, section 2.2.
    """
    side = 2 * REACH // STEP + 1
    counts = np.zeros((side, side))
    for image in images:
        ab = rgb_to_lab(np.asarray(image)).reshape(-1, 3)[:, 1:]
        cell = np.clip(np.rint(ab / STEP).astype(int) + REACH // STEP, 0, side - 1)
        counts += np.bincount(cell[:, 0] * side + cell[:, 1], minlength=side * side).reshape(side, side)
    counts = ndimage.gaussian_filter(counts, smooth / STEP, mode="constant")
    place = ab_bins() // STEP + REACH // STEP
    chosen = counts[place[:, 0], place[:, 1]]
    return chosen / chosen.sum()


def rebalancing(prior: np.ndarray, *, mix: float = 0.5) -> np.ndarray:
    """Return the weight of each bin that makes rare colours count: ``1 / ((1 - mix) prior + mix / q)``.

    They are scaled so that their mean over the prior is 1.

    >>> rebalancing(np.asarray([0.75, 0.25])).round(3).tolist()
    [0.857, 1.429]

    Args:
      prior: share of each bin among the pixels of a data set.
      mix: share of the uniform distribution; 0.5 in the paper.

    Reference:
      Zhang et al. 2016, arXiv:1603.08511, eq. 4.
    """
    prior = np.asarray(prior, np.float64) / np.sum(prior)
    weights = 1 / ((1 - mix) * prior + mix / len(prior))
    return weights / (prior * weights).sum()


def annealed_mean(logits: Float[Array, "*s q"], bins: np.ndarray, temperature: float = 0.38) -> Float[Array, "*s 2"]:
    """Return the mean colour under the distribution sharpened by a temperature: between the mean (1) and the mode (0).

    >>> annealed_mean(jnp.asarray([0.0, 3.0]), np.asarray([[0, 0], [10, 20]]), temperature=0.1).round(2).tolist()
    [10.0, 20.0]

    Reference:
      Zhang et al. 2016, arXiv:1603.08511, eq. 5.
    """
    shares = jax.nn.softmax(logits.astype(jnp.float32) / temperature, axis=-1)
    return shares @ jnp.asarray(bins, jnp.float32)


def _distances(ab: Array, bins: np.ndarray) -> Array:
    """Return the squared distance of each colour to each bin."""
    centres = jnp.asarray(bins, jnp.float32).reshape((1,) * (ab.ndim - 1) + bins.shape)
    difference = ab[..., None, :].astype(jnp.float32) - centres
    return jnp.square(difference).sum(-1)
