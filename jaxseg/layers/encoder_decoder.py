"""Combine any backbone with any decoder, as segmentation-models-pytorch does.

A backbone is a module ``image -> {"c1" .. "c5"}``, a decoder a module ``{"c1" .. "c5"} -> map``. Decoders live in the
files of their papers and infer channels from the maps, so every pair fits:
``EncoderDecoder(backbone=VGG(), decoder=FPNDecoder())``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.errors import BadInput, suggest
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.ops.pad import pad_to_multiple
from jaxseg.ops.resize import resize_bilinear
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


@dataclass(frozen=True)
class ImageHead:
    """A classifier of the whole image on the last map of the encoder, segmentation-models-pytorch's ``aux_params``.

    >>> ImageHead.parse({"classes": 4, "pooling": "max"})
    ImageHead(classes=4, pooling='max', dropout=0.2)

    Attributes:
      classes: of the image.
      pooling: "avg" or "max", over all places.
      dropout: rate before the classifier.
    """

    classes: int
    pooling: str = "avg"
    dropout: float = 0.2

    @classmethod
    def parse(cls, value: Any) -> "ImageHead | None":
        """Return the head that ``aux_params`` describe: a mapping as in segmentation-models-pytorch; None for none.

        Raises:
          BadInput: there is no such parameter, or no such value of it.
        """
        if value is None or isinstance(value, cls):
            return value
        known = ("classes", "pooling", "dropout", "activation")
        if not isinstance(value, Mapping) or "classes" not in value:
            raise BadInput(f"aux_params is {value!r}, but must be like {{'classes': 4, 'pooling': 'avg'}}")
        for name in value:
            if name not in known:
                raise BadInput(f"aux_params has no {name!r}{suggest(str(name), known)}")
        head = cls(value["classes"], value.get("pooling", "avg"), value.get("dropout", 0.2) or 0.0)
        if type(head.classes) is not int or head.classes < 1 or head.pooling not in ("avg", "max"):
            raise BadInput(f"aux_params is {value!r}; there are classes of 1 and more, and pooling 'avg' and 'max'")
        return head

    def __call__(self, x: Map, *, train: bool, dtype: jnp.dtype | type) -> Float[Array, "b _"]:
        """Return the scores ``f32[b k]``; parameters are the calling module's ``image_classifier``."""
        pool = jnp.mean if self.pooling == "avg" else jnp.max
        x = Dropout(self.dropout, name="image_dropout")(pool(x, axis=(1, 2), keepdims=True), train=train)
        x = Conv(self.classes, 1, dtype=dtype, name="image_classifier")(x)
        return x[:, 0, 0].astype(jnp.float32)


AuxParams = ImageHead | Mapping[str, Any] | None
"""What ``aux_params`` may be: the head, a mapping as in segmentation-models-pytorch, or None for none."""


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
      depth: maps of the backbone that are used, ``c1`` to ``c5`` or fewer.
      image_head: classifies the image as a whole from the last of them; None for none.
      dtype: compute dtype.
    """

    backbone: nn.Module
    decoder: nn.Module
    num_classes: int = 21
    kernel_size: int = 3
    multiple: int = 32
    least: int = 1
    depth: int = 5
    image_head: ImageHead | None = None
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size; with an image head also ``"image_logits"``,
        ``f32[b k]``.
        """
        h, w = image.shape[1:3]
        padded = pad_to_multiple(image, self.multiple, least=self.least)
        maps = self.backbone(padded, train=train)
        maps = {name: x for name, x in maps.items() if int(name[1]) <= self.depth}
        x = self.decoder(maps, train=train)
        k = self.kernel_size
        x = Conv(self.num_classes, k, padding=k // 2, dtype=self.dtype, name="classifier")(x)
        x = resize_bilinear(x, (padded.shape[1], padded.shape[2]), align_corners=True)
        outputs = {"logits": x[:, :h, :w].astype(jnp.float32)}
        if self.image_head is not None:
            outputs["image_logits"] = self.image_head(maps[f"c{self.depth}"], train=train, dtype=self.dtype)
        return outputs


def last_level(maps: Mapping[str, Map]) -> int:
    """Return the number of the coarsest map.

    >>> last_level({name: jnp.ones((1, 1, 1, 1)) for name in ("c1", "c4_blocks", "c4")})
    4
    """
    return max(int(name[1]) for name in maps)


def steps_of(channels: Sequence[int], depth: int) -> tuple[int, ...]:
    """Return the channels of a decoder's steps, of which there are as many as maps of the encoder.

    >>> steps_of([64, 32, 16], 3)
    (64, 32, 16)

    Raises:
      BadInput: there is another number of them, or there are no such depths.
    """
    depth_of(depth, least=2)
    if len(channels) != depth:
        raise BadInput(f"decoder_channels is {tuple(channels)}; with encoder_depth={depth} there are {depth} of them")
    return tuple(channels)


def depth_of(depth: int, *, least: int) -> int:
    """Return a number of maps of the encoder, from ``least`` to 5.

    >>> depth_of(4, least=3)
    4

    Raises:
      BadInput: there are no such depths.
    """
    if not least <= depth <= 5:
        raise BadInput(f"encoder_depth is {depth}; there are {', '.join(map(str, range(least, 5)))} and 5")
    return depth


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
        (r"classification_head\.3\.weight", "image_classifier/kernel|dense"),
        (r"classification_head\.3\.bias", "image_classifier/bias"),
    )
