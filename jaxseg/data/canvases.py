"""The order of examples where every batch is of one canvas (``Canvas`` of the transforms).

Examples are grouped by their canvas. Each group is an endless stream of its own, a fresh shuffle per epoch; a batch
takes the next examples of one group. In an epoch of the whole split every group makes the batches that its examples
have filled by then, in an order shuffled for that epoch; what is left over begins its first batch of the next. So all
examples are seen equally often, and a batch follows from its number alone. Batches are those of all processes together,
which therefore have the same canvas at every step.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Numbers = Sequence[int] | np.ndarray


@dataclass(frozen=True, eq=False)
class CanvasOrder:
    """Endless order of examples for training.

    Attributes:
      groups: i64[examples], the number of each one's canvas.
      rows: of a batch, of all processes together.
      seed: of the shuffles.

    >>> order = CanvasOrder(np.asarray([0, 1, 0, 1, 0, 1]), rows=3, seed=0)
    >>> sorted(sorted(order[position] for position in range(start, start + 3)) for start in (0, 3))
    [[0, 2, 4], [1, 3, 5]]
    """

    groups: np.ndarray
    rows: int
    seed: int

    def __getitem__(self, position: int) -> int:
        """Return the example at that position of the stream."""
        batch, row = divmod(position, self.rows)
        group, number = self._turn(batch)
        epoch, place = divmod(number * self.rows + row, len(self._members[group]))
        return int(_shuffled(self, group, epoch)[place])

    def batches(self, epochs: int) -> int:
        """Return how many batches so many epochs make.

        >>> CanvasOrder(np.asarray([0, 0, 1]), rows=2, seed=0).batches(2)
        3
        """
        return sum(epochs * len(members) // self.rows for members in self._members)

    def _turn(self, batch: int) -> tuple[int, int]:
        """Return which group a batch is of, and which of the group's batches it is."""
        low, high = 0, 1
        while self.batches(high) <= batch:
            low, high = high, 2 * high
        while high - low > 1:  # batches(low) <= batch < batches(high)
            middle = (low + high) // 2
            low, high = (middle, high) if self.batches(middle) <= batch else (low, middle)
        turns = _turns(self, low)
        group, number = turns[batch - self.batches(low)]
        return int(group), int(number)

    @functools.cached_property
    def _members(self) -> tuple[np.ndarray, ...]:
        return tuple(np.flatnonzero(self.groups == group) for group in np.unique(self.groups))

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_members"}


def eval_order(groups: Numbers, examples: Numbers, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of one pass, group by group, and which rows are real.

    The last batch of each group is filled up with its first example.

    Args:
      groups: of each of the ``examples``, the number of its canvas.
      examples: their numbers.
      rows: of a batch, of all processes together.

    >>> order, real = eval_order((1, 0, 1), (10, 20, 30), 2)
    >>> order.tolist(), real.tolist()
    ([20, 20, 10, 30], [True, False, True, True])
    """
    numbers, kinds = np.asarray(examples, np.int64), np.asarray(groups)
    order, real = [], []
    for kind in np.unique(kinds):
        members = numbers[kinds == kind]
        missing = -len(members) % rows
        order += [members, np.repeat(members[:1], missing)]
        real += [np.ones(len(members), bool), np.zeros(missing, bool)]
    return np.concatenate(order), np.concatenate(real)


@functools.lru_cache(maxsize=16)
def _shuffled(order: CanvasOrder, group: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((order.seed, 1, group, epoch)).permutation(order._members[group])


@functools.lru_cache(maxsize=4)
def _turns(order: CanvasOrder, epoch: int) -> np.ndarray:
    """Return i64[batches 2], group and number in the group of the batches of an epoch."""
    turns = [
        (group, number)
        for group, members in enumerate(order._members)
        for number in range(epoch * len(members) // order.rows, (epoch + 1) * len(members) // order.rows)
    ]
    return np.random.default_rng((order.seed, 2, epoch)).permutation(np.asarray(turns, np.int64).reshape(-1, 2))
