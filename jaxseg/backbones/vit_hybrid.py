"""R50+ViT: a vision transformer on the maps of a residual network (Dosovitskiy et al. 2021, arXiv:2010.11929, "Hybrid
Architecture"), as decoders that reassemble its tokens read it.

The residual network is ResNet-50 with group normalisation and standardised kernels (BiT, Kolesnikov et al. 2020,
arXiv:1912.11370), whose last stage is left out and its blocks added to the one before: 3, 4 and 9 of them, at strides
4, 8 and 16. Each cell of the last map is a patch.
"""

import flax.linen as nn
from jaxtyping import Array, Float, Shaped
from typing_extensions import override

from jaxseg.backbones.resnet import ResNet
from jaxseg.backbones.vit_blocks import ViTBlocks
from jaxseg.layers.standardize import UNIT_RANGE
from jaxseg.types import Rules


class HybridViTBlocks(ViTBlocks):
    """The transformer of :class:`jaxseg.backbones.vit_blocks.ViTBlocks` on a residual network.

    ``patch_size`` is the stride of the network's last map, 16.

    >>> import jax, jax.numpy as jnp
    >>> net, image = HybridViTBlocks(depth=1, out_blocks=(0,)), jnp.zeros((1, 32, 64, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))
    >>> {key: value.shape[1:] for key, value in found.items()}
    {'block0': (2, 4, 384), 'c2': (8, 16, 256), 'c3': (4, 8, 512), 'class0': (1, 1, 384)}

    Attributes:
      resnet_depths: blocks of the residual network's three stages.
      resnet_width: channels of its stem; 32 or a multiple, the groups of its normalisations.
    """

    resnet_depths: tuple[int, int, int] = (3, 4, 9)
    resnet_width: int = 64

    @nn.compact
    @override
    def __call__(
        self, image: Shaped[Array, "b h w c"], size: tuple[int, int] | None = None, *, train: bool
    ) -> dict[str, Float[Array, "b _ _ _"]]:
        """Return what the transformer returns, and ``c2`` and ``c3``, the network's maps at strides 4 and 8."""
        x = self.standardized(image, size)
        resnet = ResNet(
            depths=self.resnet_depths,
            width=self.resnet_width,
            norm="group",
            padding="SAME",
            weight_standardized=True,
            in_channels=x.shape[-1],
            standardize=UNIT_RANGE,  # it is standardised
            dtype=self.dtype,
            name="resnet",
        )
        maps = resnet(x, train=train)
        return {"c2": maps["c2"], "c3": maps["c3"], **self.blocks(maps["c4"], 1, train=train)}


BIT_NAMES: Rules = tuple(
    (rf"{source}\.{leaf}", f"{path}/{ours}")
    for source, path, leaves in (
        (r"embedder\.convolution", "conv1", ("kernel",)),
        (r"embedder\.norm", "norm1", ("scale", "bias")),
        *(
            (rf"encoder\.stages\.{i}\.layers\.(\d+)\.{theirs}", rf"layer{i + 1}_\1/{ours}", leaves)
            for i in range(3)
            for theirs, ours, leaves in (
                (r"downsample\.conv", "conv_shortcut", ("kernel",)),
                (r"downsample\.norm", "norm_shortcut", ("scale", "bias")),
                (r"conv(\d)", r"conv\2", ("kernel",)),
                (r"norm(\d)", r"norm\2", ("scale", "bias")),
            )
        ),
    )
    for leaf, ours in zip(("weight", "bias"), leaves, strict=False)
)
"""Rules from ``BitModel`` of transformers, with the layers called bottleneck, to the residual network's paths."""
