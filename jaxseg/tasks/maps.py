"""What tasks of dense maps share: terms over the real rows, and the pixels that carry a loss."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.tasks.protocol import Batch, Term


def term_of(values: Array, counts: Array, batch: Batch, weight: float = 1.0) -> Term:
    """Return the term of a loss's values and counts, each with the batch as first axis, over the real rows.

    >>> term_of(jnp.ones((2, 4)), jnp.ones(2), {"real": jnp.asarray([True, False])}).sum.item()
    4.0
    """
    return Term(_sum(values, batch), _sum(counts, batch), weight)


@dataclass(frozen=True)
class Cells:
    """The pixels at the centres of a coarse map's cells, where alone a loss is taken.

    A network that enlarges its map with cells on whole pixels is so trained at the map's own resolution, as papers do
    it, while what it returns has the size of the image.

    Attributes:
      first: row and column of the first cell.
      step: pixels from cell to cell.
      margin: rows at the bottom and columns at the right that have no cell.

    >>> Cells(1, 2).of(jnp.arange(6.0).reshape(1, 1, 6).repeat(2, 1)).tolist()
    [[[1.0, 3.0, 5.0]]]
    """

    first: int
    step: int
    margin: int = 0

    def of(self, x: Array) -> Array:
        """Return the cells of maps [b h w ...].

        Raises:
          BadInput: the maps are too small to have any.
        """
        rows, columns = (slice(self.first, size - self.margin, self.step) for size in x.shape[1:3])
        if min(x.shape[1:3]) <= self.first + self.margin:
            raise BadInput(f"images of {x.shape[1]}x{x.shape[2]} have no cell of {self}")
        return x[:, rows, columns]


def _sum(values: Array, batch: Batch) -> Array:
    """Return the sum over pixels and real rows."""
    of_row = values.reshape(values.shape[0], -1).sum(-1)
    return jnp.sum(jnp.where(batch["real"], of_row, 0.0) if "real" in batch else of_row)
