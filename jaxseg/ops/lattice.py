"""Gaussian filtering of scattered points on the permutohedral lattice (Adams, Baek and Davis 2010).

Values are splatted onto the corners of the simplex around each point, blurred along each lattice direction, and sliced
back with the same weights: time and memory are linear in the number of points. All shapes are static: the table has as
many slots for vertices as points have corners; equal corners are found by sorting hashes of their coordinates.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int


class Lattice(NamedTuple):
    """Vertices that each point touches, and their neighbours.

    ``vertex`` and ``weight`` are [n d+1]; ``above`` and ``below`` are [d+1 m+1] for m vertices; index m is a dummy that
    holds zero.

    >>> jax.eval_shape(lattice, jnp.zeros((3, 2))).vertex.shape
    (3, 3)
    """

    vertex: Int[Array, "n s"]
    weight: Float[Array, "n s"]
    above: Int[Array, "s m"]
    below: Int[Array, "s m"]


def lattice(features: Float[Array, "n d"]) -> Lattice:
    """Return the lattice of points for the kernel ``exp(-|f_i - f_j|^2 / 2)``. It carries no gradient.

    >>> jax.jit(lattice)(jnp.zeros((3, 2))).weight.sum(1).tolist()
    [1.0, 1.0, 1.0]
    """
    features = lax.stop_gradient(features).astype(jnp.float32)
    n, d = features.shape
    corner, rank, weight = _simplex(features)
    multipliers = jnp.asarray(np.random.default_rng(0).integers(0, 2**32, (2, d), dtype=np.uint32) | np.uint32(1))

    # Corner k of a simplex: its 0-corner moved by k, and back by d + 1 along the k coordinates of least residue.
    steps = np.array([[k - (d + 1) * (r > d - k) for r in range(d + 1)] for k in range(d + 1)], np.int32)
    keys = corner[:, None, :d] + jnp.moveaxis(jnp.asarray(steps)[:, rank[:, :d]], 0, 1)
    hashes = _dot(keys.reshape(n * (d + 1), d).astype(jnp.uint32), multipliers)
    vertex, table = _number(hashes)

    # A neighbour's key is one more along every coordinate but one, where it is d less; the last is left out of keys.
    moves = multipliers.sum(1)[:, None] - jnp.pad(multipliers * np.uint32(d + 1), ((0, 0), (0, 1)))
    m = n * (d + 1)
    wanted = (table[0][None] + moves[0][:, None], table[1][None] + moves[1][:, None])
    nobody = jnp.full((d + 1, 1), m, jnp.int32)
    above = jnp.concatenate([_find(table, wanted), nobody], axis=1)
    directions = jnp.arange(d + 1)[:, None]
    below = jnp.full((d + 1, m + 1), m, jnp.int32).at[directions, above].set(jnp.arange(m + 1, dtype=jnp.int32)[None])
    return Lattice(vertex.reshape(n, d + 1), weight, above, below.at[:, m].set(m))


@jax.custom_vjp
def blur(points: Lattice, values: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Return ``sum_j exp(-|f_i - f_j|^2 / 2) values_j``, i included, approximately and up to a constant factor.

    The gradient for the values is the same filter with the directions in reverse order.

    >>> two_equal_points = jax.jit(lattice)(jnp.zeros((2, 1)))
    >>> first, second = jax.jit(blur)(two_equal_points, jnp.array([[1.0], [3.0]])).ravel().tolist()
    >>> first == second
    True
    """
    return _blur(points, values, reverse=False)


def _forward(points: Lattice, values: Array) -> tuple[Array, Lattice]:
    return blur(points, values), points


def _backward(points: Lattice, gradient: Array) -> tuple[None, Array]:
    return None, _blur(points, gradient, reverse=True)


blur.defvjp(_forward, _backward)


def _blur(points: Lattice, values: Array, *, reverse: bool) -> Array:
    n, corners = points.vertex.shape
    m = points.above.shape[1] - 1
    weight = points.weight.astype(values.dtype)
    spread = (values[:, None, :] * weight[:, :, None]).reshape(n * corners, -1)
    table = jax.ops.segment_sum(spread, points.vertex.reshape(-1), num_segments=m + 1)

    def along(table: Array, neighbours: tuple[Array, Array]) -> tuple[Array, None]:
        return table + (table[neighbours[0]] + table[neighbours[1]]) / 2, None

    table, _ = lax.scan(along, table, (points.above, points.below), reverse=reverse)
    scale = 1 / (1 + 2.0 ** -(corners - 1))
    return jnp.sum(table[points.vertex] * weight[:, :, None], axis=1) * np.asarray(scale, values.dtype)


