"""A small U-Net for the vessels of the retina, and the way it sees an image (github.com/orobix/retina-unet).

U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with two poolings, 32 channels at first, same padding, enlargement by
nearest neighbour, (enlarged, skip) as the order of the concatenation, and a ReLU after the classifier too. Trained on
DRIVE's photographs; what was done to them there is done inside: grey, stretched to the whole range, contrast evened out
in 8x8 tiles, gamma 1.2.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.clahe import clahe
from jaxseg.ops.pad import pad_to_multiple
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_nearest
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

LUMA = Standardize((0.0,), (1.0,), order="grey")


class RetinaUNet(nn.Module):
    """The network with its preparation of the image.

    >>> net, image = RetinaUNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 2)

    Attributes:
      num_classes: channels of the logits: background and vessel.
      depth: number of poolings.
      width: channels of the first level; they double with each pooling.
      dropout: rate between the two convolutions of a level.
      tiles: parts along each side whose contrast is evened out, over the whole image; 0 takes the image's grey values
        as they are, for windows of images that were prepared before.
      in_channels: of the image: 3 for RGB, of which it takes the luma, or 1 for an image that is grey already.
      dtype: compute dtype.
    """

    num_classes: int = 2
    depth: int = 2
    width: int = 32
    dropout: float = 0.2
    tiles: int = 8
    in_channels: int = 3
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels; none is below zero."""
        h, w = image.shape[1:3]
        x = LUMA(image, self.in_channels)
        x = prepare(x[..., 0], tiles=self.tiles)[..., None] if self.tiles else x / 255
        x = pad_to_multiple(x, 1 << self.depth).astype(self.dtype)
        skips = []
        for level in range(self.depth):
            x = self._double(f"encoder{level}", x, self.width << level, train=train)
            skips.append(x)
            x = max_pool(x, 2)
        x = self._double("bottom", x, self.width << self.depth, train=train)
        for level in reversed(range(self.depth)):
            skip = skips[level]
            x = jnp.concatenate([resize_nearest(x, (skip.shape[1], skip.shape[2])), skip], axis=-1)
            x = self._double(f"decoder{level}", x, self.width << level, train=train)
        x = jax.nn.relu(Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x))
        return {"logits": x[:, :h, :w].astype(jnp.float32)}

    def _double(self, name: str, x: Map, channels: int, *, train: bool) -> Map:
        x = jax.nn.relu(Conv(channels, 3, padding=1, dtype=self.dtype, name=f"{name}_conv1")(x))
        x = Dropout(self.dropout, name=f"{name}_dropout")(x, train=train)
        return jax.nn.relu(Conv(channels, 3, padding=1, dtype=self.dtype, name=f"{name}_conv2")(x))


def prepare(grey: Float[Array, "b h w"], *, tiles: int = 8) -> Float[Array, "b h w"]:
    """Grey values of any range as the network was trained on them, 0 to 1, in 256 steps.

    >>> jax.eval_shape(prepare, jnp.zeros((1, 64, 64))).shape
    (1, 64, 64)
    """
    low, high = (edge(grey, axis=(1, 2), keepdims=True) for edge in (jnp.min, jnp.max))
    x = jnp.floor(255 * (grey - low) / jnp.maximum(high - low, 1e-6))
    x = clahe(x, tiles=tiles)
    return jnp.floor(255 * (x / 255) ** (1 / 1.2)) / 255


_BLOCKS = ("encoder0", "encoder1", "bottom", "decoder1", "decoder0")

KERAS_NAMES: Rules = tuple(
    rule
    for number, path in enumerate((*(f"{block}_conv{i}" for block in _BLOCKS for i in (1, 2)), "classifier"), 1)
    for rule in (
        (rf"convolution2d_{number}\.convolution2d_{number}_W", f"{path}/kernel|oihw turned"),
        (rf"convolution2d_{number}\.convolution2d_{number}_b", f"{path}/bias"),
    )
)
"""Rules from the authors' Keras 1 file, whose kernels are Theano's, to the paths of :class:`RetinaUNet`."""


@register(
    task="semantic",
    paper="arXiv:1505.04597",
    names={"orobix": KERAS_NAMES},
    small={"width": 4},
    overfit=Overfit(learning_rate=3e-3, fields={"width": 12}),
)
def retina_unet(
    num_classes: int = 2,
    depth: int = 2,
    width: int = 32,
    dropout: float = 0.2,
    tiles: int = 8,
    in_channels: int = 3,
    dtype: jnp.dtype | type = jnp.float32,
) -> RetinaUNet:
    """A small U-Net for retinal vessels with public weights; it evens out the image's contrast itself."""
    return RetinaUNet(
        num_classes=num_classes,
        depth=depth,
        width=width,
        dropout=dropout,
        tiles=tiles,
        in_channels=in_channels,
        dtype=dtype,
    )
