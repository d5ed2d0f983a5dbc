"""The sliding window: a network that classifies the middle pixel of a patch, run on the patch of every pixel.

``PatchClassifier`` is N4 of Ciresan et al., *Deep Neural Networks Segment Neuronal Membranes in Electron Microscopy
Images* (NIPS 2012): four convolutions, each under a 2x2 max-pool, and two dense layers on a 95x95 window. The scores of
all windows come out in three ways that agree: patch by patch, as it was done; by shift-and-stitch; in one pass, with
strides traded for dilation, which is what the module itself does.

``FullResolutionFCN`` is the other end: convolutions at the image's own resolution and nothing else.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv
from jaxseg.layers.standardize import GREY, IMAGENET, Standardize, statistics
from jaxseg.ops import conv as ops
from jaxseg.ops import sliding
from jaxseg.ops.pool import max_filter, max_pool
from jaxseg.registry import Overfit, register

Map = Float[Array, "b _ _ _"]
Scores = Float[Array, "b h w k"]


class PatchClassifier(nn.Module):
    """The classifier, evaluated at every pixel of an image whose borders are mirrored.

    >>> net, image = PatchClassifier(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 2)

    Attributes:
      num_classes: channels of the logits.
      kernels: side of each convolution; a 2x2 max-pool follows each.
      width: channels of every convolution.
      hidden: units of the first dense layer.
      top: side of the last pooled map, which the first dense layer sees whole.
      in_channels: of the image.
      standardize: statistics of the input; one grey channel in the paper.
      dtype: compute dtype.
    """

    num_classes: int = 2
    kernels: tuple[int, ...] = (4, 5, 4, 4)
    width: int = 48
    hidden: int = 200
    top: int = 3
    in_channels: int = 3
    standardize: Standardize = GREY
    dtype: jnp.dtype | type = jnp.float32

    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size, in one pass at dilation."""
        del train
        return {"logits": self.scores(mirrored(self, image), output_stride=1).astype(jnp.float32)}

    @nn.compact
    def scores(self, x: Map, *, output_stride: int) -> Map:
        """Return the scores of every ``output_stride``-th window of a standardised map, without padding.

        Pools beyond that stride look at every place and dilate what follows.

        Raises:
          BadInput: an output stride that no pools make, or a map smaller than the window.
        """
        if output_stride not in [2**i for i in range(len(self.kernels) + 1)]:
            raise BadInput(f"output stride {output_stride} of a patch classifier of stride {self.stride}")
        if min(x.shape[1:3]) < self.window:
            raise BadInput(f"a window of {self.window} pixels does not fit {x.shape[1]}x{x.shape[2]}")
        x = x.astype(self.dtype)
        dilation = 1
        for i, k in enumerate(self.kernels, 1):
            x = jax.nn.relu(Conv(self.width, k, dilation=dilation, dtype=self.dtype, name=f"conv{i}")(x))
            if 2**i <= output_stride:
                x = max_pool(x, 2)
            else:
                x = max_filter(x, 2, dilation=dilation)
                dilation *= 2
        x = jax.nn.relu(Conv(self.hidden, self.top, dilation=dilation, dtype=self.dtype, name="fc1")(x))
        return Conv(self.num_classes, 1, dtype=self.dtype, name="fc2")(x)

    @property
    def stride(self) -> int:
        """Pixels between two cells of the last pooled map: 16 in the paper."""
        return 1 << len(self.kernels)

    @property
    def window(self) -> int:
        """Side of the patch that one score sees: 95 in the paper."""
        side = self.top
        for k in reversed(self.kernels):
            side = 2 * side + k - 1
        return side


def mirrored(model: PatchClassifier, image: Shaped[Array, "b h w c"]) -> Map:
    """Return the standardised image with its borders mirrored, so that every pixel is the middle of a window.

    >>> from jaxseg.registry import create_small
    >>> jax.eval_shape(lambda x: mirrored(create_small("patch_classifier"), x), jnp.zeros((1, 8, 8, 3), jnp.uint8)).ndim
    4
    """
    before = (model.window - 1) // 2
    side = (before, model.window - 1 - before)
    return jnp.pad(model.standardize(image, model.in_channels), ((0, 0), side, side, (0, 0)), mode="reflect")


def score_patch_by_patch(
    model: PatchClassifier, variables: dict, image: Shaped[Array, "b h w c"], *, batch: int = 64
) -> Scores:
    """Logits as the paper computed them: each pixel's patch through convolutions, pools and dense layers by itself.

    >>> model, image = PatchClassifier(kernels=(2,), width=2, hidden=4, top=2), jnp.zeros((1, 6, 8, 3), jnp.uint8)
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), image)
    >>> jax.eval_shape(lambda v: score_patch_by_patch(model, v, image), variables).shape
    (1, 6, 8, 2)
    """
    return sliding.patch_by_patch(
        lambda patches: classify(model, variables, patches), mirrored(model, image), model.window, batch=batch
    )


