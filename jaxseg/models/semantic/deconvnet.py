"""DeconvNet: learning deconvolution network for semantic segmentation (Noh, Hong, Han 2015, arXiv:1505.04366).

VGG16 down to a single vector (fc6, fc7), and its mirror image back up: a 7x7 transposed convolution, then unpooling by
the encoder's switches and transposed convolutions of stride 1, with BatchNorm and ReLU behind every layer. The layers
are those of HyeonwooNoh/DeconvNet. It looks at object proposals, each resized to 224x224; ``proposal_scores`` puts
their scores into the image, ``ensemble_mean`` and ``ensemble_product`` join them with those of FCN-8s.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from jaxseg.backbones.vgg import VGG16
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import CAFFE, Standardize, statistics
from jaxseg.ops.pool import max_pool_with_switches, max_unpool
from jaxseg.registry import Overfit, register

Map = Float[Array, "b _ _ _"]


class DeconvNet(nn.Module):
    """The network of Figure 2.

    >>> net, image = DeconvNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 21)

    Attributes:
      num_classes: channels of the logits.
      blocks: convolutions per block of the encoder, and transposed ones of the decoder.
      width: channels of the first block; they double until eight times that.
      fc_features: channels of fc6 and fc7; 1024 in the SegNet paper's comparison.
      window: side of the maps that fc6 sees as one; 7 belongs to images of 224 pixels.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 21
    blocks: tuple[int, ...] = VGG16
    width: int = 64
    fc_features: int = 4096
    window: int = 7
    in_channels: int = 3
    standardize: Standardize = CAFFE
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels.

        Made for 224x224. A larger image is one in which fc6 slides; a smaller one is padded inside and cropped.
        """
        h, w = image.shape[1:3]
        least = self.window * 2 ** len(self.blocks)
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        x = jnp.pad(x, ((0, 0), (0, max(least - h, 0)), (0, max(least - w, 0)), (0, 0)))
        widths = [self.width * min(2**i, 8) for i in range(len(self.blocks))]
        conv = partial(Conv, dtype=self.dtype)
        deconv = partial(ConvTranspose, stride=1, kernel_init=nn.initializers.normal(0.01), dtype=self.dtype)

        pools = []
        for k, convs in enumerate(self.blocks, 1):
            for i in range(1, convs + 1):
                x = self._act(conv(widths[k - 1], 3, padding=1, name=f"conv{k}_{i}"), x, train=train)
            size = (x.shape[1], x.shape[2])
            x, switches = max_pool_with_switches(x, 2, ceil_mode=True)
            pools.append((size, switches))
        x = self._act(conv(self.fc_features, self.window, name="fc6"), x, train=train)
        x = self._act(conv(self.fc_features, 1, name="fc7"), x, train=train)
        x = self._act(deconv(widths[-1], self.window, name="fc6_deconv"), x, train=train)
        for k in range(len(self.blocks), 0, -1):
            size, switches = pools[k - 1]
            x = max_unpool(x, switches, 2, size=size)
            features = [widths[k - 1]] * (self.blocks[k - 1] - 1) + [widths[max(k - 2, 0)]]
            for i, count in enumerate(features, 1):
                x = self._act(deconv(count, 3, padding=1, name=f"deconv{k}_{i}"), x, train=train)
        x = conv(self.num_classes, 1, name="score")(x)
        return {"logits": x[:, :h, :w].astype(jnp.float32)}

    def _act(self, layer: Conv | ConvTranspose, x: Map, *, train: bool) -> Map:
        shift = nn.initializers.constant(0.001)
        norm = BatchNorm(bias_init=shift, dtype=self.dtype, name=f"{layer.name}_norm")
        return jax.nn.relu(norm(layer(x), train=train))


def proposal_scores(
    model: DeconvNet,
    variables: Any,
    image: Shaped[Array, "h w c"],
    boxes: Float[Array, "p 4"],
    valid: Bool[Array, " p"],
    *,
    side: int = 224,
) -> Float[Array, "h w k"]:
    """Scores of an image from its object proposals (section 4.2): the largest of each class over the boxes of a pixel.

    One box after the other is cut out, resized, scored, resized back and pasted; outside its box a proposal's scores
    are 0. The softmax of the result is the paper's prediction.

    >>> model = DeconvNet(num_classes=3, blocks=(1, 1), width=2, fc_features=4, window=2)
    >>> image, boxes, valid = jnp.zeros((12, 16, 3), jnp.uint8), jnp.array([[2.0, 2.0, 9.0, 9.0]]), jnp.array([True])
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), image[None])
    >>> jax.eval_shape(lambda v: proposal_scores(model, v, image, boxes, valid, side=8), variables).shape
    (12, 16, 3)

    Args:
      model: a network of ``logits``.
      variables: its variables.
      image: raw pixels.
      boxes: x0 y0 x1 y1 in pixels, widened to whole ones and cut at the image's edge. The paper takes the 50 best of
        some 2000.
      valid: which boxes there are; with none, every score is 0.
      side: what boxes are resized to.
    """
    height, width = image.shape[:2]
    raw = model.standardize.to_float(image[None])[0]
    one = jax.ShapeDtypeStruct((1, side, side, model.in_channels), jnp.float32)
    k = jax.eval_shape(model.apply, variables, one)["logits"].shape[-1]

    def step(best: Array, proposal: tuple[Array, Array]) -> tuple[Array, None]:
        box, real = proposal
        pixels = crop_box(raw, box, side=side)
        outputs: Any = model.apply(variables, pixels[None])
        pasted = paste_box(outputs["logits"][0], box, size=(height, width))
        return jnp.where(real, jnp.maximum(best, pasted), best), None

    start = jnp.full((height, width, k), -jnp.inf, jnp.float32)
    best, _ = jax.lax.scan(step, start, (boxes, valid))
    return jnp.where(jnp.any(valid), best, 0.0)


def crop_box(image: Float[Array, "h w c"], box: Float[Array, "4"], *, side: int) -> Float[Array, "side side c"]:
    """Return the box's pixels, widened to whole ones, resized bilinearly to ``side`` (half-pixel centres).

    >>> crop_box(jnp.ones((8, 8, 3)), jnp.array([2.0, 2.0, 6.0, 6.0]), side=4).shape
    (4, 4, 3)
    """
    out = image
    for axis, (start, stop) in enumerate(_spans(box, (image.shape[0], image.shape[1]))):
        length = stop - start
        at = start + (jnp.arange(side, dtype=jnp.float32) + 0.5) * length / side - 0.5
        out = _interpolate(out, axis, jnp.clip(at, start, stop - 1.0), stop - 1.0)
    return out


def paste_box(
    scores: Float[Array, "side side k"], box: Float[Array, "4"], *, size: tuple[int, int]
) -> Float[Array, "h w k"]:
    """Resize scores bilinearly to their box on an image of that size.

    >>> paste_box(jnp.ones((4, 4, 2)), jnp.array([2.0, 2.0, 6.0, 6.0]), size=(8, 8)).shape
    (8, 8, 2)
    """
    out = scores
    for axis, (start, stop) in enumerate(_spans(box, size)):
        pixel = jnp.arange(size[axis], dtype=jnp.float32)
        last = scores.shape[axis] - 1.0
        at = (pixel - start + 0.5) * scores.shape[axis] / (stop - start) - 0.5
        inside = (pixel >= start) & (pixel < stop)
        shape = [1, 1, 1]
        shape[axis] = size[axis]
        out = _interpolate(out, axis, jnp.clip(at, 0.0, last), last)
        out = jnp.where(inside.reshape(shape), out, 0.0)
    return out


def ensemble_mean(deconvnet: Float[Array, "h w k"], fcn: Float[Array, "h w k"]) -> Float[Array, "h w k"]:
    """EDeconvNet as the paper has it (section 4.3): the mean of the two networks' class probabilities, from scores.

    >>> scores = jnp.zeros((2, 2, 3))
    >>> ensemble_mean(scores, scores).shape
    (2, 2, 3)
    """
    return (jax.nn.softmax(deconvnet, axis=-1) + jax.nn.softmax(fcn, axis=-1)) / 2.0


def ensemble_product(deconvnet: Float[Array, "h w k"], fcn: Float[Array, "h w k"]) -> Float[Array, "h w k"]:
    """EDeconvNet as the authors' released code has it: the softmax of the scores' product, FCN's from 0 upwards.

    >>> scores = jnp.zeros((2, 2, 3))
    >>> ensemble_product(scores, scores).shape
    (2, 2, 3)
    """
    return jax.nn.softmax(deconvnet * jnp.maximum(fcn, 0.0), axis=-1)


def _spans(box: Array, size: tuple[int, int]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """First and last but one row, first and last but one column, whole and within the image, at least one pixel."""
    spans = []
    for low, high, n in ((box[1], box[3], size[0]), (box[0], box[2], size[1])):
        start = jnp.clip(jnp.floor(low), 0.0, n - 1.0)
        spans.append((start, jnp.clip(jnp.ceil(high), start + 1.0, float(n))))
    return spans[0], spans[1]


def _interpolate(x: Array, axis: int, at: Array, last: Array | float) -> Array:
    """Values of ``x`` between its indices along an axis; none beyond ``last`` is read."""
    low = jnp.floor(at)
    shape = [1, 1, 1]
    shape[axis] = at.shape[0]
    fraction = (at - low).reshape(shape)
    a, b = (jnp.take(x, i.astype(jnp.int32), axis=axis) for i in (low, jnp.minimum(low + 1.0, last)))
    return a + (b - a) * fraction


@register(
    task="semantic",
    paper="arXiv:1505.04366",
    params=251_805_653,
    small={"blocks": (1, 1), "width": 8, "fc_features": 8, "window": 2},
    overfit=Overfit(),
)
def deconvnet_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeconvNet:
    """DeconvNet: VGG16 down to a vector and its mirror image back up, for object proposals; 251.8 M parameters."""
    return DeconvNet(
        num_classes=num_classes,
        width=width,
        fc_features=fc_features,
        in_channels=in_channels,
        standardize=statistics(standardize, CAFFE, in_channels),
        dtype=dtype,
    )
