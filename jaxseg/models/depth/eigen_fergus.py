"""Depth, normals and labels with a common multi-scale architecture (Eigen and Fergus, ICCV 2015, arXiv:1411.4734).

Scale 1 looks at the whole image: a classifier's convolutions and two fully connected layers, which give 64 maps of
14x19. Scale 2 sees them, enlarged, beside its own convolution of the image and predicts 55x74 cells; scale 3 refines
those to 109x147. The image is a crop of 228x304 of 240x320, and cell (i, j) of scale 2 lies on pixel 5 + 4 i, 5 + 4 j
of the crop, of scale 3 on 5 + 2 i, 5 + 2 j. What is returned has the size of the image, with the cells' values on their
pixels and bilinear between them; ``Cells(5, 2, 6)`` and ``Cells(5, 4, 6)`` of :mod:`jaxseg.tasks.maps` pick them.

Convolutions at stride 2, and AlexNet's first, are padded on both sides by half of what their last window lacks.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.alexnet import AlexNet
from jaxseg.backbones.vgg import VGG
from jaxseg.errors import BadInput
from jaxseg.layers.axis import global_rows
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_anchored, resize_bilinear, resize_nearest
from jaxseg.registry import register

Map = Float[Array, "b _ _ _"]

WHOLE, CROP = (240, 320), (228, 304)
"""The image that a crop is of, and the crop that the network sees."""

COARSE, SEEN, CELLS = (14, 19), (55, 74), (109, 147)
"""Cells of scale 1, 2 and 3."""

FIRST = 5
"""Row and column of the crop under the first cell of scales 2 and 3."""

LOG_MEAN, LOG_STD = 0.82473954, 0.45723134
"""Mean and standard deviation of the log of NYU's depths in metres: the unit of the depth channel is the latter."""

VGG_MEAN = Standardize((123.68, 116.779, 103.939))
ALEXNET_MEAN = Standardize((128.0, 128.0, 128.0))
PIXELS = Standardize((109.31410628,) * 3, (76.18328376,) * 3)
"""Statistics of the image at scale 1, by backbone, and at scales 2 and 3."""

KINDS = ("depth", "normals", "labels")


class EigenFergus(nn.Module):
    """The network for one of the tasks or several.

    >>> net, image = eigen_fergus_vgg16(tasks=("depth",)), jnp.zeros((1, 480, 640, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["depth"].shape
    (1, 480, 640)

    Attributes:
      backbone: scale 1's convolutions; 228x304 pixels give its map ``c5``.
      tasks: of "depth", "normals" and "labels", in this order.
      num_classes: of the labels.
      features: of the first fully connected layer.
      width: channels between the layers; scale 1 hands on as many, the first layers of scales 2 and 3 have 1.5 as many.
      scales: 2 for the first stage of training, which predicts the cells of scale 2; 3 for the whole.
      crop: in training, scale 3 learns on a random crop of so many of its cells, and scales 1 and 2 are at rest; None
        trains all of them on the whole.
      dropout: rate after the first fully connected layer.
      in_channels: of the image.
      dtype: compute dtype.
    """

    backbone: nn.Module
    tasks: tuple[str, ...] = ("depth", "normals")
    num_classes: int = 40
    features: int = 4096
    width: int = 64
    scales: int = 3
    crop: tuple[int, int] | None = None
    dropout: float = 0.5
    in_channels: int = 3
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``depth``, ``normal`` and ``logits``, those that are asked for, for raw pixels of any size.

        Images of 228x304 are taken as they are; others are scaled to 240x320 and seen in their middle 228x304. In
        training on crops ``computed`` tells where they were.

        Raises:
          BadInput: there is no such task, or number of scales.
        """
        if not self.tasks or [kind for kind in KINDS if kind in self.tasks] != list(self.tasks):
            raise BadInput(f"tasks are some of {', '.join(KINDS)}, each once, in this order, not {self.tasks}")
        if self.scales not in (2, 3):
            raise BadInput(f"scales is 2 (without the last) or 3, not {self.scales}")
        size = (image.shape[1], image.shape[2])
        standardize = _standard(PIXELS, self.in_channels)
        seen = _middle(standardize.to_float(image))
        learning = train and (self.crop is None or self.scales == 2)
        coarse = self._scale1(seen, train=learning)
        pixels = standardize(seen, self.in_channels).astype(self.dtype)
        maps = Scale2(self._channels, self.width, dtype=self.dtype, name="scale2")(pixels, coarse)
        step, computed = 4, None
        if self.scales == 3:
            below = {kind: resize_nearest(x, (2 * SEEN[0], 2 * SEEN[1]))[:, :-1, :-1] for kind, x in maps.items()}
            scale3 = Scale3(self._channels, self.width, dtype=self.dtype, name="scale3")
            if train and self.crop is not None:
                below = jax.lax.stop_gradient(below)
                maps, computed = self._on_crop(scale3, self.crop, pixels, below)
            else:
                maps = scale3(_padded(pixels), below)
            step = 2
        outputs: dict[str, Array] = {}
        for kind, x in maps.items():
            x = _to_image(_enlarge(x.astype(jnp.float32), step), size)
            if kind == "depth":
                outputs["depth"] = jnp.exp(LOG_STD * x[..., 0])
            elif kind == "normals":
                outputs["normal"] = _unit(x, 1e-12)
            else:
                outputs["logits"] = x
        if computed is not None:
            outputs["computed"] = _to_image(_enlarge(computed, step), size)[..., 0] == 1
        return outputs

    @property
    def _channels(self) -> tuple[tuple[str, int], ...]:
        known = {"depth": 1, "normals": 3, "labels": self.num_classes}
        return tuple((kind, known[kind]) for kind in self.tasks)

    def _scale1(self, image: Map, *, train: bool) -> Map:
        """Return [b 55 74 width] of the whole image."""
        x = 0.01 * self.backbone(image, train=train)["c5"]
        x = Conv(self.features, x.shape[1:3], kernel_init=_normal(0.01), dtype=self.dtype, name="full1")(x)
        x = Dropout(self.dropout, name="full1_dropout")(jax.nn.relu(x), train=train)
        x = Conv(COARSE[0] * COARSE[1] * self.width, 1, kernel_init=_normal(0.01), dtype=self.dtype, name="full2")(x)
        x = jax.nn.relu(x).reshape(x.shape[0], self.width, *COARSE)
        rows, columns = (jnp.asarray(_tent(n, count), x.dtype) for n, count in zip(COARSE, SEEN, strict=True))
        return jnp.einsum("yi,bcij,xj->byxc", rows, x, columns)

    def _on_crop(self, scale3: "Scale3", crop: tuple[int, int], pixels: Map, below: Any) -> tuple[dict[str, Map], Map]:
        """Return scale 3's cells on a random crop of each image, the others 0, and 1 where they were computed."""
        keys = jax.vmap(partial(jax.random.fold_in, self.make_rng("sample")))(global_rows(pixels.shape[0]))
        places = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, jnp.asarray(CELLS) - jnp.asarray(crop) + 1))(
            keys
        )
        cut = jax.vmap(lambda x, at, size: jax.lax.dynamic_slice(x, (*at, 0), (*size, x.shape[-1])), (0, 0, None))
        windows = tuple(2 * (cells + 1) + 9 for cells in crop)
        parts = {kind: cut(x, places, crop) for kind, x in below.items()}
        found = scale3(cut(_padded(pixels), 2 * places, windows), parts)

        def put(part: Map) -> Map:
            empty = jnp.zeros((*CELLS, part.shape[-1]), part.dtype)
            return jax.vmap(lambda x, at: jax.lax.dynamic_update_slice(empty, x, (*at, 0)))(part, places)

        ones = jnp.ones((pixels.shape[0], *crop, 1), jnp.float32)
        return {kind: put(x) for kind, x in found.items()}, put(ones)


