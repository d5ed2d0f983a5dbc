"""Combine any backbone with any decoder, as segmentation-models-pytorch does.

A backbone is a module ``image -> {"c1" .. "c5"}``, a decoder a module ``{"c1" .. "c5"} -> map``. Decoders live in the
files of their papers and infer channels from the maps, so every pair fits:
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
    """Apply backbone, decoder and a convolution as classifier, and resize bilinearly, corners aligned, to the image.

    >>> from jaxseg.backbones.vgg import VGG
    >>> from jaxseg.models.semantic.fpn import FPNDecoder
    >>> model, image = EncoderDecoder(backbone=VGG(), decoder=FPNDecoder(), num_classes=3), jnp.ones((1, 64, 64, 3))
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0]["logits"], jax.random.key(0)).shape
    (1, 64, 64, 3)

    Attributes:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      decoder: ``decoder(maps, train=...) -> map``.
      num_classes: channels of the logits.
      kernel_size: of the classifier.
      multiple: the image is padded to multiples of this, and the logits are cropped.
      least: smallest padded side.
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
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        h, w = image.shape[1:3]
        padded = pad_to_multiple(image, self.multiple, least=self.least)
        x = self.decoder(self.backbone(padded, train=train), train=train)
        k = self.kernel_size
        x = Conv(self.num_classes, k, padding=k // 2, dtype=self.dtype, name="classifier")(x)
        x = resize_bilinear(x, (padded.shape[1], padded.shape[2]), align_corners=True)
        return {"logits": x[:, :h, :w].astype(jnp.float32)}


def smp_names(encoder: Rules, decoder: Rules) -> Rules:
    r"""Return rename rules from a network of segmentation-models-pytorch to :class:`EncoderDecoder`.

    >>> smp_names((("conv1", "stem"),), ())[1]
    ('encoder\\.conv1', 'backbone/stem')

    Args:
      encoder: rules from the encoder's own state dict to the backbone's paths.
      decoder: rules from names that start with ``decoder`` to paths that do.
    """
    return (
        (r".*\.num_batches_tracked", None),
        *((rf"encoder\.{name}", path and f"backbone/{path}") for name, path in encoder),
        *decoder,
        (r"segmentation_head\.0\.weight", "classifier/kernel"),
        (r"segmentation_head\.0\.bias", "classifier/bias"),
    )