def _simplex(features: Array) -> tuple[Array, Array, Array]:
    """Return each point's 0-corner i32[n d+1], the rank of each coordinate's residue, the weights of the corners."""
    d = features.shape[1]
    # The plane of the lattice in d + 1 coordinates, scaled so that the blur has unit variance.
    scale = (2 / 3) ** 0.5 * (d + 1) / np.sqrt((np.arange(d) + 1.0) * (np.arange(d) + 2.0))
    plane = np.triu(np.ones((d + 1, d)), 0)
    plane[np.arange(1, d + 1), np.arange(d)] = -np.arange(1, d + 1)
    plane[0] = 1
    matrix = jnp.asarray((plane * scale).T, jnp.float32)
    at = lax.dot_general(features, matrix, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)

    low, high = jnp.floor(at / (d + 1)), jnp.ceil(at / (d + 1))
    corner = (jnp.where(high * (d + 1) - at < at - low * (d + 1), high, low) * (d + 1)).astype(jnp.int32)
    excess = corner.sum(1, keepdims=True) // (d + 1)
    residue = at - corner.astype(jnp.float32)
    earlier = np.tril(np.ones((d + 1, d + 1), bool), -1)
    first, other = residue[:, :, None], residue[:, None, :]
    rank = jnp.sum((other > first) | ((other == first) & jnp.asarray(earlier)[None]), axis=2).astype(jnp.int32) + excess
    under, over = rank < 0, rank > d
    turn = jnp.where(under, d + 1, jnp.where(over, -(d + 1), 0)).astype(jnp.int32)
    rank, corner = rank + turn, corner + turn

    share = (at - corner.astype(jnp.float32)) / (d + 1)
    rows = jnp.arange(len(features))[:, None]
    sorted_share = jnp.zeros_like(share).at[rows, rank].set(share)[:, ::-1]
    first_weight = 1 + sorted_share[:, :1] - sorted_share[:, -1:]
    return corner, rank, jnp.concatenate([first_weight, sorted_share[:, 1:] - sorted_share[:, :-1]], axis=1)


Hashes = tuple[Array, Array]


def _dot(keys: Array, multipliers: Array) -> Hashes:
    first, second = ((keys * m[None]).sum(1, dtype=jnp.uint32) for m in multipliers)
    return first, second


def _number(hashes: Hashes) -> tuple[Array, Hashes]:
    """Return each entry's vertex number, equal entries sharing one, and the vertices' hashes, sorted and padded."""
    m = len(hashes[0])
    first, second, order = lax.sort((*hashes, jnp.arange(m, dtype=jnp.int32)), num_keys=2)
    new = jnp.concatenate([jnp.ones(1, bool), (first[1:] != first[:-1]) | (second[1:] != second[:-1])])
    number = jnp.cumsum(new, dtype=jnp.int32) - 1
    fill = jnp.full((m,), 0xFFFFFFFF, jnp.uint32)
    return jnp.zeros(m, jnp.int32).at[order].set(number), (fill.at[number].set(first), fill.at[number].set(second))


def _find(table: Hashes, wanted: Hashes) -> Array:
    """Return the index of each wanted hash in the sorted table, or the table's length; by bisection."""
    m = len(table[0])

    def halve(_: Array, span: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = span
        middle = (low + high) // 2
        first, second = table[0][middle], table[1][middle]
        before = (first < wanted[0]) | ((first == wanted[0]) & (second < wanted[1]))
        return jnp.where(before, middle + 1, low), jnp.where(before, high, middle)

    start = (jnp.zeros(wanted[0].shape, jnp.int32), jnp.full(wanted[0].shape, m, jnp.int32))
    low, _ = lax.fori_loop(0, max(m, 2).bit_length(), halve, start)
    at = jnp.minimum(low, m - 1)
    found = (table[0][at] == wanted[0]) & (table[1][at] == wanted[1])
    return jnp.where(found, at, m)
