"""Any backbone under any decoder, as segmentation-models-pytorch combines them.

A backbone is a module ``image -> {"c1" .. "c5"}``, a decoder a module ``{"c1" .. "c5"} -> map``. The decoders stand in
the files of their papers and read the channels from the maps, so that every pair fits:
``EncoderDecoder(backbone=VGG(), decoder=FPNDecoder())``.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxseg.layers.conv import Conv
from jaxseg.ops.pad import pad_to_multiple
from jaxseg.ops.resize import resize_bilinear
from jaxseg.types import Rules


class EncoderDecoder(nn.Module):
    """Backbone, decoder, one convolution as the classifier, and a bilinear resize with aligned corners to the image.

    Attributes:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      decoder: ``decoder(maps, train=...) -> map``.
      num_classes: channels of the logits.
      kernel_size: side of the classifier.
      multiple: sides of the image are padded inside to multiples of this, and the logits are cropped.
      least: and to no less than this.
      dtype: compute dtype.
    """

    backbone: nn.Module
    decoder: nn.Module
    num_classes: int = 21
    kernel_size: int = 3
    multiple: int = 32
    least: int = 1
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """``{"logits": f32[b h w k]}`` of raw RGB of any size."""
        h, w = image.shape[1:3]
        padded = pad_to_multiple(image, self.multiple, least=self.least)
        x = self.decoder(self.backbone(padded, train=train), train=train)
        k = self.kernel_size
        x = Conv(self.num_classes, k, padding=k // 2, dtype=self.dtype, name="classifier")(x)
        x = resize_bilinear(x, (padded.shape[1], padded.shape[2]), align_corners=True)
        return {"logits": x[:, :h, :w].astype(jnp.float32)}


def smp_names(encoder: Rules, decoder: Rules) -> Rules:
    """Rules from a network of segmentation-models-pytorch to :class:`EncoderDecoder`.

    Args:
      encoder: from the encoder's own state dict to the backbone's paths.
      decoder: from names that begin with ``decoder`` to paths that do.
    """
    return (
        (r".*\.num_batches_tracked", None),
        *((rf"encoder\.{name}", path and f"backbone/{path}") for name, path in encoder),
        *decoder,
        (r"segmentation_head\.0\.weight", "classifier/kernel"),
        (r"segmentation_head\.0\.bias", "classifier/bias"),
    )
