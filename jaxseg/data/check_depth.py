"""What a check of a data set finds of its depth: what is missing, how far it goes, whether the unit can be right."""

from dataclasses import dataclass

from jaxseg.data.depth_counts import USUAL, DepthCounts
from jaxseg.data.records import Record
from jaxseg.errors import several

SHOWN = 5
"""Names given in a warning; the report has all of them."""

APART = 20.0
"""An image whose median depth is so many times that of all, or so small a part of it, has another unit."""


@dataclass(frozen=True)
class DepthRow:
    """Depth of a data set in metres, over the pixels where it is known.

    Attributes:
      nearest: a hundredth of the pixels are nearer.
      median: half of the pixels are nearer.
      farthest: a hundredth of the pixels are farther.
      missing: share of all pixels whose depth is not known.
      images: number of images with depth.

    >>> DepthRow(0.8, 1.9, 3.2, 0.11, 200).median
    1.9
    """

    nearest: float
    median: float
    farthest: float
    missing: float
    images: int


class DepthTally:
    """Counts the depth of examples as they are seen.

    >>> tally = DepthTally()
    >>> tally.add("train/a", {"depth": np.full((2, 2), 2.0)})
    True
    >>> tally.row.median, tally.warnings(False)
    (2.0, [])
    """

    def __init__(self) -> None:
        self._counts = DepthCounts.none()
        self._medians: dict[str, float] = {}
        self._seen = 0
        self.unknown: list[str] = []

    def add(self, where: str, record: Record) -> bool:
        """Count the depth of an example, if it has any; return True if some of it is known.

        Args:
          where: names the example.
          record: as it was read.
        """
        if "depth" not in record:
            return False
        own = DepthCounts.of(record)
        self._counts += own
        self._seen += 1
        if own.any:
            self._medians[where] = own.quantile(0.5)
        else:
            self.unknown.append(where)
        return own.any

    @property
    def row(self) -> DepthRow | None:
        """What was counted; None where no example has known depth."""
        if not self._counts.any:
            return None
        nearest, median, farthest = (self._counts.quantile(share) for share in (0.01, 0.5, 0.99))
        return DepthRow(nearest, median, farthest, round(self._counts.missing, 6), self._seen)

    def warnings(self, with_unit: bool) -> list[str]:
        """Return what is strange about the depth, a line each.

        Args:
          with_unit: whether the data set has the option ``unit``.
        """
        found = []
        if self.unknown:
            found.append(f"no pixel of known depth in {len(self.unknown)} images: {several(self.unknown, SHOWN)}")
        row = self.row
        if row is None:
            return found
        if not USUAL[0] <= row.median <= USUAL[1]:
            fix = "; if that is not so, say the unit of the files: --option unit=cm (m, cm, mm, kitti, the metres of 1)"
            side = "nearer than" if row.median < USUAL[0] else "farther than"
            found.append(f"half of the depths are {side} {row.median:.3g} m{fix * with_unit}")
        apart = [name for name, median in self._medians.items() if not 1 / APART < median / row.median < APART]
        if apart:
            found.append(f"depth of another unit than in most images: {several(apart, SHOWN)}")
        code = self._counts.code
        if code is not None:
            found.append(
                f"{100 * code[1]:.2g} % of the known pixels have the greatest depth, {code[0]:.3g} m: if that stands "
                "for unknown, write 0 there"
            )
        return found
