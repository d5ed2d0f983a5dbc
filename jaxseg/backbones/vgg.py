"""VGG: very deep convolutional networks for large-scale image recognition (Simonyan, Zisserman 2015, arXiv:1409.1556).

Five blocks of 3x3 convolutions with a 2x2 max-pool after each, and the classifier as convolutions (fc6 7x7, fc7 1x1),
the way FCN, DeepLab and the dilated front-end use it. ``conv3_2`` is the second convolution of block 3.
"""

from dataclasses import dataclass
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import make_norm
from jaxseg.layers.standardize import IMAGENET, Standardize
from jaxseg.ops.pool import max_pool
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

VGG11, VGG13, VGG16, VGG19 = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
"""Convolutions in each block (paper Table 1, columns A, B, D, E)."""


class VGG(nn.Module):
    """The convolutional part.

    >>> net, image = VGG(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))["c5"].shape
    (1, 2, 2, 512)

    Attributes:
      blocks: convolutions per block: VGG11, VGG13, VGG16 or VGG19.
      width: channels of the first block; they double until eight times that.
      norm: "none" as published, "batch" for the later variants with BatchNorm.
      output_stride: 32; 16 leaves out pool 5; 8 leaves out pools 4 and 5 and dilates block 5 by two.
      pool_size: 2, or 3 for DeepLab's: such pools are padded by one, so that cell i lies on pixel ``stride * i``, and
        those that ``output_stride`` would leave out stay, at stride 1.
      padding: of every convolution but the first, in units of its dilation; 0 gives the valid front-end.
      first_padding: of conv1_1; FCN has 100 there. Several numbers are those of the first block's convolutions.
      ceil_mode: whether pools keep the ragged last row and column, as Caffe does and torchvision does not.
      out_maps: which map of a stride is taken: the "first", which the pool makes; or the "last", which the next block's
        convolutions make of it, as in segmentation-models-pytorch and timm. ``c5`` is the last pool's in both. Or
        "before" the pool, so that ``c1`` has the image's own resolution and the last pool is left out (HED).
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    blocks: tuple[int, ...] = VGG16
    width: int = 64
    norm: str = "none"
    output_stride: int = 32
    pool_size: int = 2
    padding: int = 1
    first_padding: int | tuple[int, ...] = 1
    ceil_mode: bool = False
    out_maps: str = "first"
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c1".."c5"}`` for raw pixels: each block's map after its pool, at stride ``2**k`` up to
        ``output_stride``.
        """
        if self.out_maps not in ("first", "last", "before"):
            raise BadInput(f"out_maps {self.out_maps!r} of VGG; there are 'first', 'last' and 'before'")
        if self.out_maps == "last" and self.output_stride != 32:
            raise BadInput(f"out_maps {self.out_maps!r} of VGG at output stride {self.output_stride}; there it is 32")
        if self.output_stride not in (8, 16, 32):
            raise BadInput(f"output stride {self.output_stride} of VGG; there are 8, 16 and 32")
        if self.pool_size not in (2, 3):
            raise BadInput(f"pools of {self.pool_size} in VGG; there are 2 and 3")
        norm = make_norm(self.norm)
        overlap = self.pool_size - 2
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        maps = {}
        # With statistics over the batch every row counts, so that none may be left out; nor of maps that are taken.
        regular = self.padding == 1 and self.norm == "none" and not overlap and self.out_maps == "first"
        first = (self.first_padding,) if isinstance(self.first_padding, int) else self.first_padding
        margin = Margin(last=first[0] - 3) if regular and len(first) == 1 else Margin()
        for k, convs in enumerate(self.blocks, 1):
            dilation = max(2 ** (k - 1) // self.output_stride, 1)
            pooled = 2**k <= self.output_stride
            spare = margin.spare(convs - (k == 1)) if pooled else 0
            x = margin.restore(x, margin.removed - spare) if k > 1 else x
            for i in range(1, convs + 1):
                padding = first[i - 1] - spare * (i == 1) if (k, i) <= (1, len(first)) else self.padding * dilation
                x = Conv(
                    self.width * min(2 ** (k - 1), 8),
                    3,
                    padding=padding,
                    dilation=dilation,
                    dtype=self.dtype,
                    name=f"conv{k}_{i}",
                )(x)
                x = jax.nn.relu(norm(dtype=self.dtype, name=f"norm{k}_{i}")(x, train=train))
            if self.out_maps == "last" and k > 1:
                maps[f"c{k - 1}"] = x
            if self.out_maps == "before":
                maps[f"c{k}"] = x
                if k == len(self.blocks):
                    break
            if pooled:
                x = max_pool(x, self.pool_size, stride=2, padding=overlap, ceil_mode=self.ceil_mode)
                margin = margin.after(convs - (k == 1), spare)
            elif overlap:
                x = max_pool(x, self.pool_size, stride=1, padding=overlap)
            else:
                margin = Margin()
            if self.out_maps != "before":
                maps[f"c{k}"] = margin.restore(x, margin.removed)
        return maps


@dataclass(frozen=True)
class Margin:
    """Interior of a wide zero padding: all rows are equal, so it is enough to compute one.

    FCN pads by 100 pixels. A row of the first maps that is far from the edge and out of the image's reach equals its
    neighbours, and so do columns. Blocks run without most of them, and what is needed again is repeated afterwards:
    the same numbers for a third fewer operations, gradients included.

    >>> Margin(first=0, last=9, removed=0).last
    9

    Attributes:
      first: index of the first such row from the edge, in the map with nothing left out.
      last: index of the last; less than ``first`` where there are none.
      removed: how many are left out at each edge.
    """

    first: int = 0
    last: int = -1
    removed: int = 0

    def spare(self, convs: int) -> int:
        """Return how many rows the next block can do without: an even number, for its pool, that leaves it one to
        repeat.
        """
        least = self.last - convs - 1 - 2 * ((self.first + convs + 2) // 2)
        return max(least - least % 2, 0)

    def after(self, convs: int, removed: int) -> "Margin":
        """Return the margin behind that many 3x3 convolutions and a 2x2 pool that may begin or end on either row."""
        return Margin((self.first + convs + 2) // 2, (self.last - convs - 1) // 2, removed // 2)

    def restore(self, x: Map, count: int) -> Map:
        """Return ``x`` with ``count`` of the rows and columns put back at each of its four edges."""
        if count == 0:
            return x
        for axis in (1, 2):
            size = x.shape[axis]
            marks = (0, self.first + 1, size - self.first - 1, size)
            top, body, bottom = (jax.lax.slice_in_dim(x, i, j, axis=axis) for i, j in pairwise(marks))
            shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
            above = jnp.broadcast_to(jax.lax.slice_in_dim(x, self.first, self.first + 1, axis=axis), shape)
            below = jnp.broadcast_to(
                jax.lax.slice_in_dim(x, size - self.first - 1, size - self.first, axis=axis), shape
            )
            x = jnp.concatenate([top, above, body, below, bottom], axis)
        return x


class VGGClassifier(nn.Module):
    """fc6 and fc7 as convolutions (FCN section 3.1): a map of 4096 features for every 7x7 window of ``c5``.

    >>> block, x = VGGClassifier(), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 10, 10, 4096)

    Attributes:
      features: channels of both layers.
      kernel_size: side of fc6's window.
      dilation: of fc6: 2 or 4 when the backbone's output stride is 16 or 8 keeps the window over the same pixels.
      dropout: rate after each layer.
      dtype: compute dtype.
    """

    features: int = 4096
    kernel_size: int = 7
    dilation: int = 1
    dropout: float = 0.5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map of fc7, smaller than ``x`` by ``dilation * (kernel_size - 1)``."""
        x = Conv(self.features, self.kernel_size, dilation=self.dilation, dtype=self.dtype, name="fc6")(x)
        x = Dropout(self.dropout, name="fc6_dropout")(jax.nn.relu(x), train=train)
        x = Conv(self.features, 1, dtype=self.dtype, name="fc7")(x)
        return Dropout(self.dropout, name="fc7_dropout")(jax.nn.relu(x), train=train)


def torchvision_names(blocks: tuple[int, ...], norm: str, *, features: str = r"features\.") -> Rules:
    """Rules from torchvision's, and timm's, ``features.N`` to this file's names; the classifier is left out.

    torchvision numbers layers, activations and pools in one sequence, so that the numbers depend on the variant.
    ``features`` is what stands before the number: ``features_`` where timm made a network of features alone.

    >>> torchvision_names((1, 1), norm="none")[0][1]
    'conv1_1/kernel'
    """
    rules: list[tuple[str, str | None]] = []
    index = 0
    for k, convs in enumerate(blocks, 1):
        for i in range(1, convs + 1):
            rules.append((rf"{features}{index}\.weight", f"conv{k}_{i}/kernel"))
            rules.append((rf"{features}{index}\.bias", f"conv{k}_{i}/bias"))
            if norm == "batch":
                index += 1
                rules.append((rf"{features}{index}\.weight", f"norm{k}_{i}/scale"))
                rules.append((rf"{features}{index}\.bias", f"norm{k}_{i}/bias"))
                rules.append((rf"{features}{index}\.running_mean", f"norm{k}_{i}/mean"))
                rules.append((rf"{features}{index}\.running_var", f"norm{k}_{i}/var"))
                rules.append((rf"{features}{index}\.num_batches_tracked", None))
            index += 2
        index += 1
    return (*rules, (r"(classifier|pre_logits|head)\..*", None))


TORCHVISION_CLASSIFIER: Rules = (
    (r"classifier\.0\.weight", "fc6/kernel|dense"),
    (r"classifier\.0\.bias", "fc6/bias"),
    (r"classifier\.3\.weight", "fc7/kernel|dense"),
    (r"classifier\.3\.bias", "fc7/bias"),
    (r"classifier\.6\..*|features\..*", None),
)
"""Rules from torchvision's fully connected layers to :class:`VGGClassifier`: the same numbers, read as kernels."""

CAFFE_NAMES: Rules = (
    (r"(conv\d_\d)\.weight", r"\1/kernel"),
    (r"(conv\d_\d)\.bias", r"\1/bias"),
    (r"fc\d\..*", None),
)
"""Rules from the authors' Caffe models (VGG_ILSVRC_16_layers.caffemodel) to :class:`VGG`, the classifier left out."""

CAFFE_CLASSIFIER: Rules = (
    (r"(fc[67])\.weight", r"\1/kernel|dense"),
    (r"(fc[67])\.bias", r"\1/bias"),
    (r"fc8\..*|conv.*", None),
)
"""Rules from the dense layers of the same models, and of Caffe's AlexNet, to :class:`VGGClassifier`."""
