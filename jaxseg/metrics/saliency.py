"""Salient objects: the best F-measure over thresholds, mean absolute error, structure measure."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from jaxseg.ops.pad import inside
from jaxseg.types import Figure

LEVELS = 256
"""Probabilities are compared with the thresholds of an 8-bit map."""

BETA = 0.3
"""Beta squared: precision counts more than recall."""


@dataclass(frozen=True)
class SaliencyMeasures:
    """Compare maps of salient foreground with masks: results ``max_f``, ``mae`` and ``s_measure``.

    ``max_f``
      the largest ``(1 + b) P R / (b P + R)``, ``b = 0.3``, over 256 thresholds, of precision P and recall R averaged
      over the images that have a foreground.
    ``mae``
      the mean of ``|probability - truth|``, per image, then over images.
    ``s_measure``
      half the similarity of foreground and background as objects, half that of the four regions around the
      foreground's centre.

    >>> metric, truth = SaliencyMeasures(), jnp.asarray([[[True, False], [True, False]]])
    >>> seen = metric.observe({"saliency": truth.astype(jnp.float32)}, {"saliency": truth})
    >>> {name: round(value, 3) for name, value in metric.result(metric.fold(metric.init(), seen)).items()}
    {'max_f': 1.0, 'mae': 0.0, 's_measure': 1.0}

    Reference: Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596 (F); Fan et al. 2017, arXiv:1708.00786 (S-measure).
    """

    def init(self) -> dict[str, Any]:
        """Return sums over no images."""
        zeros = {name: np.zeros(()) for name in ("images", "with_foreground", "mae", "s_measure")}
        return {**zeros, "precision": np.zeros(LEVELS), "recall": np.zeros(LEVELS)}

    def observe(self, predictions: Any, batch: Any) -> dict[str, Array]:
        """Return the measures of each row, and the counts of its pixels by level."""
        p, truth = predictions["saliency"].astype(jnp.float32), batch["saliency"]
        known = inside(batch["size"], *truth.shape[1:3]) if "size" in batch else jnp.ones(truth.shape, bool)
        level = jnp.clip(jnp.floor(p * (LEVELS - 1) + 0.5), 0, LEVELS - 1).astype(jnp.int32)
        return {
            "true": _histogram(level, truth & known),
            "false": _histogram(level, ~truth & known),
            "mae": _mean(jnp.abs(p - truth.astype(jnp.float32)), known),
            "s_measure": s_measure(p, truth, known),
            "real": batch.get("real", jnp.ones(truth.shape[0], bool)),
        }

    def fold(self, state: dict[str, Any], observation: Any) -> dict[str, Any]:
        """Add the real rows."""
        real = np.asarray(observation["real"], bool)
        rows = {key: np.asarray(value, np.float64)[real] for key, value in observation.items() if key != "real"}
        hit, miss = (np.cumsum(rows[key][:, ::-1], axis=1)[:, ::-1] for key in ("true", "false"))
        known = hit[:, 0] > 0
        recall = hit[known] / np.maximum(hit[known, :1], 1)
        precision = hit[known] / np.maximum(hit[known] + miss[known], 1)
        return {
            "images": state["images"] + real.sum(),
            "with_foreground": state["with_foreground"] + known.sum(),
            "mae": state["mae"] + rows["mae"].sum(),
            "s_measure": state["s_measure"] + rows["s_measure"].sum(),
            "precision": state["precision"] + precision.sum(0),
            "recall": state["recall"] + recall.sum(0),
        }

    def result(self, state: dict[str, Any]) -> dict[str, float]:
        """Return the figures; nothing of no images, no F where none has a foreground."""
        if not state["images"]:
            return {}
        of_all = {name: float(state[name] / state["images"]) for name in ("mae", "s_measure")}
        if not state["with_foreground"]:
            return of_all
        precision, recall = (state[name] / state["with_foreground"] for name in ("precision", "recall"))
        f = (1 + BETA) * precision * recall / np.maximum(BETA * precision + recall, 1e-300)
        return {"max_f": float(f.max()), **of_all}

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures."""
        return (
            Figure("max_f", "max F", "%", definition="Largest F (beta squared 0.3) of mean precision and mean recall."),
            Figure("mae", "mean absolute error", higher_is_better=False, definition="Mean of |probability - truth|."),
            Figure("s_measure", "S-measure", "%", definition="Similarity of structure, of objects and of regions."),
        )