class Scale2(nn.Module):
    """Predict 55x74 cells from the image and from what scale 1 hands on.

    >>> block = Scale2((("depth", 1),), 4)
    >>> x = jnp.zeros((1, 228, 304, 3)), jnp.zeros((1, 55, 74, 4))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, *x)[0], jax.random.key(0))["depth"].shape
    (1, 55, 74, 1)

    Attributes:
      channels: of each task.
      width: of the layers between.
      dtype: compute dtype.
    """

    channels: tuple[tuple[str, int], ...]
    width: int
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, pixels: Map, coarse: Map) -> dict[str, Map]:
        """Return the cells of each task."""
        conv = Conv(3 * self.width // 2, 9, stride=2, kernel_init=_normal(0.001), dtype=self.dtype, name="conv1")
        x = max_pool(jax.nn.relu(conv(_padded(pixels))), 3, stride=2)
        x = jnp.concatenate([coarse.astype(x.dtype), x], axis=-1)
        found = {}
        for kind, channels in self.channels:
            y = _stack(self, kind, x, 3, channels)
            if kind == "depth":
                bias = self.param("bias", nn.initializers.constant(LOG_MEAN / LOG_STD), (*SEEN, 1), jnp.float32)
                y = y + bias.astype(y.dtype)[None]
            found[kind] = _unit(y, 1e-4) if kind == "normals" else y
        return found


class Scale3(nn.Module):
    """Refine the cells of scale 2, enlarged twice, beside another convolution of the image.

    >>> block = Scale3((("depth", 1),), 4)
    >>> x = jnp.zeros((1, 230, 306, 3)), {"depth": jnp.zeros((1, 109, 147, 1))}
    >>> jax.eval_shape(lambda key: block.init_with_output(key, *x)[0], jax.random.key(0))["depth"].shape
    (1, 109, 147, 1)

    Attributes:
      channels: of each task. The predictions of all of them stand in the place of the convolution's first channels.
      width: of the layers between.
      dtype: compute dtype.
    """

    channels: tuple[tuple[str, int], ...]
    width: int
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, pixels: Map, below: dict[str, Map]) -> dict[str, Map]:
        """Return the cells of each task, of padded pixels, two for each cell and nine more."""
        conv = Conv(3 * self.width // 2, 9, stride=2, kernel_init=_normal(0.001), dtype=self.dtype, name="conv1")
        x = max_pool(jax.nn.relu(conv(pixels)), 3, stride=1)
        told = jnp.concatenate([below[kind] for kind, _ in self.channels], axis=-1).astype(x.dtype)
        x = jnp.concatenate([told, x[..., told.shape[-1] :]], axis=-1)
        found = {kind: _stack(self, kind, x, 2, channels) for kind, channels in self.channels}
        return {kind: _unit(y, 1e-4) if kind == "normals" else y for kind, y in found.items()}


def _stack(block: Scale2 | Scale3, kind: str, x: Map, layers: int, channels: int) -> Map:
    """Apply 5x5 convolutions with ReLUs, and a last one without."""
    for i in range(layers):
        x = jax.nn.relu(_five(block, block.width, f"{kind}{i + 2}")(x))
    return _five(block, channels, f"{kind}{layers + 2}")(x)


def _five(block: Scale2 | Scale3, features: int, name: str) -> Conv:
    return Conv(features, 5, padding=2, kernel_init=_normal(0.01), dtype=block.dtype, name=name, parent=block)


def _normal(std: float) -> Any:
    return nn.initializers.normal(std)


def _padded(pixels: Map) -> Map:
    """Pad by what the last window of a 9x9 convolution at stride 2 lacks on 228x304 pixels, half on either side."""
    return jnp.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)))


