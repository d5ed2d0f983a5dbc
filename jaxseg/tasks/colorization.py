"""Colorization: give a grey image its colours."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.losses import smooth_l1
from jaxseg.metrics import ColorAuC
from jaxseg.ops.color import REACH, ab_bins, all_bins, nearest_bin, rebalancing, soft_bins
from jaxseg.ops.lab import rgb_to_lab
from jaxseg.tasks.maps import term_of
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.table import for_models

CELL = 4
"""Pixels per cell of the scores."""


@for_models("colorization")
@dataclass(frozen=True)
class Colorization:
    """Predict a and b of CIE Lab from the image's lightness, with any model that returns ``ab`` ``[b h w 2]``.

    A network that also returns ``ab_logits`` ``[b y x q]`` at a quarter of the resolution gets a cross-entropy there:
    with 313 bins against the colours as weights of their nearest bins, with 529 (the whole grid) against the nearest.
    The truth is the image itself, so that any data set of images in colour will do. An image without any colour teaches
    nothing and is left out of the loss.

    Attributes:
      prior: share of each of the 313 bins among the pixels that are learnt from (:func:`jaxseg.ops.color.prior_of`);
        () for no rebalancing, and no rebalanced figure.
      mix: share of the uniform distribution in rebalancing; 1 for none.
      neighbours: bins by which a colour is encoded: 5 in the paper, 10 in its program.
      sigma: of the Gaussian of their distances.
      class_weight: factor of the cross-entropy.
      color_weight: factor of the Huber loss on ``ab``: 0 in 2016, 10 in 2017.
      least: an image is in colour if a or b anywhere is larger than this.

    >>> task = Colorization()
    >>> batch = {"image": jnp.full((1, 4, 4, 3), 90, jnp.uint8)}
    >>> terms = task.loss({"ab": jnp.zeros((1, 4, 4, 2)), "ab_logits": jnp.zeros((1, 1, 1, 313))}, batch)
    >>> {name: float(term.count) for name, term in terms.items()}  # nothing to learn from grey
    {'classes': 0.0}
    """

    prior: tuple[float, ...] = ()
    mix: float = 0.5
    neighbours: int = 5
    sigma: float = 5.0
    class_weight: float = 1.0
    color_weight: float = 0.0
    least: float = 5.0

    def __post_init__(self):
        if self.prior and len(self.prior) != len(ab_bins()):
            raise BadInput(f"a prior of {len(self.prior)} bins: there are {len(ab_bins())} (jaxseg.ops.color.prior_of)")

    @classmethod
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "Colorization":
        """Return the task; neither model nor classes matter."""
        del model, classes
        return cls()

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """Return the image, of which the network sees the lightness, and a user's hints where the batch has them."""
        return {key: batch[key] for key in ("image", "hints", "hint_valid") if key in batch}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return ``classes`` and ``colors``, those whose factor is not 0."""
        ab = rgb_to_lab(batch["image"])[..., 1:]
        colored = (jnp.abs(ab) > self.least).any((1, 2, 3))
        terms = {}
        if "ab_logits" in outputs and self.class_weight:
            terms["classes"] = self._classes(outputs["ab_logits"], ab[:, ::CELL, ::CELL], colored, batch)
        if self.color_weight:
            values = smooth_l1(outputs["ab"] / REACH, ab / REACH, beta=1 / REACH).sum(-1)
            real = jnp.broadcast_to(colored[:, None, None], values.shape).astype(jnp.float32)
            terms["colors"] = term_of(values * real, real, batch, self.color_weight)
        return terms

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return ``ab``; with the image's own lightness it is the picture in colour."""
        return {"ab": outputs["ab"].astype(jnp.float32)}

    def metrics(self) -> dict[str, Metric]:
        """Return how near the colours are, plain and rebalanced, and the PSNR of the picture."""
        return {"colors": ColorAuC(self.prior)}

    def _classes(self, logits: Array, ab: Array, colored: Array, batch: Batch) -> Term:
        shares = jax.nn.log_softmax(logits[:, : ab.shape[1], : ab.shape[2]].astype(jnp.float32), axis=-1)
        bins = ab_bins()
        if logits.shape[-1] == len(bins):
            values = -(soft_bins(ab, bins, neighbours=self.neighbours, sigma=self.sigma) * shares).sum(-1)
        elif logits.shape[-1] == len(all_bins()):
            values = -jnp.take_along_axis(shares, nearest_bin(ab, all_bins())[..., None], axis=-1)[..., 0]
        else:
            raise BadInput(f"the network scores {logits.shape[-1]} colours; there are {len(bins)} or {len(all_bins())}")
        if self.prior and self.mix < 1:
            weights = rebalancing(np.asarray(self.prior), mix=self.mix)
            values = values * jnp.asarray(weights, jnp.float32)[nearest_bin(ab, bins)]
        counts = jnp.broadcast_to(colored[:, None, None], values.shape).astype(jnp.float32)
        return term_of(values * counts, counts, batch, self.class_weight)
