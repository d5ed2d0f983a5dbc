"""Loss of SSD: default boxes are matched with the objects, and of the others the hardest stand for background.

Liu et al. 2016, arXiv:1512.02325, section 2.2. One image at a time under ``vmap``, in fixed slots.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxseg.errors import BadInput
from jaxseg.losses import binary_cross_entropy, smooth_l1, softmax_cross_entropy
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.match import BELOW, BETWEEN, within_crowd
from jaxseg.tasks.anchors import objects_in
from jaxseg.tasks.protocol import Outputs, Term
from jaxseg.tasks.regions import count_true, over_rows


@dataclass(frozen=True)
class MultiboxLoss:
    """Loss of SSD: of the classes over matched boxes and three times as many hard negatives, and of the matched codes.

    Both terms are divided by the matched boxes of the whole batch (eq. 1).

    Attributes:
      threshold: overlap from which a box stands for the object that it overlaps most.
      forced: which box an object has whatever the overlap: by ``"bipartite"`` matching, the best pair of all first and
        so on, so that each has one of its own (the paper); or each its ``"best"``, of which a later object may take an
        earlier one's (torchvision, TensorFlow).
      negatives: how many times as many boxes stand for background as are matched, in each image.
      scores: ``"softmax"`` cross-entropy, or ``"sigmoid"``, the sum of one for each output (TensorFlow).
      beta: of the smooth L1 loss of the codes.
      crowd_overlap: share of a box's area from which a crowd around it keeps it from being background.
      weight: factor of both terms.

    >>> MultiboxLoss().negatives
    3

    Raises:
      BadInput: ``forced`` or ``scores`` is neither.
    """

    threshold: float = 0.5
    forced: Literal["bipartite", "best"] = "bipartite"
    negatives: int = 3
    scores: Literal["softmax", "sigmoid"] = "softmax"
    beta: float = 1.0
    crowd_overlap: float = 0.7
    weight: float = 1.0

    def __post_init__(self):
        if self.forced not in ("bipartite", "best"):
            raise BadInput(f"the box that an object has is its 'bipartite' or its 'best', not {self.forced!r}")
        if self.scores not in ("softmax", "sigmoid"):
            raise BadInput(f"scores are of 'softmax' or 'sigmoid', not {self.scores!r}")

    def terms(self, outputs: Outputs, targets: Mapping[str, Array]) -> dict[str, Term]:
        """Return the terms ``box_classes`` and ``box_codes``.

        >>> box = jnp.asarray([[[0.0, 0.0, 8.0, 8.0]]])
        >>> outputs = {"anchors": box[0], "class_logits": jnp.zeros((1, 1, 2)), "anchor_deltas": jnp.zeros((1, 1, 4))}
        >>> targets = {"boxes": box, "valid": jnp.ones((1, 1), bool), "crowd": jnp.zeros((1, 1), bool)}
        >>> terms = MultiboxLoss().terms(outputs, {**targets, "classes": jnp.zeros((1, 1), jnp.int32)})
        >>> round(terms["box_classes"].sum.item(), 4), terms["box_codes"].sum.item()
        (0.6931, 0.0)
        """
        logits, deltas = outputs["class_logits"], outputs["anchor_deltas"]
        anchors = outputs["image_anchors"] if "image_anchors" in outputs else outputs["anchors"][None]

        def one(logits: Array, deltas: Array, anchors: Array, truth: Mapping[str, Array]) -> tuple[Array, Array, Array]:
            index = self.matched(anchors, truth)
            positive, own = index >= 0, jnp.maximum(index, 0)
            label = jnp.where(positive, truth["classes"][own] + 1, 0)
            values = self._of_classes(logits, label)
            hard = hardest(values, index == BELOW, self.negatives * jnp.sum(positive))
            boxes = jnp.where(positive[:, None], truth["boxes"][own], anchors)
            codes = smooth_l1(deltas, box_ops.encode(boxes, anchors, box_ops.REGION_WEIGHTS), beta=self.beta).sum(-1)
            scores = jnp.where(positive | hard, values, 0).sum()
            return scores, jnp.where(positive, codes, 0).sum(), count_true(positive)

        found = jax.vmap(one)(logits, deltas, jnp.broadcast_to(anchors, deltas.shape), objects_in(targets))
        scores, codes, count = (over_rows(x, targets) for x in found)
        return {"box_classes": Term(scores, count, self.weight), "box_codes": Term(codes, count, self.weight)}

    def classes_of(self, outputs: Outputs) -> int:
        """Return how many classes the network has outputs for, without background.

        >>> MultiboxLoss().classes_of({"class_logits": jnp.zeros((1, 9, 4))})
        3
        """
        return outputs["class_logits"].shape[-1] - 1

    def matched(self, anchors: Array, truth: Mapping[str, Array]) -> Array:
        """Return each box's object, or that it is background or neither, of one image.

        >>> there = {"valid": jnp.ones(1, bool), "crowd": jnp.zeros(1, bool)}
        >>> truth = {"boxes": jnp.asarray([[0.0, 0.0, 9.0, 9.0]]), **there}
        >>> MultiboxLoss().matched(jnp.asarray([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 3.0, 3.0]]), truth).tolist()
        [0, -1]
        """
        boxes, area = truth["boxes"], jnp.all(truth["boxes"][:, 2:] > truth["boxes"][:, :2], axis=1)
        objects, crowds = truth["valid"] & ~truth["crowd"] & area, truth["valid"] & truth["crowd"]
        iou = jnp.where(objects[:, None], box_ops.pairwise_iou(boxes, anchors), -1)
        best = jnp.where(iou.max(0) >= self.threshold, jnp.argmax(iou, axis=0), BELOW)
        forced = bipartite(iou) if self.forced == "bipartite" else _each_best(iou, objects)
        index = jnp.where(forced >= 0, forced, best)
        inside = within_crowd(anchors, boxes, crowds, threshold=self.crowd_overlap)
        return jnp.where((index == BELOW) & inside, BETWEEN, index)

    def _of_classes(self, logits: Array, label: Array) -> Array:
        """Return the loss of every box for its label, of which 0 is background."""
        if self.scores == "softmax":
            return softmax_cross_entropy(logits, label)
        return binary_cross_entropy(logits, jax.nn.one_hot(label, logits.shape[-1])).sum(-1)


def bipartite(iou: Array) -> Array:
    """Return which object each box is given, -1 for none: the best pair of all first, then the best of the rest.

    Args:
      iou: f32[n a], overlaps of objects and boxes; objects that take no part have less than 0. An object that overlaps
        no box remains without.

    >>> bipartite(jnp.asarray([[0.6, 0.5, 0.0], [0.9, 0.1, 0.0]])).tolist()
    [1, 0, -1]
    """
    n, a = iou.shape

    def step(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        del i
        left, given = state
        row, column = jnp.unravel_index(jnp.argmax(left), left.shape)
        good = left[row, column] > 0
        given = given.at[column].set(jnp.where(good, row.astype(jnp.int32), given[column]))
        taken = (jnp.arange(n) == row)[:, None] | (jnp.arange(a) == column)[None, :]
        return jnp.where(good & taken, -1, left), given

    start = (lax.stop_gradient(iou), jnp.full(a, -1, jnp.int32))
    return lax.fori_loop(0, n, step, start)[1]


def _each_best(iou: Array, objects: Array) -> Array:
    """Return which object each box is the best of, the last of several; -1 for none."""
    best = jnp.argmax(iou, axis=1)
    rows = jnp.where(objects, jnp.arange(len(iou), dtype=jnp.int32), -1)
    return jnp.full(iou.shape[1], -1, jnp.int32).at[best].max(rows)


def hardest(values: Array, candidate: Array, count: Array) -> Array:
    """Return True for the ``count`` candidates with the largest values, of equal ones the first.

    >>> hardest(jnp.asarray([3.0, 9.0, 5.0]), jnp.asarray([True, False, True]), jnp.asarray(1)).tolist()
    [False, False, True]
    """
    order = jnp.argsort(jnp.where(candidate, -lax.stop_gradient(values), jnp.inf))
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=order.dtype))
    return candidate & (rank < count)
