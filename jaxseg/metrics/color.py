"""Colorization: how near colours are, plain and with rare colours counting as much as common ones; PSNR."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.ops.color import ab_bins, nearest_bin
from jaxseg.ops.lab import lab_to_rgb, rgb_to_lab
from jaxseg.ops.pad import inside
from jaxseg.types import Figure

FARTHEST = 150
"""Distances in ab from 0 to this, in whole steps."""


@dataclass(frozen=True)
class ColorAuC:
    """Compare predicted ``ab`` with the colours of the image: results ``auc``, ``auc_rebalanced`` and ``psnr``.

    ``auc``
      the share of pixels whose distance in the ab plane is at most t, averaged over t = 0, 1, ... 150.
    ``auc_rebalanced``
      the same of pixels weighted by the inverse of their colour's prior; nothing without a prior.
    ``psnr``
      of the picture in RGB, which has the image's own lightness: the mean over images, in decibels.

    Attributes:
      prior: share of each of the 313 bins; () for none.

    >>> image = jnp.full((1, 2, 2, 3), 90, jnp.uint8)
    >>> metric = ColorAuC()
    >>> seen = metric.observe({"ab": jnp.full((1, 2, 2, 2), 3.0)}, {"image": image})
    >>> round(metric.result(metric.fold(metric.init(), seen))["auc"], 4)  # 4.24 away: five of 151 thresholds miss
    0.9669

    Reference: Zhang et al. 2016, arXiv:1603.08511, section 3.1.
    """

    prior: tuple[float, ...] = ()

    def init(self) -> dict[str, Any]:
        """Return sums over no images."""
        return {"pixels": np.zeros(FARTHEST + 2), "weighted": np.zeros(FARTHEST + 2), "psnr": 0.0, "images": 0}

    def observe(self, predictions: Any, batch: Any) -> dict[str, Array]:
        """Return each row's pixels by the threshold from which on they are right, plain and weighted, and its PSNR."""
        image = batch["image"]
        lab = rgb_to_lab(image)
        known = inside(batch["size"], *image.shape[1:3]) if "size" in batch else jnp.ones(image.shape[:3], bool)
        distance = jnp.linalg.norm(predictions["ab"].astype(jnp.float32) - lab[..., 1:], axis=-1)
        level = jnp.clip(jnp.ceil(distance), 0, FARTHEST + 1).astype(jnp.int32)
        weight = known.astype(jnp.float32)
        found = {"pixels": _histogram(level, weight), "real": batch.get("real", jnp.ones(image.shape[0], bool))}
        if self.prior:
            inverse = jnp.asarray(1 / np.asarray(self.prior), jnp.float32)
            found["weighted"] = _histogram(level, weight * inverse[nearest_bin(lab[..., 1:], ab_bins())])
        painted = lab_to_rgb(jnp.concatenate([lab[..., :1], predictions["ab"].astype(jnp.float32)], -1))
        squares = jnp.square(jnp.round(painted) - image.astype(jnp.float32)).mean(-1)
        error = (squares * weight).sum((1, 2)) / jnp.maximum(weight.sum((1, 2)), 1.0)
        return {**found, "psnr": 10 * jnp.log10(255.0**2 / jnp.maximum(error, 1e-3))}

    def fold(self, state: dict[str, Any], observation: Any) -> dict[str, Any]:
        """Add the real rows."""
        real = np.asarray(observation["real"], bool)
        sums = {
            key: state[key] + np.asarray(observation[key], np.float64)[real].sum(0)
            for key in ("pixels", "weighted", "psnr")
            if key in observation
        }
        return {**state, **sums, "images": state["images"] + int(real.sum())}

    def result(self, state: dict[str, Any]) -> dict[str, float]:
        """Return the figures; nothing of no images."""
        if not state["images"]:
            return {}
        found = {"auc": _area(state["pixels"])}
        if state["weighted"].any():
            found["auc_rebalanced"] = _area(state["weighted"])
        return {**found, "psnr": float(state["psnr"] / state["images"])}

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures."""
        text = f"Share of pixels within a distance in ab, averaged over distances from 0 to {FARTHEST}"
        return (
            Figure("auc", "colour AuC", "%", definition=f"{text}."),
            Figure("auc_rebalanced", "colour AuC, rebalanced", "%", definition=f"{text}; rare colours weigh more."),
            Figure("psnr", "PSNR", "dB", definition="Of the picture in RGB, mean over images."),
        )


def _area(counts: np.ndarray) -> float:
    """Return the mean over the thresholds of the share that is right."""
    return float((np.cumsum(counts)[:-1] / counts.sum()).mean())


def _histogram(level: Array, weight: Array) -> Array:
    """Return f32[b levels]: the weight of each row's pixels by level."""
    b, levels = level.shape[0], FARTHEST + 2
    row = jnp.arange(b, dtype=jnp.int32)[:, None, None]
    sums = jnp.zeros(b * levels, jnp.float32).at[(row * levels + level).reshape(-1)].add(weight.reshape(-1))
    return sums.reshape(b, levels)
