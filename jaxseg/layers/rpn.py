"""Region proposal network (Ren et al. 2015, arXiv:1506.01497): a small head on every level, and the best boxes of all.

``RPNHead`` scores every anchor and codes its box; ``propose`` turns both into a fixed number of proposal slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseg.layers.conv import Conv
from jaxseg.ops import boxes as box_ops
from jaxseg.ops import codings
from jaxseg.ops.backend import map_images
from jaxseg.ops.nms import nms, top_k
from jaxseg.types import Rules

Map = Float[Array, "b _ _ c"]

normal_01 = nn.initializers.normal(0.01)


class RPNHead(nn.Module):
    """Score and code every anchor: 3x3 convolutions, then 1x1 for objectness and boxes, the same on every level.

    Attributes:
      features: channels of the 3x3 convolutions.
      anchors: anchors in every cell.
      convs: how many 3x3 convolutions; 1 in the paper, 2 in torchvision's second version.
      outputs: scores of an anchor: 1, or 2 for the paper's softmax over background and object.
      stride: of the first 3x3 convolution, and its dilation: on a map that was dilated to a finer stride.
      dtype: compute dtype.

    >>> levels = [jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 2, 2, 2))]
    >>> logits, deltas = jax.eval_shape(lambda: RPNHead(2).init_with_output(jax.random.key(0), levels)[0])
    >>> logits.shape, deltas.shape
    ((1, 60), (1, 60, 4))
    """

    features: int = 256
    anchors: int = 3
    convs: int = 1
    outputs: int = 1
    stride: int = 1
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[Map]) -> tuple[Float[Array, "b a"], Float[Array, "b a 4"]]:
        """Return objectness logits and box codes of all anchors, level by level, float32."""
        options: dict[str, Any] = {"kernel_init": normal_01, "dtype": self.dtype}
        steps = [self.stride, *[1] * (self.convs - 1)]
        convs = [
            Conv(self.features, 3, stride=step, padding=step, dilation=step, **options, name=f"conv{i}")
            for i, step in enumerate(steps)
        ]
        objectness = Conv(self.outputs * self.anchors, 1, **options, name="objectness")
        codes = Conv(4 * self.anchors, 1, **options, name="deltas")
        logits, deltas = [], []
        for x in levels:
            for conv in convs:
                x = jax.nn.relu(conv(x))
            b = x.shape[0]
            scores = objectness(x).astype(jnp.float32)
            if self.outputs == 2:  # a softmax of two is a sigmoid of their difference
                scores = scores[..., self.anchors :] - scores[..., : self.anchors]
            logits.append(scores.reshape(b, -1))
            deltas.append(codes(x).reshape(b, -1, 4))
        return jnp.concatenate(logits, 1).astype(jnp.float32), jnp.concatenate(deltas, 1).astype(jnp.float32)


@dataclass(frozen=True)
class Proposing:
    """How many proposals are kept, and which.

    Attributes:
      before: highest-scoring anchors of each level that enter suppression.
      after: proposals of an image, over all levels.
      threshold: IoU above which the worse of two boxes of a level goes.
      min_size: least width and height, pixels.
      min_score: least objectness, 0 to 1.

    >>> Proposing(before=2000, after=2000).threshold
    0.7
    """

    before: int = 1000
    after: int = 1000
    threshold: float = 0.7
    min_size: float = 1e-3
    min_score: float = 0.0


class Proposals(NamedTuple):
    """Slots of proposals, best first; free slots are zero; and the anchors that a proposal network made them of.

    >>> Proposals(jnp.zeros((1, 2, 4)), jnp.zeros((1, 2)), jnp.zeros((1, 2), bool)).valid.tolist()
    [[False, False]]
    """

    boxes: Float[Array, "b p 4"]
    scores: Float[Array, "b p"]
    valid: Bool[Array, "b p"]
    anchors: Int[Array, "b p"] | None = None


def propose(
    logits: Float[Array, "b a"],
    deltas: Float[Array, "b a 4"],
    anchors: Float[Array, "a 4"],
    counts: Sequence[int],
    size: Int[Array, "b 2"],
    *,
    how: Proposing,
    coding: str = codings.HALF_OPEN,
) -> Proposals:
    """Return the best boxes of every image: best anchors of each level, decoded, clipped, suppressed, then of all.

    No gradient flows through proposals; :func:`differentiable` makes them anew of the codes.

    Args:
      logits: objectness of every anchor.
      deltas: box codes of every anchor.
      anchors: level by level.
      counts: anchors of each level.
      size: rows and columns of each canvas that are image.
      how: limits and thresholds.
      coding: of boxes, see :mod:`jaxseg.ops.codings`.

    >>> anchors = jnp.array([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 7.0], [20.0, 20.0, 28.0, 28.0]])
    >>> logits, size = jnp.array([[3.0, 2.0, 1.0]]), jnp.array([[32, 32]])
    >>> found = propose(logits, jnp.zeros((1, 3, 4)), anchors, (3,), size, how=Proposing(3, 3, 0.5))
    >>> found.boxes[0, 1].tolist(), found.valid.tolist()
    ([20.0, 20.0, 28.0, 28.0], [[True, True, False]])

    Reference: torchvision, ``RegionProposalNetwork.filter_proposals``.
    """
    logits, deltas = jax.lax.stop_gradient(logits), jax.lax.stop_gradient(deltas)
    starts = [sum(counts[:i]) for i in range(len(counts))]

    def one(logits: Array, deltas: Array, size: Array) -> Proposals:
        boxes, scores, valid, places = [], [], [], []
        for start, count in zip(starts, counts, strict=True):
            level = slice(start, start + count)
            best = top_k(logits[level], min(how.before, count))
            found = codings.decode(deltas[level][best.index], anchors[level][best.index], coding=coding)
            found = box_ops.clip(found, size[0], size[1])
            score = jax.nn.sigmoid(best.value)
            keep = best.valid & box_ops.large_enough(found, how.min_size) & (score >= how.min_score)
            kept = nms(found, score, threshold=how.threshold, count=min(how.after, best.index.shape[0]), valid=keep)
            boxes.append(found[kept.index])
            scores.append(score[kept.index])
            valid.append(kept.valid)
            places.append(start + best.index[kept.index])
        merged = top_k(jnp.concatenate(scores), how.after, valid=jnp.concatenate(valid))
        chosen = jnp.where(merged.valid[:, None], jnp.concatenate(boxes)[merged.index], 0)
        place = jnp.where(merged.valid, jnp.concatenate(places)[merged.index], 0)
        return Proposals(chosen, jnp.where(merged.valid, merged.value, 0), merged.valid, place)

    return map_images(one)(logits, deltas, size)


def differentiable(
    proposals: Proposals,
    deltas: Float[Array, "b a 4"],
    anchors: Float[Array, "a 4"],
    size: Int[Array, "b 2"],
    *,
    coding: str = codings.HALF_OPEN,
) -> Float[Array, "b p 4"]:
    """Return the boxes of proposals as functions of the codes that they were decoded from.

    >>> anchors, size = jnp.array([[0.0, 0.0, 8.0, 8.0]]), jnp.array([[32, 32]])
    >>> deltas = jnp.zeros((1, 1, 4))
    >>> found = propose(jnp.zeros((1, 1)), deltas, anchors, (1,), size, how=Proposing(1, 1))
    >>> jax.grad(lambda deltas: differentiable(found, deltas, anchors, size)[0, 0, 2])(deltas).tolist()
    [[[8.0, 0.0, 4.0, 0.0]]]

    Args:
      proposals: of ``propose``, with the same arguments.
      deltas: box codes of every anchor.
      anchors: level by level.
      size: rows and columns of each canvas that are image.
      coding: of boxes.
    """

    def one(valid: Array, place: Array, deltas: Array, size: Array) -> Array:
        boxes = codings.decode(deltas[place], anchors[place], coding=coding)
        return jnp.where(valid[:, None], box_ops.clip(boxes, size[0], size[1]), 0)

    assert proposals.anchors is not None
    return map_images(one)(proposals.valid, proposals.anchors, deltas, size)


def torchvision_rpn_names(source: str, path: str) -> Rules:
    r"""Return rules from torchvision's ``RPNHead``, also of files from before its version 0.13.

    >>> torchvision_rpn_names(r"rpn\.head", "rpn")[0]
    ('rpn\\.head\\.conv\\.(\\d+)\\.0\\.weight', 'rpn/conv\\1/kernel')
    """
    leaves = (("weight", "kernel"), ("bias", "bias"))
    rules: list[tuple[str, str | None]] = []
    rules += [(rf"{source}\.conv\.(\d+)\.0\.{theirs}", rf"{path}/conv\1/{ours}") for theirs, ours in leaves]
    rules += [(rf"{source}\.conv\.{theirs}", f"{path}/conv0/{ours}") for theirs, ours in leaves]
    rules += [(rf"{source}\.cls_logits\.{theirs}", f"{path}/objectness/{ours}") for theirs, ours in leaves]
    rules += [(rf"{source}\.bbox_pred\.{theirs}", f"{path}/deltas/{ours}") for theirs, ours in leaves]
    return tuple(rules)


def caffe_rpn_names(path: str) -> Rules:
    r"""Return rules from the layers of py-faster-rcnn.

    >>> caffe_rpn_names("rpn")[0]
    ('rpn_conv/3x3\\.weight', 'rpn/conv0/kernel')
    """
    parts = (("rpn_conv/3x3", "conv0"), ("rpn_cls_score", "objectness"), ("rpn_bbox_pred", "deltas"))
    leaves = (("weight", "kernel"), ("bias", "bias"))
    return tuple((rf"{part}\.{theirs}", f"{path}/{name}/{ours}") for part, name in parts for theirs, ours in leaves)


def detectron2_rpn_names(source: str, path: str) -> Rules:
    r"""Return rules from detectron2's ``StandardRPNHead``; anchors that its files hold are left out.

    >>> detectron2_rpn_names("proposal_generator", "rpn")[0]
    ('proposal_generator\\.rpn_head\\.conv\\.weight', 'rpn/conv0/kernel')
    """
    parts = (("conv", "conv0"), ("objectness_logits", "objectness"), ("anchor_deltas", "deltas"))
    rules: list[tuple[str, str | None]] = [
        (rf"{source}\.rpn_head\.{part}\.{theirs}", f"{path}/{name}/{ours}")
        for part, name in parts
        for theirs, ours in (("weight", "kernel"), ("bias", "bias"))
    ]
    return (*rules, (rf"{source}\.anchor_generator\..*", None))
