"""Regions to train the heads of a two-stage network on: proposals and objects, drawn by what they overlap."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxseg.layers.rpn import Proposals
from jaxseg.ops.match import match

Background = tuple[float, float, float]
"""A kind of background: least overlap with any object, the overlap that is too much, share of what positives leave."""


def image_keys(key: Array, targets: Mapping[str, Array]) -> Array:
    """Return a key for each image, by its number in the data set where it is known, or else in the batch.

    >>> image_keys(jax.random.key(0), {"valid": jnp.ones((2, 1), bool), "index": jnp.array([7, 7])}).shape
    (2,)
    """
    rows = jnp.arange(len(targets["valid"]), dtype=jnp.uint32)
    numbers = targets["index"].astype(jnp.uint32) if "index" in targets else rows
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


def with_objects(
    boxes: Float[Array, "b p 4"], valid: Bool[Array, "b p"], targets: Mapping[str, Array]
) -> tuple[Float[Array, "b s 4"], Bool[Array, "b s"], Bool[Array, "b s"]]:
    """Return boxes and the objects' own, those that cover an object first; which there are; and which cover an object.

    >>> box = jnp.asarray([[[0.0, 0.0, 8.0, 8.0]]])
    >>> here = jnp.ones((1, 1), bool)
    >>> rois, valid, positive = with_objects(box, here, {"boxes": box, "valid": here})
    >>> rois.shape, positive.tolist()
    ((1, 2, 4), [[True, True]])

    Args:
      boxes: proposals.
      valid: which of their slots hold one.
      targets: ``boxes``, ``valid`` and perhaps ``crowd`` of the objects; crowds are none.
    """
    objects = _objects(targets)
    boxes = jnp.concatenate([boxes, targets["boxes"]], axis=1)
    there = jnp.concatenate([valid, objects], axis=1)

    def one(truth: Array, objects: Array, boxes: Array, there: Array) -> Array:
        return match(truth, objects, boxes, high=0.5, low=0.5, anchor_valid=there).index >= 0

    positive = jax.vmap(one)(targets["boxes"], objects, boxes, there)
    ordered = in_order({"boxes": boxes, "valid": there, "positive": positive}, there, positive)
    return ordered["boxes"], ordered["valid"], ordered["positive"]


def in_order(regions: Mapping[str, Array], valid: Bool[Array, "b s"], positive: Bool[Array, "b s"]) -> dict[str, Array]:
    """Return what belongs to regions in another order: those that cover an object, the other ones, free slots.

    >>> valid, positive = jnp.asarray([[False, True, True]]), jnp.asarray([[False, False, True]])
    >>> in_order({"number": jnp.asarray([[7, 8, 9]])}, valid, positive)["number"].tolist()
    [[9, 8, 7]]

    Args:
      regions: arrays [b s ...].
      valid: which slots hold a region.
      positive: which cover an object.
    """
    kind = jnp.where(valid, jnp.where(positive, 0, 1), 2)
    order = jnp.argsort(kind, axis=1, stable=True)
    return {key: jax.vmap(lambda x, at: x[at])(value, order) for key, value in regions.items()}


def sample_regions(
    key: Array,
    proposals: Proposals,
    targets: Mapping[str, Array],
    *,
    count: int,
    positive_fraction: float,
    backgrounds: Sequence[Background] = ((0.0, 0.5, 1.0),),
) -> tuple[Float[Array, "b s 4"], Bool[Array, "b s"], Bool[Array, "b s"]]:
    """Draw regions to train on, the objects' own boxes among the candidates.

    Args:
      key: of the random numbers, from which each image has its own.
      proposals: of all images.
      targets: as of :func:`with_objects`, and perhaps ``index``.
      count: slots of an image.
      positive_fraction: of them that objects may take.
      backgrounds: kinds of background; the last takes all that is left of the slots.

    Returns:
      The regions, those that cover an object first; which there are; and which cover an object.

    >>> box = jnp.asarray([[[0.0, 0.0, 8.0, 8.0]]])
    >>> found = Proposals(box + 20.0, jnp.ones((1, 1)), jnp.ones((1, 1), bool))
    >>> targets = {"boxes": box, "valid": jnp.ones((1, 1), bool)}
    >>> rois, valid, positive = sample_regions(jax.random.key(0), found, targets, count=4, positive_fraction=0.5)
    >>> valid.tolist(), positive.tolist()
    ([[True, True, False, False]], [[True, False, False, False]])
    """
    objects = _objects(targets)
    boxes = jnp.concatenate([proposals.boxes, targets["boxes"]], axis=1)
    there = jnp.concatenate([proposals.valid, objects], axis=1)

    def one(key: Array, boxes: Array, there: Array, truth: Array, real: Array) -> tuple[Array, Array, Array]:
        found = match(truth, real, boxes, high=0.5, low=0.5, anchor_valid=there)
        luck = jax.random.uniform(key, there.shape)
        objects = there & (found.index >= 0)
        chosen = objects & (_rank(luck, objects) < int(count * positive_fraction))
        order = jnp.where(chosen, 2.0 * len(backgrounds) + luck, -1.0)
        free = left = count - jnp.sum(chosen, dtype=jnp.int32)
        for i, (low, high, share) in enumerate(backgrounds, 1):
            kind = there & ~objects & (found.iou >= low) & (found.iou < high)
            most = left if i == len(backgrounds) else jnp.round(free.astype(jnp.float32) * share).astype(jnp.int32)
            drawn = kind & (_rank(luck, kind) < most)
            order = jnp.where(drawn, 2.0 * (len(backgrounds) - i) + luck, order)
            left = left - jnp.sum(drawn, dtype=jnp.int32)
        values, index = jax.lax.top_k(jnp.pad(order, (0, max(count - len(order), 0)), constant_values=-1), count)
        valid = values >= 0
        index = jnp.where(valid, index, 0)
        return jnp.where(valid[:, None], boxes[index], 0), valid, valid & objects[index]

    return jax.vmap(one)(image_keys(key, targets), boxes, there, targets["boxes"], objects)


def _objects(targets: Mapping[str, Array]) -> Array:
    return targets["valid"] & ~targets["crowd"] if "crowd" in targets else targets["valid"]


def _rank(luck: Array, candidate: Array) -> Array:
    """Return how many candidates have more luck."""
    order = jnp.argsort(jnp.where(candidate, -luck, 2.0), stable=True)
    return jnp.zeros(luck.shape, jnp.int32).at[order].set(jnp.arange(len(luck), dtype=jnp.int32))
