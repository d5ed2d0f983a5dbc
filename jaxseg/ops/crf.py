"""Fully connected CRF with Gaussian edges by mean field (Krähenbühl and Koltun 2011, arXiv:1210.5644).

Every pixel is connected to every other, more strongly if near or of similar colour. Conventions follow pydensecrf:
unary terms are energies, ``-log p``; kernels are ``exp(-|f_i - f_j|^2 / 2)``; a pixel's own term counts; messages are
normalised by the filter's response to ones. All functions take one image; ``vmap`` them over batches.

A *filter* is a linear map of values on pixels, ``[n k] -> [n k]``: ``exact_filter`` for any features, in blocks;
``grid_filter``, exact too, for pixel positions; ``lattice_filter``, approximate, in time linear in the pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Shaped

from jaxseg.errors import BadInput, suggest
from jaxseg.ops.lattice import blur, lattice

Filter = Callable[[Array], Array]
Compatibility = float | Array


@dataclass(frozen=True)
class DenseCRF:
    """Dense CRF with a spatial and a bilateral kernel, with the settings of pydensecrf's README.

    >>> jax.eval_shape(DenseCRF(), jnp.full((4, 4, 2), 0.5), jnp.zeros((4, 4, 3), jnp.uint8)).shape
    (4, 4, 2)

    Attributes:
      spatial_weight: strength of the spatial kernel.
      spatial_deviation: of the spatial kernel, in pixels.
      bilateral_weight: strength of the bilateral kernel.
      bilateral_deviation: of the bilateral kernel in space, in pixels.
      color_deviation: of the bilateral kernel in each colour, of 256 levels.
      iterations: of mean-field inference.
      normalization: see ``normalized``.
    """

    spatial_weight: float = 3.0
    spatial_deviation: float = 3.0
    bilateral_weight: float = 10.0
    bilateral_deviation: float = 80.0
    color_deviation: float = 13.0
    iterations: int = 5
    normalization: str = "symmetric"

    def __call__(self, probability: Float[Array, "h w k"], image: Shaped[Array, "h w 3"]) -> Float[Array, "h w k"]:
        """Return label probabilities given the whole image (raw RGB)."""
        h, w, k = probability.shape
        spatial = grid_filter(h, w, self.spatial_deviation)
        bilateral = lattice_filter(bilateral_features(image, self.bilateral_deviation, self.color_deviation))
        energy = energy_of(probability).reshape(h * w, k)
        messages = [
            (normalized(spatial, h * w, self.normalization), self.spatial_weight),
            (normalized(bilateral, h * w, self.normalization), self.bilateral_weight),
        ]
        return mean_field(energy, messages, iterations=self.iterations).reshape(h, w, k)


def mean_field(
    energy: Float[Array, "n k"], messages: Sequence[tuple[Filter, Compatibility]], *, iterations: int
) -> Float[Array, "n k"]:
    """Return marginals after parallel updates ``q = softmax(-(energy + sum_m pairwise(filter_m(q))))``.

    >>> marginals = mean_field(jnp.array([[0.0, 1.0]]), [(lambda q: q, 3.0)], iterations=0)
    >>> [round(p, 2) for p in marginals[0].tolist()]
    [0.73, 0.27]

    Args:
      energy: of each label at each pixel, ``-log p``; the first marginals are its softmax.
      messages: normalised filters with their compatibilities. A number w is the Potts model and rewards agreement by w
        (pydensecrf's scalars); a vector [k] or a matrix [k k], symmetrised, multiplies the filtered marginals and is
        added to the energy, so that *negative* entries reward agreement (as in pydensecrf).
      iterations: 0 returns the softmax.
    """

    def update(marginals: Array, _: None) -> tuple[Array, None]:
        total = energy
        for smooth, compatibility in messages:
            total = total + pairwise(smooth(marginals), compatibility)
        return jax.nn.softmax(-total, axis=-1), None

    return lax.scan(update, jax.nn.softmax(-energy, axis=-1), None, length=iterations)[0]


def pairwise(filtered: Float[Array, "n k"], compatibility: Compatibility) -> Float[Array, "n k"]:
    """Return the pairwise energy of filtered marginals; see ``mean_field`` for the signs.

    >>> pairwise(jnp.array([[0.25, 0.75]]), 2.0).tolist()
    [[-0.5, -1.5]]

    Raises:
      BadInput: the compatibility has more than two axes.
    """
    if isinstance(compatibility, int | float) or compatibility.ndim == 0:
        return -jnp.asarray(compatibility, filtered.dtype) * filtered
    if compatibility.ndim == 1:
        return filtered * compatibility.reshape(1, -1).astype(filtered.dtype)
    if compatibility.ndim == 2:
        symmetric = (compatibility + compatibility.T) / 2
        return filtered @ symmetric.astype(filtered.dtype)
    raise BadInput(f"a compatibility of {compatibility.ndim} axes; it is a number, a vector or a matrix")


def energy_of(probability: Float[Array, "... k"], *, least: float = 1e-5) -> Float[Array, "... k"]:
    """Return ``-log p``, with probabilities clipped below at ``least`` (pydensecrf's ``unary_from_softmax``).

    >>> round(float(energy_of(jnp.zeros(1))[0]), 2)
    11.51
    """
    return -jnp.log(jnp.maximum(probability, np.asarray(least, probability.dtype)))


def normalized(smooth: Filter, count: int, mode: str = "symmetric", *, dtype: jnp.dtype | type = jnp.float32) -> Filter:
    """Divide a filter over ``count`` pixels by its response n to ones.

    >>> mean = normalized(lambda values: values.sum(0, keepdims=True) + 0 * values, 4, "after")
    >>> mean(jnp.arange(4.0)[:, None]).ravel().tolist()
    [1.5, 1.5, 1.5, 1.5]

    Args:
      smooth: filter.
      count: number of pixels.
      mode: "symmetric" (by the square root of n before and after), "before", "after", or "none" (by the mean of n).
      dtype: of the values.

    Raises:
      BadInput: unknown mode.
    """
    if mode not in MODES:
        raise BadInput(f"no normalisation is called {mode!r}{suggest(mode, MODES)}")
    answer = smooth(jnp.ones((count, 1), dtype)) + np.asarray(1e-20, dtype)
    before, after = MODES[mode](answer)
    return lambda values: smooth(values * before) * after


MODES: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "symmetric": lambda n: (lax.rsqrt(n), lax.rsqrt(n)),
    "before": lambda n: (1 / n, jnp.ones_like(n)),
    "after": lambda n: (jnp.ones_like(n), 1 / n),
    "none": lambda n: (jnp.ones_like(n), 1 / n.mean(keepdims=True)),
}
"""Factors before and after a filter, from its response to ones."""


def bilateral_features(image: Shaped[Array, "h w c"], deviation: float, color_deviation: float) -> Float[Array, "n d"]:
    """Return ``(x / deviation, y / deviation, r, g, b / color_deviation)`` of every pixel, in reading order.

    >>> bilateral_features(jnp.zeros((4, 6, 3), jnp.uint8), 80.0, 13.0).shape
    (24, 5)
    """
    color = image.astype(jnp.float32).reshape(-1, image.shape[-1]) / color_deviation
    return jnp.concatenate([spatial_features(image.shape[0], image.shape[1], deviation), color], axis=1)


def spatial_features(height: int, width: int, deviation: float) -> Float[Array, "n 2"]:
    """Return ``(x, y) / deviation`` of every pixel, in reading order.

    >>> spatial_features(1, 3, 2.0).tolist()
    [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]
    """
    y, x = np.mgrid[:height, :width]
    return jnp.asarray(np.stack([x.ravel(), y.ravel()], axis=1) / deviation, jnp.float32)


def exact_filter(features: Float[Array, "n d"], *, block: int = 256) -> Filter:
    """Return the filter ``sum_j exp(-|f_i - f_j|^2 / 2) values_j``, ``block`` rows of the kernel at a time.

    The gradient recomputes the blocks, so memory stays bounded.

    >>> smooth = exact_filter(jnp.array([[0.0], [0.0], [100.0]]))
    >>> smooth(jnp.array([[1.0], [2.0], [4.0]])).ravel().tolist()
    [3.0, 3.0, 4.0]
    """
    n = len(features)
    rows = jnp.pad(features, ((0, -n % block), (0, 0))).reshape(-1, block, features.shape[1])

    def smooth(values: Array) -> Array:
        @jax.checkpoint
        def some(part: Array) -> Array:
            distance = jnp.zeros((block, n), features.dtype)
            for i in range(features.shape[1]):
                distance = distance + jnp.square(part[:, i, None] - features[None, :, i])
            kernel = jnp.exp(distance / -2).astype(values.dtype)
            return lax.dot_general(kernel, values, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)

        return lax.map(some, rows).reshape(-1, values.shape[1])[:n]

    return smooth


def grid_filter(height: int, width: int, deviation: float) -> Filter:
    """Return the exact filter of ``spatial_features``, separable: two small matrix products.

    >>> smooth = grid_filter(1, 2, deviation=0.01)
    >>> smooth(jnp.array([[1.0], [2.0]])).ravel().tolist()
    [1.0, 2.0]
    """

    def line(length: int) -> np.ndarray:
        at = np.arange(length)
        return np.exp(-((at[:, None] - at[None, :]) ** 2) / (2 * deviation**2))

    def smooth(values: Array) -> Array:
        across, down = (jnp.asarray(line(n), values.dtype) for n in (width, height))
        x = values.reshape(height, width, -1)
        x = jnp.einsum("yh,hwk->ywk", down, x, precision=lax.Precision.HIGHEST)
        x = jnp.einsum("xw,ywk->yxk", across, x, precision=lax.Precision.HIGHEST)
        return x.reshape(height * width, -1)

    return smooth


def lattice_filter(features: Float[Array, "n d"]) -> Filter:
    """Return the filter of ``exact_filter``, approximated on the permutohedral lattice up to a constant factor.

    Every normalisation of ``normalized`` cancels the factor.

    >>> jax.eval_shape(lambda x: lattice_filter(spatial_features(4, 4, 2.0))(x), jnp.ones((16, 3))).shape
    (16, 3)
    """
    points = lattice(features)
    return lambda values: blur(points, values)
