"""Errors of depth maps as the papers on monocular depth report them."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.ops.crop import centre_crop
from jaxseg.types import Figure

REGIONS = {"eigen": (45, 471, 41, 601), "toolbox": (44, 471, 40, 601)}
"""First and last row and column, half-open, of the parts of NYU's 480x640 images that count: "eigen" is the crop of
most evaluators, "toolbox" the valid projection of the data set's own toolbox."""

_SUMS = ("count", "abs_rel", "sq_rel", "square", "log_square", "log", "log10", "delta1", "delta2", "delta3")


@dataclass(frozen=True)
class DepthErrors:
    """Compare depth in metres with the truth, where the truth is known.

    With d predicted and t true, averaged over pixels:

    ``abs_rel`` is ``abs(d - t) / t``, ``sq_rel`` is ``(d - t)^2 / t``; ``rmse`` and ``rmse_log`` are the roots of the
    mean squares of d - t and ln d - ln t; ``si_log`` is the root of the mean, over images, of the variance of
    ln d - ln t within each, which a common factor does not change; ``log10`` is ``abs(log10 d - log10 t)``; ``delta1``,
    ``delta2`` and ``delta3`` are the share of pixels with max(d / t, t / d) below 1.25, 1.25^2, 1.25^3.

    Attributes:
      region: the part of the image that counts: None for all of it, "eigen" or "toolbox" for those of NYU's 480x640
        images (:data:`REGIONS`). Published figures are of one or the other.
      nearest: metres; truth below does not count, predictions below count as this.
      farthest: metres; truth beyond does not count, predictions beyond count as this.
      average: "pixels" averages over all pixels of the split, as Eigen's evaluation; "images" within each image first,
        as KITTI's.
      align: "none" compares metres; "median" first multiplies each image's prediction by the ratio of the medians,
        for networks that know depth up to a scale.

    >>> metric = DepthErrors()
    >>> seen = metric.observe({"depth": jnp.full((1, 1, 2), 2.2)}, {"depth": jnp.asarray([[[2.0, 0.0]]])})
    >>> round(metric.result(metric.fold(metric.init(), seen))["abs_rel"], 3)
    0.1

    Reference: Eigen et al. 2014, arXiv:1406.2283, section 4.2.
    """

    region: Literal["eigen", "toolbox"] | None = None
    nearest: float = 1e-3
    farthest: float = float("inf")
    average: Literal["pixels", "images"] = "pixels"
    align: Literal["none", "median"] = "none"

    def __post_init__(self):
        for field, value, known in (
            ("region", self.region, (None, *REGIONS)),
            ("average", self.average, ("pixels", "images")),
            ("align", self.align, ("none", "median")),
        ):
            if value not in known:
                raise BadInput(f"{field} is one of {', '.join(map(repr, known))}, not {value!r}")
        if not 0 < self.nearest < self.farthest:
            raise BadInput(f"depths that count lie between 0 < nearest < farthest, not {self.nearest}, {self.farthest}")

    def init(self) -> np.ndarray:
        """Return no images: the sums over images of what :meth:`observe` gives for each, f64[sums]."""
        return np.zeros(2 * len(_SUMS) + 2)

    def observe(self, predictions: Any, batch: Any) -> Array:
        """Return the sums over the pixels of each image, f32[b sums]; 0 for rows that are not real."""
        depth = predictions["depth"].astype(jnp.float32)
        size = depth.shape[1:3]
        truth = centre_crop(batch["depth"], *size)
        known = (truth >= self.nearest) & (truth <= self.farthest) & jnp.isfinite(truth)
        if "depth_valid" in batch:
            known &= centre_crop(batch["depth_valid"], *size)
        if "real" in batch:
            known &= batch["real"][:, None, None]
        known &= self._inside(*size)
        if self.align == "median":
            depth = depth * (_median(truth, known) / _median(depth, known))[:, None, None]
        return _sums(jnp.clip(depth, self.nearest, self.farthest), jnp.where(known, truth, 1.0), known)

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """Add image after image: the sums, the means of the image, its variance of logs, and one image."""
        for row in np.asarray(observation, np.float64):
            if row[0]:
                mean = row / row[0]
                variance = max(mean[_SUMS.index("log_square")] - mean[_SUMS.index("log")] ** 2, 0.0)
                own = mean.copy()
                own[3:5] = np.sqrt(own[3:5])
                state = state + np.concatenate([row, own, [variance, 1.0]])
        return state

    def result(self, state: np.ndarray) -> dict[str, float]:
        """Return the figures; nothing where no pixel is known."""
        images = state[-1]
        if not images:
            return {}
        pooled, apart = state[: len(_SUMS)] / state[0], state[len(_SUMS) : -2] / images
        if self.average == "pixels":
            apart = pooled.copy()
            apart[3:5] = np.sqrt(apart[3:5])
        found = dict(zip(_SUMS, map(float, apart), strict=True))
        return {
            "abs_rel": found["abs_rel"],
            "sq_rel": found["sq_rel"],
            "rmse": found["square"],
            "rmse_log": found["log_square"],
            "si_log": float(np.sqrt(state[-2] / images)),
            "log10": found["log10"],
            "delta1": found["delta1"],
            "delta2": found["delta2"],
            "delta3": found["delta3"],
        }

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures, with the region that they are of."""
        of = {None: "all of the image", "eigen": "NYU's Eigen crop", "toolbox": "NYU's toolbox mask"}[self.region]
        pooled = {"pixels": "averaged over all pixels", "images": "averaged within each image, then over images"}
        text = f"{{}}, over {of} where depth is known, {pooled[self.average]}"
        text += {"none": ".", "median": ", each prediction scaled to the median of the truth."}[self.align]

        def share(power: int) -> Figure:
            title = f"delta < 1.25{'' if power == 1 else f'^{power}'}"
            said = text.format(f"Share of pixels with max(d / t, t / d) below 1.25^{power}")
            return Figure(f"delta{power}", title, "%", definition=said)

        def error(name: str, title: str, unit: str, what: str) -> Figure:
            return Figure(name, title, unit, higher_is_better=False, definition=text.format(what))

        return (
            share(1),
            error("abs_rel", "absolute relative error", "", "|d - t| / t"),
            error("sq_rel", "squared relative error", "m", "(d - t)^2 / t"),
            error("rmse", "RMSE", "m", "Root of the mean of (d - t)^2"),
            error("rmse_log", "RMSE of ln depth", "", "Root of the mean of (ln d - ln t)^2"),
            error("si_log", "scale-invariant RMSE of ln depth", "", "Root of the mean variance of ln d - ln t"),
            error("log10", "error of log10 depth", "", "|log10 d - log10 t|"),
            share(2),
            share(3),
        )

    def _inside(self, height: int, width: int) -> Array:
        if self.region is None:
            return jnp.ones((1, height, width), bool)
        if (height, width) != (480, 640):
            raise BadInput(
                f"region {self.region!r} is a part of images of 480x640, but these are {height}x{width}: "
                "evaluate at that size, or with region=None"
            )
        top, bottom, left, right = REGIONS[self.region]
        return jnp.zeros((1, height, width), bool).at[:, top:bottom, left:right].set(True)


def _sums(depth: Array, truth: Array, known: Array) -> Array:
    """Return the sums of each image in the order of their names, f32[b sums]; truth is positive everywhere."""
    error = depth - truth
    log = jnp.log(depth) - jnp.log(truth)
    ratio = jnp.maximum(depth / truth, truth / depth)
    values = (
        jnp.ones_like(depth),
        jnp.abs(error) / truth,
        error**2 / truth,
        error**2,
        log**2,
        log,
        jnp.abs(log) / np.log(10).astype(np.float32),
        *((ratio < 1.25**power).astype(jnp.float32) for power in (1, 2, 3)),
    )
    return jnp.stack([jnp.sum(jnp.where(known, value, 0.0), axis=(1, 2)) for value in values], axis=-1)


def _median(depth: Array, known: Array) -> Array:
    """Return the lower median of each image's known pixels, f32[b]; 1 without any."""
    count = jnp.sum(known, axis=(1, 2))
    ordered = jnp.sort(jnp.where(known, depth, jnp.inf).reshape(len(depth), -1), axis=-1)
    middle = jnp.take_along_axis(ordered, (jnp.maximum(count - 1, 0) // 2)[:, None], axis=-1)[:, 0]
    return jnp.where(count > 0, middle, 1.0)
