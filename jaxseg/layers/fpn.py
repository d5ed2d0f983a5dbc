"""Feature pyramid network (Lin et al. 2017, arXiv:1612.03144): one width at every level, coarse added to fine.

A 1x1 convolution brings every backbone map to one width, the coarser sum is enlarged to the next finer map and added,
and a 3x3 convolution smooths each sum. Beyond the coarsest map a detector may want more levels: Faster R-CNN takes
every second cell of the last (``extra="pool"``), RetinaNet two strided convolutions (``"p6p7_from_p5"``,
``"p6p7_from_c5"``).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv
from jaxseg.layers.norm import make_norm
from jaxseg.ops.resize import resize_nearest
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

EXTRAS = ("none", "pool", "p6p7_from_p5", "p6p7_from_c5")

kaiming_uniform = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
"""U(-sqrt(3 / fan_in), sqrt(3 / fan_in)), torchvision's start of a pyramid's convolutions."""


class FPN(nn.Module):
    """Turn backbone maps, finest first, into pyramid maps of equal width, finest first.

    Attributes:
      features: channels of every level.
      extra: levels beyond the last, one of ``EXTRAS``.
      norm: of the lateral and smoothing convolutions; with "none" they have biases.
      dtype: compute dtype.

    >>> maps = [jnp.zeros((1, 8, 8, 4)), jnp.zeros((1, 4, 4, 6))]
    >>> levels = jax.eval_shape(lambda: FPN(2).init_with_output(jax.random.key(0), maps, train=False)[0])
    >>> [level.shape[1:] for level in levels]
    [(8, 8, 2), (4, 4, 2), (2, 2, 2)]
    """

    features: int = 256
    extra: str = "pool"
    norm: str = "none"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[Map], *, train: bool) -> list[Map]:
        """Return the levels of the pyramid.

        Raises:
          BadInput: ``extra`` is none of ``EXTRAS``.
        """
        if self.extra not in EXTRAS:
            raise BadInput(f"extra {self.extra!r} of FPN; there are {', '.join(EXTRAS)}")
        laterals = [self._conv(f"lateral{i}", x, 1, train) for i, x in enumerate(maps)]
        above, levels = laterals[-1], []
        for i in reversed(range(len(maps))):
            if i < len(maps) - 1:
                size = (laterals[i].shape[1], laterals[i].shape[2])
                above = laterals[i] + resize_nearest(above, size, half_pixel=False)
            levels.insert(0, self._conv(f"smooth{i}", above, 3, train))
        if self.extra == "pool":
            levels.append(levels[-1][:, ::2, ::2])
        elif self.extra != "none":
            p6 = self._strided("p6", maps[-1] if self.extra == "p6p7_from_c5" else levels[-1])
            levels += [p6, self._strided("p7", jax.nn.relu(p6))]
        return levels

    def _conv(self, name: str, x: Map, size: int, train: bool) -> Map:
        conv = Conv(
            self.features,
            size,
            padding=size // 2,
            use_bias=self.norm == "none",
            kernel_init=kaiming_uniform,
            dtype=self.dtype,
            name=name,
        )
        return make_norm(self.norm)(dtype=self.dtype, name=f"{name}_norm")(conv(x), train=train)

    def _strided(self, name: str, x: Map) -> Map:
        options = {"stride": 2, "padding": 1, "kernel_init": kaiming_uniform, "dtype": self.dtype}
        return Conv(self.features, 3, **options, name=name)(x)


def _norm(source: str, path: str) -> Rules:
    leaves = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    return tuple((rf"{source}\.{theirs}", f"{path}/{ours}") for theirs, ours in leaves.items())


def torchvision_fpn_names(source: str, path: str) -> Rules:
    r"""Return rules from torchvision's ``FeaturePyramidNetwork``, also of files from before its version 0.13.

    >>> torchvision_fpn_names(r"backbone\.fpn", "fpn")[0]
    ('backbone\\.fpn\\.inner_blocks\\.(\\d+)\\.0\\.weight', 'fpn/lateral\\1/kernel')
    """
    rules: list[tuple[str, str | None]] = []
    for theirs, ours in (("inner_blocks", "lateral"), ("layer_blocks", "smooth")):
        block = rf"{source}\.{theirs}\.(\d+)"
        for leaf, target in (("weight", "kernel"), ("bias", "bias")):
            rules.append((rf"{block}\.0\.{leaf}", rf"{path}/{ours}\1/{target}"))
        rules += _norm(rf"{block}\.1", rf"{path}/{ours}\1_norm")
        rules += [(rf"{block}\.weight", rf"{path}/{ours}\1/kernel"), (rf"{block}\.bias", rf"{path}/{ours}\1/bias")]
    for leaf, target in (("weight", "kernel"), ("bias", "bias")):
        rules.append((rf"{source}\.extra_blocks\.(p[67])\.{leaf}", rf"{path}/\1/{target}"))
    return tuple(rules)


def detectron2_fpn_names(source: str, path: str, finest: int = 2) -> Rules:
    r"""Return rules from detectron2's ``FPN`` whose finest level has that number.

    >>> detectron2_fpn_names("backbone", "fpn")[0]
    ('backbone\\.fpn_lateral2\\.weight', 'fpn/lateral0/kernel')
    """
    rules: list[tuple[str, str | None]] = []
    for leaf, target in (("weight", "kernel"), ("bias", "bias")):
        for level in range(finest, 6):
            rules.append((rf"{source}\.fpn_lateral{level}\.{leaf}", f"{path}/lateral{level - finest}/{target}"))
            rules.append((rf"{source}\.fpn_output{level}\.{leaf}", f"{path}/smooth{level - finest}/{target}"))
        rules.append((rf"{source}\.top_block\.(p[67])\.{leaf}", rf"{path}/\1/{target}"))
    return tuple(rules)
