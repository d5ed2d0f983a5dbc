"""Count depths of many images without keeping them: what is missing, quantiles, and signs of a wrong unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

EDGES = np.geomspace(1e-3, 1e4, 7001)
"""Metres between which depths are counted: a thousand bins to a decade, so that quantiles are right to 0.3 %."""

USUAL = (0.3, 80.0)
"""Metres between which the median depth of photographs usually lies: a hand's reach, the end of a street."""


@dataclass(frozen=True, eq=False)
class DepthCounts:
    """Pixels by their depth.

    Attributes:
      pixels: number of pixels, those of unknown depth included.
      known: i64, pixels of known depth in each bin of :data:`EDGES`; what lies beyond counts in the outermost.

    >>> counts = DepthCounts.of({"depth": np.asarray([[2.0, 2.0, 0.0, 4.0]])})
    >>> counts.missing, round(counts.quantile(0.5), 2)
    (0.25, 2.0)
    """

    pixels: int
    known: np.ndarray

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "DepthCounts":
        """Count the ``depth`` of a record where it is known: positive and, if there is ``depth_valid``, true there.

        >>> DepthCounts.of({"depth": np.ones((2, 2)), "depth_valid": np.zeros((2, 2), bool)}).any
        False
        """
        depth = np.asarray(record["depth"])
        known = np.isfinite(depth) & (depth > 0)
        if "depth_valid" in record:
            known &= np.asarray(record["depth_valid"], bool)
        inside = np.clip(depth[known], EDGES[0], EDGES[-1] * (1 - 1e-9))
        return cls(depth.size, np.histogram(inside, EDGES)[0].astype(np.int64))

    @classmethod
    def none(cls) -> "DepthCounts":
        """Return the counts of no image.

        >>> DepthCounts.none().pixels
        0
        """
        return cls(0, np.zeros(len(EDGES) - 1, np.int64))

    def __add__(self, other: "DepthCounts") -> "DepthCounts":
        """Return the counts of both."""
        return DepthCounts(self.pixels + other.pixels, self.known + other.known)

    @property
    def any(self) -> bool:
        """True if a pixel has a known depth."""
        return bool(self.known.any())

    @property
    def missing(self) -> float:
        """Share of the pixels whose depth is not known."""
        return 1 - float(self.known.sum()) / max(self.pixels, 1)

    def quantile(self, share: float) -> float:
        """Return the depth in metres below which that share of the known pixels lies; NaN where none is known.

        Args:
          share: from 0 to 1.

        >>> DepthCounts.none().quantile(0.5)
        nan
        """
        total = int(self.known.sum())
        if not total:
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self.known), max(share * total, 1)))
        return float(f"{np.sqrt(EDGES[place] * EDGES[place + 1]):.3g}")

    @property
    def log_spread(self) -> float:
        """Standard deviation of the log of depth; 0 where none is known."""
        if not self.any:
            return 0.0
        logs = np.log(EDGES[1:] * EDGES[:-1]) / 2
        mean = np.average(logs, weights=self.known)
        return float(np.sqrt(np.average((logs - mean) ** 2, weights=self.known)))

    @property
    def code(self) -> tuple[float, float] | None:
        """Greatest depth and the share of the known pixels that have it, where it looks like a code for unknown.

        That is so where a thousandth of the pixels or more have it, and ten times as many as have any depth from half
        of it on: sensors write 65535 for unknown.

        >>> DepthCounts.of({"depth": np.asarray([2.0] * 99 + [65.535])}).code
        (65.5, 0.01)
        """
        if not self.any:
            return None
        top = int(np.flatnonzero(self.known)[-1])
        below = int(self.known[np.searchsorted(EDGES, EDGES[top] / 2) : top].sum())
        share = float(self.known[top] / self.known.sum())
        if share < 1e-3 or share > 0.5 or self.known[top] < 10 * below:
            return None
        return self.quantile(1.0), share
