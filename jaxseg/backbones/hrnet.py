"""HRNet: deep high-resolution representation learning for visual recognition (Wang et al. 2020, arXiv:1908.07919).

The network keeps a branch at 1/4 of the image from beginning to end and adds, stage by stage, branches at 1/8, 1/16 and
1/32. After every few blocks all branches exchange what they have: strided convolutions lead down, a 1x1 convolution and
an enlargement lead up, and the results are added (Figures 2 and 3).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.encoder import EncoderSpec, fixed, in_timm
from jaxseg.backbones.resnet import BasicBlock, Bottleneck
from jaxseg.errors import BadInput
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.resize import resize_bilinear, resize_nearest
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class HRNet(nn.Module):
    """The encoder.

    >>> net, image = HRNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))["c5"].shape
    (1, 2, 2, 144)

    Attributes:
      width: channels of the finest branch; they double with each coarser one.
      modules: exchanges in the stages of two, three and four branches.
      blocks: of a branch between two exchanges, and of the first stage.
      align_corners: how a map is enlarged in an exchange: bilinearly, corners aligned, as in the authors' networks for
        segmentation (True) or not (False); None repeats cells, as in their networks for poses and classification.
      increase: whether each branch ends with a bottleneck block, so that they have 128, 256, 512 and 1024 channels, as
        in timm's network of maps.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    width: int = 18
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    align_corners: bool | None = None
    increase: bool = False
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c1".."c5"}`` for raw pixels of any size: half of the stem at stride 2, the branches at 4, 8, 16
        and 32.
        """
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        maps = {}
        for i in (1, 2):
            x = jax.nn.relu(ConvNorm(64, stride=2, dtype=self.dtype, name=f"stem{i}")(x, train=train))
            maps.setdefault("c1", x)
        for i in range(self.blocks):
            x = Bottleneck(64, dtype=self.dtype, name=f"layer1_{i}")(x, train=train)
        branches = [x]
        for stage, modules in enumerate(self.modules, 2):
            branches = self._transition(stage, branches, train=train)
            for m in range(modules):
                exchange = Exchange(self.blocks, self.align_corners, dtype=self.dtype, name=f"stage{stage}_{m}")
                branches = exchange(branches, train=train)
        for i, x in enumerate(branches):
            if self.increase:
                x = Bottleneck(32 << i, dtype=self.dtype, name=f"increase{i}")(x, train=train)
            maps[f"c{i + 2}"] = x
        return maps

    def _transition(self, stage: int, branches: list[Map], *, train: bool) -> list[Map]:
        """Return the branches that enter a stage: one more, by a strided convolution of the coarsest."""

        def step(i: int, x: Map, stride: int) -> Map:
            conv = ConvNorm(self.width << i, stride=stride, dtype=self.dtype, name=f"transition{stage - 1}_{i}")
            return jax.nn.relu(conv(x, train=train))

        first = [step(0, branches[0], 1)] if stage == 2 else branches
        return [*first, step(stage - 1, branches[-1], 2)]


class Exchange(nn.Module):
    """Blocks of every branch, then an exchange between all of them.

    >>> module, maps = Exchange(blocks=1), [jnp.ones((1, 8, 8, 4)), jnp.ones((1, 4, 4, 8))]
    >>> [x.shape for x in jax.eval_shape(lambda k: module.init_with_output(k, maps, train=False)[0], jax.random.key(0))]
    [(1, 8, 8, 4), (1, 4, 4, 8)]

    Attributes:
      blocks: of each branch.
      align_corners: see :class:`HRNet`.
      dtype: compute dtype.
    """

    blocks: int = 4
    align_corners: bool | None = None
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, branches: list[Map], *, train: bool) -> list[Map]:
        """Return as many maps of the same shapes."""
        inner = []
        for j, x in enumerate(branches):
            for i in range(self.blocks):
                x = BasicBlock(x.shape[-1], dtype=self.dtype, name=f"branch{j}_{i}")(x, train=train)
            inner.append(x)
        outer = []
        for i, target in enumerate(inner):
            terms = [
                x if i == j else (self._up if j > i else self._down)(i, j, x, target, train=train)
                for j, x in enumerate(inner)
            ]
            outer.append(jax.nn.relu(sum(terms[1:], terms[0])))
        return outer

    def _up(self, i: int, j: int, x: Map, target: Map, *, train: bool) -> Map:
        x = ConvNorm(target.shape[-1], 1, dtype=self.dtype, name=f"fuse{i}_{j}")(x, train=train)
        size = (target.shape[1], target.shape[2])
        if self.align_corners is None:
            return resize_nearest(x, size)
        return resize_bilinear(x, size, align_corners=self.align_corners)

    def _down(self, i: int, j: int, x: Map, target: Map, *, train: bool) -> Map:
        for k in range(i - j):
            last = k == i - j - 1
            features = target.shape[-1] if last else x.shape[-1]
            x = ConvNorm(features, stride=2, dtype=self.dtype, name=f"fuse{i}_{j}_{k}")(x, train=train)
            x = x if last else jax.nn.relu(x)
        return x


WIDTHS = (18, 32, 48)
"""Of the variants (Table 1 of the paper and its supplement)."""


def hrnet(
    width: int,
    *,
    align_corners: bool | None = None,
    increase: bool = False,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> HRNet:
    """Return HRNet-W18, W32 or W48.

    >>> hrnet(48).width
    48

    Raises:
      BadInput: another width.
    """
    if width not in WIDTHS:
        raise BadInput(f"no HRNet has a width of {width}; there are: {', '.join(map(str, WIDTHS))}")
    return HRNet(
        width=width,
        align_corners=align_corners,
        increase=increase,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


def _residual(source: str, path: str, groups: int) -> Rules:
    """Return the rules of a residual block, where the regex of its name has so many groups."""
    number, leaf = rf"\{groups + 1}", rf"\{groups + 2}"
    return (
        (rf"{source}\.conv(\d)\.weight", f"{path}/conv{number}/kernel"),
        (rf"{source}\.bn(\d)\.weight", f"{path}/norm{number}/scale"),
        (rf"{source}\.bn(\d)\.bias", f"{path}/norm{number}/bias"),
        (rf"{source}\.bn(\d)\.running_(mean|var)", f"{path}/norm{number}/{leaf}"),
        (rf"{source}\.downsample\.0\.weight", f"{path}/conv_shortcut/kernel"),
        (rf"{source}\.downsample\.1\.weight", f"{path}/norm_shortcut/scale"),
        (rf"{source}\.downsample\.1\.bias", f"{path}/norm_shortcut/bias"),
        (rf"{source}\.downsample\.1\.running_(mean|var)", f"{path}/norm_shortcut/{number}"),
    )


_MODULE, _OUR_MODULE = r"stage(\d)\.(\d+)", r"stage\1_\2"

BRANCH_NAMES: Rules = (
    (r"conv(\d)\.weight", r"stem\1/conv/kernel"),
    (r"bn(\d)\.weight", r"stem\1/norm/scale"),
    (r"bn(\d)\.bias", r"stem\1/norm/bias"),
    (r"bn(\d)\.running_(mean|var)", r"stem\1/norm/\2"),
    *_residual(r"layer1\.(\d+)", r"layer1_\1", 1),
    *torch_names(r"transition(1)\.(0)", r"transition\1_\2"),
    *torch_names(r"transition(\d)\.([123])\.0", r"transition\1_\2"),
    *_residual(rf"{_MODULE}\.branches\.(\d)\.(\d+)", rf"{_OUR_MODULE}/branch\3_\4", 4),
    *torch_names(rf"{_MODULE}\.fuse_layers\.(\d)\.(\d)", rf"{_OUR_MODULE}/fuse\3_\4"),
    *torch_names(rf"{_MODULE}\.fuse_layers\.(\d)\.(\d)\.(\d)", rf"{_OUR_MODULE}/fuse\3_\4_\5"),
    (r".*\.num_batches_tracked", None),
)
"""Rules of stem and branches, whose names are the same in timm and in all of the authors' repositories."""

TIMM_NAMES: Rules = (
    *BRANCH_NAMES,
    (r"(incre_modules|downsamp_modules|final_layer|classifier)\..*", None),
)
"""Rules from the classifier of timm, and of the authors, to the paths of :class:`HRNet`."""

TIMM_MAPS_NAMES: Rules = (
    *BRANCH_NAMES,
    *_residual(r"incre_modules\.(\d)\.0", r"increase\1", 1),
    (r"(downsamp_modules|final_layer|classifier)\..*", None),
)
"""Rules from timm's network of maps, or its classifier, with ``increase``."""


ENCODERS: dict[str, EncoderSpec] = {
    f"tu-hrnet_w{width}": fixed(hrnet, in_timm(TIMM_MAPS_NAMES), width=width, increase=True) for width in WIDTHS
}
"""By the name in segmentation-models-pytorch."""
