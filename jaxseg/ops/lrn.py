"""Local response normalisation, the only one without parameters or statistics."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxseg.errors import BadInput


def local_response_norm(
    x: Float[Array, "b h w c"], *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Float[Array, "b h w c"]:
    """Each value divided by ``(k + alpha / size * s)**beta``; ``s`` sums the squares of ``size`` channels around it.

    Krizhevsky et al. 2012, section 3.3, with Caffe's convention that ``alpha`` belongs to the window, not to a channel.

    Raises:
      BadInput: an even size, which has no middle channel.
    """
    if size % 2 == 0:
        raise BadInput(f"a window of {size} channels has no middle; take {size - 1} or {size + 1}")
    square = jnp.square(x.astype(jnp.float32))
    padded = jnp.pad(square, ((0, 0), (0, 0), (0, 0), (size // 2, size // 2)))
    total = sum((padded[..., i : i + x.shape[-1]] for i in range(1, size)), start=padded[..., : x.shape[-1]])
    return (x.astype(jnp.float32) * (k + alpha / size * total) ** -beta).astype(x.dtype)
