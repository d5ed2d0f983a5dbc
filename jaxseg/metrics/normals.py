"""Angles between predicted and true surface normals."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.ops.crop import centre_crop
from jaxseg.types import Figure

WITHIN = (11.25, 22.5, 30.0)
"""Degrees within which a normal counts as good, in the figures of the papers."""

_BINS = 18_000


@dataclass(frozen=True)
class NormalErrors:
    """Measure the angle between each predicted normal and the true one, over all pixels of the split that have one.

    ``mean_angle`` and ``median_angle`` in degrees; ``within_11``, ``within_22`` and ``within_30``, the shares of pixels
    off by less than 11.25, 22.5 and 30 degrees. Angles are counted in bins of a hundredth of a degree, so that the
    figures do not depend on how the split is cut into batches.

    >>> metric = NormalErrors()
    >>> truth = {"normal": jnp.asarray([[[[0.0, 0.0, -1.0], [0.0, 0.0, -1.0]]]])}
    >>> seen = metric.observe({"normal": jnp.asarray([[[[0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]]])}, truth)
    >>> round(metric.result(metric.fold(metric.init(), seen))["mean_angle"], 1)
    45.0

    Reference: Eigen and Fergus 2015, arXiv:1411.4734, table 2.
    """

    def init(self) -> np.ndarray:
        """Return no pixels, i64[bins]."""
        return np.zeros(_BINS, np.int64)

    def observe(self, predictions: Any, batch: Any) -> Array:
        """Count the known pixels of the real rows by their angle, i32[bins]."""
        normal = predictions["normal"].astype(jnp.float32)
        size = normal.shape[1:3]
        truth = centre_crop(batch["normal"], *size)
        known = jnp.any(truth != 0, axis=-1)
        if "normal_valid" in batch:
            known &= centre_crop(batch["normal_valid"], *size)
        if "real" in batch:
            known &= batch["real"][:, None, None]
        at = jnp.clip((angle(normal, truth) * (_BINS / 180)).astype(jnp.int32), 0, _BINS - 1)
        return jnp.bincount(jnp.where(known, at, _BINS).reshape(-1), length=_BINS + 1)[:-1].astype(jnp.int32)

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """Return the sum of both."""
        return state + np.asarray(observation).astype(np.int64)

    def result(self, state: np.ndarray) -> dict[str, float]:
        """Return the figures; nothing where no normal is known."""
        count = state.sum()
        if not count:
            return {}
        degrees, below = (np.arange(_BINS) + 0.5) * (180 / _BINS), np.cumsum(state)
        median = degrees[np.searchsorted(below, (count + 1) // 2)]
        shares = {f"within_{int(limit)}": below[round(limit * _BINS / 180) - 1] / count for limit in WITHIN}
        mean = (state * degrees).sum() / count
        return {name: float(value) for name, value in {"mean_angle": mean, "median_angle": median, **shares}.items()}

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures."""
        over = "over all pixels whose true normal is known"
        shares = [
            Figure(f"within_{int(limit)}", f"within {limit:g} degrees", "%", definition=f"Share of pixels, {over}.")
            for limit in WITHIN
        ]
        angles = [
            Figure(
                f"{kind}_angle",
                f"{kind} error",
                "degrees",
                higher_is_better=False,
                definition=f"{kind.capitalize()} angle between predicted and true normal, {over}.",
            )
            for kind in ("mean", "median")
        ]
        return (*angles, *shares)


def angle(a: Array, b: Array) -> Array:
    """Return the angles between vectors ``[... 3]`` of any length, in degrees, exact for small ones too.

    >>> angle(jnp.asarray([1.0, 0.0, 0.0]), jnp.asarray([0.0, 1.0, 0.0])).item()
    90.0
    """
    across = jnp.linalg.norm(jnp.cross(a, b), axis=-1)
    return jnp.rad2deg(jnp.arctan2(across, jnp.sum(a * b, axis=-1)))
