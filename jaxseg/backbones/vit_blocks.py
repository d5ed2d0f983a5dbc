"""A vision transformer as decoders that reassemble its tokens read it: the maps behind several of its blocks.

Ranftl et al. 2021, arXiv:2103.13413, section 3.
"""

from dataclasses import fields
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped
from typing_extensions import override

from jaxseg.backbones.vit import ViT, dinov2
from jaxseg.layers.norm import LayerNorm
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.resize import resize_bilinear


class ViTBlocks(ViT):
    """The transformer of :class:`ViT` without a pyramid; ``features`` is not read.

    >>> import jax
    >>> net, image = ViTBlocks(depth=2, out_blocks=(0, 1)), jnp.zeros((1, 32, 48, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))
    >>> {key: value.shape for key, value in found.items()}
    {'block0': (1, 2, 3, 384), 'block1': (1, 2, 3, 384), 'class0': (1, 1, 1, 384), 'class1': (1, 1, 1, 384)}

    Attributes:
      out_blocks: the blocks whose tokens are returned, counted from 0.
      normalize: bring the tokens through the transformer's last normalisation (DINOv2); DPT leaves it out.
    """

    out_blocks: tuple[int, ...] = (2, 5, 8, 11)
    normalize: bool = True

    @nn.compact
    @override
    def __call__(
        self, image: Shaped[Array, "b h w c"], size: tuple[int, int] | None = None, *, train: bool
    ) -> dict[str, Float[Array, "b _ _ _"]]:
        """Return ``block{i}`` [b y x c], a cell for each patch, and ``class{i}`` [b 1 1 c] for every ``i`` of
        ``out_blocks``.

        Args:
          image: raw pixels.
          size: multiples of the patch's side to which the image is resized first; None where it has such a size.
          train: whether stochastic depth drops branches.
        """
        return self.blocks(self.standardized(image, size), train=train)

    def standardized(self, image: Shaped[Array, "b h w c"], size: tuple[int, int] | None) -> Float[Array, "b y x d"]:
        """Return the standardised image in the compute dtype, resized where a size is given."""
        x = self.standardize(image, self.in_channels)
        return (x if size is None else resize_bilinear(x, size)).astype(self.dtype)

    def blocks(
        self, x: Float[Array, "b y x d"], patch_size: int | None = None, *, train: bool
    ) -> dict[str, Float[Array, "b _ _ _"]]:
        """Return the maps and class tokens of ``out_blocks``; arguments as of :meth:`ViT.states`."""
        states, grid = self.states(x, patch_size, train=train)
        norm = LayerNorm(self.epsilon, dtype=self.dtype, name="norm") if self.normalize else None
        found = {}
        for i in self.out_blocks:
            x = states[i] if norm is None else norm(states[i], train=train)
            found[f"block{i}"] = x[:, 0, 1:].reshape(x.shape[0], *grid, self.width)
            found[f"class{i}"] = x[:, :, :1]
        return found


def dinov2_blocks(
    variant: str,
    out_blocks: tuple[int, ...],
    *,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ViTBlocks:
    """Return DINOv2 "small" or "base" with the tokens behind these blocks, positions interpolated as transformers does.

    >>> dinov2_blocks("base", (8, 9, 10, 11)).patch_size
    14

    Raises:
      BadInput: another variant.
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    return on_transformer(dinov2(variant, antialias=False, **options), out_blocks)


def on_transformer(net: ViT, out_blocks: tuple[int, ...], *, normalize: bool = True) -> ViTBlocks:
    """Return a transformer with the tokens behind these blocks instead of a pyramid.

    >>> on_transformer(ViT(heads=12), (3,)).heads
    12
    """
    options = {field.name: getattr(net, field.name) for field in fields(net) if field.name not in ("parent", "name")}
    return ViTBlocks(**options, out_blocks=out_blocks, normalize=normalize)
