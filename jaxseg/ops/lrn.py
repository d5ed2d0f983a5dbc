"""Local response normalisation."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxseg.errors import BadInput


def local_response_norm(
    x: Float[Array, "b h w c"], *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Float[Array, "b h w c"]:
    """Divide each value by ``(k + alpha / size * s)**beta``, ``s`` the sum of squares of ``size`` channels around it.

    ``alpha`` is divided by the window's size, as in Caffe.

    >>> round(float(local_response_norm(jnp.ones((1, 1, 1, 5)), alpha=5.0, beta=1.0)[0, 0, 0, 2]), 4)
    0.1667

    Args:
      x: maps.
      size: number of channels in the window; odd.
      alpha: factor of the mean square.
      beta: exponent.
      k: offset.

    Raises:
      BadInput: ``size`` is even.

    Reference:
      Krizhevsky et al. 2012, sec. 3.3.
    """
    if size % 2 == 0:
        raise BadInput(f"a window of {size} channels has no middle; take {size - 1} or {size + 1}")
    square = jnp.square(x.astype(jnp.float32))
    padded = jnp.pad(square, ((0, 0), (0, 0), (0, 0), (size // 2, size // 2)))
    total = sum((padded[..., i : i + x.shape[-1]] for i in range(1, size)), start=padded[..., : x.shape[-1]])
    return (x.astype(jnp.float32) * (k + alpha / size * total) ** -beta).astype(x.dtype)