def s_measure(
    p: Float[Array, "b h w"], truth: Bool[Array, "b h w"], known: Bool[Array, "b h w"] | None = None
) -> Float[Array, " b"]:
    """Return the structure measure of each image, objects and regions weighted alike.

    Args:
      p: from 0 to 1.
      truth: the foreground.
      known: False on pixels that do not count, right of and below the image.

    Reference:
      Fan et al. 2017, arXiv:1708.00786, eq. 1 to 15.

    >>> s_measure(jnp.full((1, 4, 4), 0.25), jnp.zeros((1, 4, 4), bool)).tolist()
    [0.75]
    """
    known = jnp.ones(truth.shape, bool) if known is None else known
    share = _mean(truth.astype(jnp.float32), known)
    both = 0.5 * _objects(p, truth, known, share) + 0.5 * _regions(p, truth, known)
    level = _mean(p, known)
    return jnp.where(share == 0, 1 - level, jnp.where(share == 1, level, jnp.maximum(both, 0.0)))


def _objects(p: Array, truth: Array, known: Array, share: Array) -> Array:
    front = _object(p, truth & known)
    back = _object(1 - p, ~truth & known)
    return share * front + (1 - share) * back


def _object(p: Array, mask: Array) -> Array:
    """Return ``2 x / (x^2 + 1 + s)`` of mean and sample deviation within the mask."""
    mean = _mean(p, mask)
    deviation = jnp.sqrt(_squares(p, p, mask) / jnp.maximum(_count(mask) - 1, 1.0))
    return 2 * mean / (mean * mean + 1 + deviation + EPS)


EPS = float(np.finfo(np.float32).eps)


def _regions(p: Array, truth: Array, known: Array) -> Array:
    """Return the similarity of the quadrants around the centre of the foreground, weighted by their areas."""
    rows = jnp.arange(truth.shape[1], dtype=jnp.float32)[None, :, None]
    columns = jnp.arange(truth.shape[2], dtype=jnp.float32)[None, None, :]
    there = truth & known
    y, x = (jnp.round(_mean(jnp.broadcast_to(index, p.shape), there)) + 1 for index in (rows, columns))
    above, left = rows < y[:, None, None], columns < x[:, None, None]
    total = 0.0
    for quadrant in (above & left, above & ~left, ~above & left, ~above & ~left):
        mask = quadrant & known
        total += _count(mask) / jnp.maximum(_count(known), 1.0) * _similarity(p, truth, mask)
    return jnp.asarray(total)


def _similarity(p: Array, truth: Array, mask: Array) -> Array:
    """Return luminance, contrast and structure compared within the mask (SSIM without constants)."""
    t = truth.astype(jnp.float32)
    x, y, n = _mean(p, mask), _mean(t, mask), jnp.maximum(_count(mask) - 1, 1.0)
    xx, yy, xy = (_squares(a, b, mask) / n for a, b in ((p, p), (t, t), (p, t)))
    alpha, beta = 4 * x * y * xy, (x * x + y * y) * (xx + yy)
    return jnp.where(alpha != 0, alpha / (beta + EPS), jnp.where(beta == 0, 1.0, 0.0))


def _count(mask: Array) -> Array:
    return mask.sum((1, 2)).astype(jnp.float32)


def _mean(values: Array, mask: Array) -> Array:
    return jnp.where(mask, values, 0.0).sum((1, 2)) / jnp.maximum(_count(mask), 1.0)


def _squares(a: Array, b: Array, mask: Array) -> Array:
    """Return the sum of products of the deviations from the means within the mask."""
    da, db = a - _mean(a, mask)[:, None, None], b - _mean(b, mask)[:, None, None]
    return jnp.where(mask, da * db, 0.0).sum((1, 2))


def _histogram(level: Array, mask: Array) -> Array:
    """Return i32[b levels]: how many pixels of the mask have each level."""
    b = level.shape[0]
    row = jnp.arange(b, dtype=jnp.int32)[:, None, None]
    cell = jnp.where(mask, row * LEVELS + level, b * LEVELS)
    return jnp.bincount(cell.reshape(-1), length=b * LEVELS + 1)[:-1].astype(jnp.int32).reshape(b, LEVELS)
