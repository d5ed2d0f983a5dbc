"""Cross-entropy over classes, with void, class weights and pixel weights; and its binary form."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from jaxseg.types import BadInput


def labelled(label: Int[Array, "*shape"], num_classes: int) -> Bool[Array, "*shape"]:
    """Which pixels belong to a class: everything outside ``0..num_classes-1`` is void."""
    return (label >= 0) & (label < num_classes)


def softmax_cross_entropy(logits: Float[Array, "*shape k"], label: Int[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``-log softmax(logits)[label]`` of every pixel, in nats; 0 where the pixel is void.

    Computed in float32 whatever the logits. The true class is picked by comparison, not by a gather, so that forward
    and gradient are each one fused pass.
    """
    logits = logits.astype(jnp.float32)
    z = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    one_hot = label[..., None] == jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    nll = jnp.log(jnp.sum(jnp.exp(z), axis=-1)) - jnp.sum(jnp.where(one_hot, z, 0.0), axis=-1)
    return jnp.where(labelled(label, logits.shape[-1]), nll, 0.0)


def class_weight(label: Int[Array, "*shape"], weights: tuple[float, ...]) -> Float[Array, "*shape"]:
    """The weight of each pixel's class; 0 where the pixel is void."""
    table = jnp.asarray(weights, jnp.float32)
    one_hot = label[..., None] == jax.lax.broadcasted_iota(jnp.int32, (*label.shape, len(weights)), label.ndim)
    return jnp.sum(jnp.where(one_hot, jnp.broadcast_to(table, one_hot.shape), 0.0), axis=-1)


def binary_cross_entropy(logits: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``-t log s(x) - (1 - t) log(1 - s(x))`` of logits x and targets t in 0..1, in nats; stable for any logit."""
    logits = logits.astype(jnp.float32)
    return jnp.maximum(logits, 0.0) - logits * target.astype(jnp.float32) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of every labelled pixel, times the weight of its class and the pixel's own weight.

    Attributes:
      weights: weight of each class; empty for 1. See :mod:`jaxseg.losses.class_weights`.
      normalize: what the weighted sum is divided by. ``"count"``: the number of labelled pixels, as Caffe does and
        SegNet was trained; ``"weights"``: the sum of the class weights of the labelled pixels, as torch does;
        ``"images"``: the number of images, the un-normalised loss of the public FCN models at batch 1.
      scale: factor of this loss in the total.
    """

    weights: tuple[float, ...] = ()
    normalize: Literal["count", "weights", "images"] = "count"
    scale: float = 1.0

    name: ClassVar[str] = "cross_entropy"

    def __post_init__(self):
        if self.normalize not in ("count", "weights", "images"):
            raise BadInput(f"normalize is 'count', 'weights' or 'images', not {self.normalize!r}")

    def __call__(
        self,
        logits: Float[Array, "b h w k"],
        label: Int[Array, "b h w"],
        weight: Float[Array, "b h w"] | None = None,
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b h w"] | Float[Array, " b"]]:
        """Values and what to divide their sum by: arrays whose sums over the real rows are the loss's sum and count."""
        values = softmax_cross_entropy(logits, label)
        count = labelled(label, logits.shape[-1]).astype(jnp.float32)
        if self.weights:
            if len(self.weights) != logits.shape[-1]:
                raise BadInput(f"{len(self.weights)} class weights for {logits.shape[-1]} classes: give one each")
            of_class = class_weight(label, self.weights)
            values = values * of_class
            count = of_class if self.normalize == "weights" else count
        if weight is not None:
            values = values * weight
        if self.normalize == "images":
            count = jnp.ones(label.shape[0], jnp.float32)
        return values, count