def score_shift_and_stitch(model: PatchClassifier, variables: dict, image: Shaped[Array, "b h w c"]) -> Scores:
    """Logits from ``stride**2`` runs of the strided convolutional form on shifted images.

    >>> model, image = PatchClassifier(kernels=(2,), width=2, hidden=4, top=2), jnp.zeros((1, 6, 8, 3), jnp.uint8)
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), image)
    >>> jax.eval_shape(lambda v: score_shift_and_stitch(model, v, image), variables).shape
    (1, 6, 8, 2)
    """

    def net(x: Map) -> Array:
        return model.apply(variables, x, output_stride=model.stride, method="scores")  # type: ignore[return-value]

    return sliding.shift_and_stitch(net, mirrored(model, image), model.window, model.stride)


def score_dilated(model: PatchClassifier, variables: dict, image: Shaped[Array, "b h w c"]) -> Scores:
    """Logits in one pass, strides traded for dilation: the module's own.

    >>> model, image = PatchClassifier(kernels=(2,), width=2, hidden=4, top=2), jnp.zeros((1, 6, 8, 3), jnp.uint8)
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), image)
    >>> jax.eval_shape(lambda v: score_dilated(model, v, image), variables).shape
    (1, 6, 8, 2)
    """
    return model.apply(variables, image)["logits"]  # type: ignore[index]


def classify(model: PatchClassifier, variables: dict, patches: Map) -> Float[Array, "b k"]:
    """Logits of standardised patches ``[n window window c]``: strided pools, then dense layers on the flattened map.

    >>> model, image = PatchClassifier(kernels=(2,), width=2, hidden=4, top=2), jnp.zeros((1, 6, 8, 3), jnp.uint8)
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), image)
    >>> patches = jnp.zeros((3, model.window, model.window, 1))
    >>> jax.eval_shape(lambda v: classify(model, v, patches), variables).shape
    (3, 2)
    """
    params = variables["params"]
    x = patches.astype(model.dtype)
    for i in range(1, len(model.kernels) + 1):
        x = max_pool(jax.nn.relu(_biased(ops.conv(x, params[f"conv{i}"]["kernel"].astype(x.dtype)), params, i)), 2)
    x = x.reshape(x.shape[0], -1)
    for name, last in (("fc1", False), ("fc2", True)):
        weight, bias = (params[name][leaf].astype(x.dtype) for leaf in ("kernel", "bias"))
        x = x @ sliding.conv_to_dense(weight) + bias.reshape(1, -1)
        x = x if last else jax.nn.relu(x)
    return x


def _biased(x: Map, params: dict, i: int) -> Map:
    return x + params[f"conv{i}"]["bias"].astype(x.dtype).reshape(1, 1, 1, -1)


class FullResolutionFCN(nn.Module):
    """Convolutions at the image's resolution: no pool, no stride, so that each layer costs what the first does.

    >>> net, image = FullResolutionFCN(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 21)

    Attributes:
      num_classes: channels of the logits.
      depth: number of 3x3 convolutions; the field of view is ``2 * depth + 1`` pixels.
      width: channels of each.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 21
    depth: int = 4
    width: int = 64
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        del train
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        for i in range(1, self.depth + 1):
            x = jax.nn.relu(Conv(self.width, 3, padding=1, dtype=self.dtype, name=f"conv{i}")(x))
        return {"logits": Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x).astype(jnp.float32)}


@register(
    task="semantic",
    paper="Ciresan et al., NIPS 2012",
    params=219_290,
    small={"width": 6, "hidden": 6, "kernels": (4, 5)},
    overfit=Overfit(steps=200),
)
def patch_classifier(
    num_classes: int = 2,
    width: int = 48,
    hidden: int = 200,
    kernels: tuple[int, ...] = (4, 5, 4, 4),
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> PatchClassifier:
    """The sliding-window classifier N4: a window of 95 pixels decides its middle one; run at all places at once."""
    return PatchClassifier(
        num_classes=num_classes,
        kernels=kernels,
        width=width,
        hidden=hidden,
        in_channels=in_channels,
        standardize=statistics(standardize, GREY, in_channels),
        dtype=dtype,
    )


@register(
    task="semantic",
    paper="CS231n 2017, lecture 11",
    small={"depth": 2, "width": 4},
    overfit=Overfit(quick=True, fields={"depth": 4, "width": 8}),
)
def full_resolution_fcn(
    num_classes: int = 21,
    depth: int = 4,
    width: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FullResolutionFCN:
    """Convolutions at full resolution and nothing else: the baseline that downsampling is measured against."""
    return FullResolutionFCN(
        num_classes=num_classes,
        depth=depth,
        width=width,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )
