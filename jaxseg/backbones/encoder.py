"""What an encoder is: a backbone under another library's name, and the rules that bring its weights in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.errors import BadInput
from jaxseg.layers.standardize import Standardize, statistics
from jaxseg.types import Rules


@dataclass(frozen=True)
class EncoderSpec:
    """A backbone that segmentation-models-pytorch, or timm through it, has by name.

    >>> from jaxseg.backbones.encoders import ENCODERS
    >>> ENCODERS["resnet18"].build(output_stride=16).output_stride
    16

    Attributes:
      build: ``build(output_stride=32, in_channels=3, standardize=..., dtype=...)`` gives the backbone, a linen module
        ``image -> {"c1" .. "c5"}`` with the fields ``in_channels``, ``standardize`` and ``dtype``.
      rules: rename rules from the encoder's own state dict there to the backbone's paths.
      dilates: whether the encoder trades stride for dilation as the backbone does; if not, there is 32 alone.
      finest: stride of the first map: 2, or 4 where the image is cut into patches first.
      prune: ``prune(backbone, n)`` gives it without what follows its ``n``-th stage, for an encoder that ends where its
        decoder's last map is; None for one that is whole there too.
    """

    build: Callable[..., nn.Module]
    rules: Rules
    dilates: bool = True
    finest: int = 2
    prune: Callable[[Any, int], nn.Module] | None = None

    def backbone(
        self,
        *,
        depth: int = 5,
        output_stride: int = 32,
        in_channels: int = 3,
        standardize: Standardize | None = None,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> Any:
        """Build the backbone, with the statistics of its weights where none are given.

        >>> from jaxseg.backbones.encoders import ENCODERS
        >>> ENCODERS["vgg16"].backbone(in_channels=4).standardize.channels
        0
        >>> ENCODERS["tu-regnety_002"].backbone(depth=4).depths
        (1, 1, 4)

        Args:
          depth: maps that its decoder uses.
          output_stride: 32, 16 or 8.
          in_channels: of the image.
          standardize: statistics of the input.
          dtype: compute dtype.

        Raises:
          BadInput: the encoder does not have the output stride.
        """
        if output_stride not in (8, 16, 32):
            raise BadInput(f"output stride {output_stride} of an encoder; there are 8, 16 and 32")
        if output_stride < 32 and not self.dilates:
            raise BadInput(f"the encoder has no output stride of {output_stride}, only 32")
        built: Any = self.build(output_stride=output_stride, in_channels=in_channels, dtype=dtype)
        if self.prune is not None and 1 < depth < 5:
            built = self.prune(built, depth - 1)
        return built.clone(standardize=statistics(standardize, built.standardize, in_channels))


def fixed(build: Callable[..., nn.Module], rules: Rules, *, finest: int = 2, **options: Any) -> EncoderSpec:
    """Return an encoder of one output stride, which does not dilate, or not as the backbone here does.

    >>> from jaxseg.backbones import mit
    >>> fixed(mit.mit, mit.SMP_NAMES, finest=4, variant="b0").dilates
    False

    Args:
      build: the backbone's builder, without ``output_stride``.
      rules: as of :class:`EncoderSpec`.
      finest: likewise.
      options: of the builder.
    """
    return EncoderSpec(
        lambda output_stride=32, **more: build(**{**options, **more}), rules, dilates=False, finest=finest
    )


def in_timm(rules: Rules) -> Rules:
    r"""Return rules for an encoder of timm, whose names are ``model.NAME`` in segmentation-models-pytorch.

    >>> in_timm((("conv1", "stem"),))
    (('model\\.conv1', 'stem'),)
    """
    return tuple((rf"model\.{name}", path) for name, path in rules)
