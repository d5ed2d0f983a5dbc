"""Class-balanced cross-entropy of a binary map that is true on few pixels: boundaries (Xie and Tu 2015, eq. 2)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxseg.errors import BadInput
from jaxseg.losses.cross_entropy import binary_cross_entropy


def balanced_cross_entropy(
    logits: Float[Array, "b h w"], target: Bool[Array, "b h w"], inside: Bool[Array, "b h w"] | None = None
) -> Float[Array, "b h w"]:
    """Return the cross-entropy per pixel, each class weighted by the share of the other in the image.

    A true pixel has the weight ``|Y-| / |Y|``, a false one ``|Y+| / |Y|``.

    Args:
      logits: scores before the sigmoid.
      target: truth.
      inside: False on pixels that do not count; None if all do.

    Returns:
      Values, in nats; 0 outside.

    >>> loss = balanced_cross_entropy(jnp.zeros((1, 1, 4)), jnp.asarray([[[True, False, False, False]]]))
    >>> [round(x, 3) for x in loss.ravel().tolist()]
    [0.52, 0.173, 0.173, 0.173]
    """
    counts = jnp.ones(target.shape, jnp.float32) if inside is None else inside.astype(jnp.float32)
    true = target.astype(jnp.float32) * counts
    total = jnp.maximum(counts.sum((1, 2), keepdims=True), 1.0)
    share = true.sum((1, 2), keepdims=True) / total
    weight = jnp.where(target, 1.0 - share, share) * counts
    return weight * binary_cross_entropy(logits, target.astype(jnp.float32))


@dataclass(frozen=True)
class BalancedCrossEntropy:
    """Class-balanced cross-entropy.

    >>> values, counts = BalancedCrossEntropy()(jnp.zeros((1, 1, 2)), jnp.asarray([[[True, False]]]))
    >>> [round(x, 3) for x in values.ravel().tolist()], float(counts.sum())
    ([0.347, 0.347], 2.0)

    Attributes:
      normalize: divisor of the sum: the number of ``"pixels"``, or of ``"images"``, as in the authors' Caffe network,
        whose learning rates are as much smaller.
      weight: factor of this loss in the total.
    """

    normalize: Literal["pixels", "images"] = "pixels"
    weight: float = 1.0

    name: ClassVar[str] = "balanced_cross_entropy"

    def __post_init__(self):
        if self.normalize not in ("pixels", "images"):
            raise BadInput(f"normalize is 'pixels' or 'images', not {self.normalize!r}")

    def __call__(
        self, logits: Float[Array, "b h w"], target: Bool[Array, "b h w"], inside: Bool[Array, "b h w"] | None = None
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b _ _"]]:
        """Return values and counts; the loss is the ratio of their sums over the real rows."""
        values = balanced_cross_entropy(logits, target, inside)
        if self.normalize == "images":
            return values, jnp.ones((target.shape[0], 1, 1), jnp.float32)
        counts = jnp.ones(target.shape, jnp.float32) if inside is None else inside.astype(jnp.float32)
        return values, counts