def _unit(x: Map, epsilon: float) -> Map:
    return x / jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True) + epsilon)


def _tent(n: int, count: int) -> np.ndarray:
    """Return f64[count n], the weights of cells on 1, 5, 9, ... that fall to 0 within four places, also outwards."""
    distance = np.abs(np.arange(count)[:, None] - (4 * np.arange(n) + 1)[None, :])
    return np.maximum(0, 1 - distance / 4)


def _middle(image: Map) -> Map:
    """Return the crop that is seen."""
    if image.shape[1:3] == CROP:
        return image
    top, left = ((whole - side) // 2 for whole, side in zip(WHOLE, CROP, strict=True))
    return resize_bilinear(image, WHOLE)[:, top : top + CROP[0], left : left + CROP[1]]


def _enlarge(x: Map, step: int) -> Map:
    """Return a map of the crop's size with the cells on their pixels; beyond the outermost their values go on."""
    x = resize_anchored(x, step, (CROP[0] - FIRST, CROP[1] - FIRST))
    return jnp.pad(x, ((0, 0), (FIRST, 0), (FIRST, 0), (0, 0)), mode="edge")


def _to_image(x: Map, size: tuple[int, int]) -> Map:
    """Return the crop's map at the size of the image that it was cut from."""
    if size == CROP:
        return x
    margins = [((whole - side) // 2,) * 2 for whole, side in zip(WHOLE, CROP, strict=True)]
    return resize_bilinear(jnp.pad(x, ((0, 0), *margins, (0, 0)), mode="edge"), size)


def _standard(standardize: Standardize, channels: int) -> Standardize:
    """Return the statistics for any number of bands, all of which the authors' releases treat alike where they can."""
    count = len(standardize.mean)
    if channels == count:
        return standardize
    mean, std = sum(standardize.mean) / count, sum(standardize.std) / count
    return Standardize((mean,) * channels, (std,) * channels)


@register(
    task="multitask",
    paper="arXiv:1411.4734",
    params=218_084_654,
    small={"width": 8, "features": 16, "backbone.width": 2, "tasks": ("depth", "normals", "labels")},
)
def eigen_fergus_vgg16(
    num_classes: int = 40,
    tasks: tuple[str, ...] = ("depth", "normals"),
    in_channels: int = 3,
    dtype: jnp.dtype | type = jnp.float32,
) -> EigenFergus:
    """VGG-16 at scale 1, its first two convolutions without padding; depth and normals jointly."""
    backbone = VGG(
        first_padding=(0, 0), in_channels=in_channels, standardize=_standard(VGG_MEAN, in_channels), dtype=dtype
    )
    return EigenFergus(backbone, tuple(tasks), num_classes, in_channels=in_channels, dtype=dtype)


@register(
    task="multitask",
    paper="arXiv:1411.4734",
    small={"width": 8, "features": 16, "backbone.widths": (4, 4, 4, 4, 4), "tasks": ("depth", "normals", "labels")},
)
def eigen_fergus_alexnet(
    num_classes: int = 40,
    tasks: tuple[str, ...] = ("depth", "normals"),
    in_channels: int = 3,
    dtype: jnp.dtype | type = jnp.float32,
) -> EigenFergus:
    """AlexNet without groups at scale 1; depth and normals jointly."""
    backbone = AlexNet(
        groups=(1,) * 5,
        first_padding=2,
        ceil_mode=False,
        in_channels=in_channels,
        standardize=_standard(ALEXNET_MEAN, in_channels),
        dtype=dtype,
    )
    return EigenFergus(backbone, tuple(tasks), num_classes, in_channels=in_channels, dtype=dtype)
