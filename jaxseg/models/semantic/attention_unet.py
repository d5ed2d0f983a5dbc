"""Attention U-Net: learning where to look for the pancreas (Oktay et al. 2018, arXiv:1804.03999), for images.

A U-Net whose skips pass additive attention gates: the coarser decoder map says where to look in the encoder's map
(section 2.2, Figure 2). The finest skip is not gated. Every level's scores take part in the last ones (deep
supervision). Layers, biases and the output transform of a gate follow the authors' code
(ozan-oktay/Attention-Gated-Networks, ``unet_CT_single_att_dsv_3D``), with two dimensions instead of three.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.conv_norm import ConvNorm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.pad import pad_to_multiple
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register

Map = Float[Array, "b _ _ _"]


class AttentionUNet(nn.Module):
    """The network: four poolings, gates on the three coarser skips.

    >>> net, image = AttentionUNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 21)

    Attributes:
      num_classes: channels of the logits.
      width: channels of the first level; they double with each pooling.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 21
    width: int = 16
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        h, w = image.shape[1:3]
        x = self.standardize(pad_to_multiple(image, 16), self.in_channels).astype(self.dtype)
        full = (x.shape[1], x.shape[2])
        skips = []
        for level in range(4):
            x = self._block(f"encoder{level}", x, self.width << level, train=train)
            skips.append(x)
            x = max_pool(x, 2)
        x = self._block("bottom", x, self.width << 4, train=train)
        gating = jax.nn.relu(self._pair("gating", x, self.width << 4, 1, train=train))
        scores = []
        for level in reversed(range(4)):
            channels = self.width << level
            skip = skips[level]
            if level > 0:
                skip = AttentionGate(dtype=self.dtype, name=f"gate{level}")(skip, gating, train=train)
            up = ConvTranspose(channels, 4, stride=2, padding=1, dtype=self.dtype, name=f"decoder{level}_up")(x)
            x = self._block(f"decoder{level}", jnp.concatenate([skip, up], axis=-1), channels, train=train)
            gating = x
            score = Conv(self.num_classes, 1, dtype=self.dtype, name=f"score{level}")(x)
            scores.insert(0, resize_bilinear(score, full))
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(jnp.concatenate(scores, axis=-1))
        return {"logits": x[:, :h, :w].astype(jnp.float32)}

    def _block(self, name: str, x: Map, channels: int, *, train: bool) -> Map:
        for i in (1, 2):
            x = jax.nn.relu(self._pair(f"{name}_conv{i}", x, channels, 3, train=train))
        return x

    def _pair(self, name: str, x: Map, channels: int, size: int, *, train: bool) -> Map:
        return ConvNorm(channels, size, dtype=self.dtype, name=name)(x, train=train)


class AttentionGate(nn.Module):
    """Equations 1 and 2: ``sigmoid(psi(relu(theta(x) + phi(g))))`` on the grid of ``g``, enlarged, times ``x``.

    >>> gate, x, g = AttentionGate(), jnp.ones((1, 8, 8, 4)), jnp.ones((1, 4, 4, 8))
    >>> jax.eval_shape(lambda key: gate.init_with_output(key, x, g, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 4)
    """

    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, g: Map, *, train: bool) -> Map:
        """Return the gated map, of the shape of ``x``.

        Args:
          x: the encoder's map.
          g: the gating signal, half as large.
          train: whether the normalisations use the batch.
        """
        c, size = x.shape[-1], (x.shape[1], x.shape[2])
        inner = Conv(c, 2, stride=2, use_bias=False, dtype=self.dtype, name="theta")(x)
        inner = jax.nn.relu(inner + Conv(c, 1, dtype=self.dtype, name="phi")(g))
        weight = jax.nn.sigmoid(Conv(1, 1, dtype=self.dtype, name="psi")(inner))
        x = x * resize_bilinear(weight, size)
        x = ConvNorm(c, 1, use_bias=True, dtype=self.dtype, name="transform")(x, train=train)
        return jax.nn.relu(ConvNorm(c, 1, use_bias=True, dtype=self.dtype, name="combine")(x, train=train))


@register(
    task="semantic",
    paper="arXiv:1804.03999",
    small={"width": 4},
    overfit=Overfit(),
)
def attention_unet(
    num_classes: int = 21,
    width: int = 16,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> AttentionUNet:
    """Attention U-Net: gates on the skips, scores from every level."""
    return AttentionUNet(
        num_classes=num_classes,
        width=width,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )
