"""Bayesian SegNet: how sure the network is (Kendall, Badrinarayanan, Cipolla 2017, arXiv:1511.02680).

Dropout in the deeper half of SegNet stays on in evaluation. Every pass with masks of its own is a sample from an
approximate posterior over the weights: the mean of their softmax is the prediction, their variance its uncertainty.
Where dropout stands follows the authors' released networks (alexgkendall/SegNet-Tutorial).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxseg.layers.standardize import RAW_BGR, Standardize, statistics
from jaxseg.models.semantic.segnet import SegNet, SegNetBasic
from jaxseg.registry import Overfit, register


def monte_carlo(
    key: Array, model: nn.Module, variables: Any, image: Shaped[Array, "b h w c"], *, samples: int
) -> dict[str, Array]:
    """Return what ``samples`` passes with dropout agree on, and how far they differ (section 4).

    One pass after the other, so that memory does not grow with the number of samples. The authors find six passes
    better than the one without dropout that stands for their average.

    >>> model, image = bayesian_segnet_basic(3, width=2), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    >>> variables, key = jax.eval_shape(model.init, jax.random.key(0), image), jax.random.key(1)
    >>> drawn = jax.eval_shape(lambda v, x: monte_carlo(key, model, v, x, samples=6), variables, image)
    >>> drawn["probability"].shape, drawn["variance"].shape
    ((1, 32, 32, 3), (1, 32, 32, 3))

    Args:
      key: of the masks.
      model: a network whose call takes ``sample=True``.
      variables: its variables; BatchNorm keeps its running statistics.
      image: raw pixels.
      samples: number of passes, at least 1.

    Returns:
      ``probability`` f32[b h w k], the mean of the softmax over the samples, and ``variance`` f32[b h w k], its
      variance (divided by ``samples``); the mean of that over the classes is the paper's map of uncertainty.
    """

    def step(i: Any, moments: tuple[Array, Array]) -> tuple[Array, Array]:
        mean, spread = moments
        outputs: Any = model.apply(variables, image, sample=True, rngs={"dropout": jax.random.fold_in(key, i)})
        new = jax.nn.softmax(outputs["logits"], axis=-1)
        moved = mean + (new - mean) / (jnp.asarray(i).astype(jnp.float32) + 1.0)
        return moved, spread + (new - mean) * (new - moved)

    shapes = jax.eval_shape(model.apply, variables, image)
    zeros = jnp.zeros(shapes["logits"].shape, jnp.float32)
    mean, spread = jax.lax.fori_loop(0, samples, step, (zeros, zeros))
    return {"probability": mean, "variance": spread / samples}


@register(task="semantic", paper="arXiv:1511.02680", params=29_449_355)
def bayesian_segnet_vgg16(
    num_classes: int = 11,
    width: int = 64,
    dropout: float = 0.5,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> SegNet:
    """SegNet with dropout in its three deepest levels, for Monte-Carlo samples."""
    return SegNet(
        num_classes=num_classes,
        width=width,
        dropout=dropout,
        in_channels=in_channels,
        standardize=statistics(standardize, RAW_BGR, in_channels),
        dtype=dtype,
    )


@register(
    task="semantic",
    paper="arXiv:1511.02680",
    params=1_416_587,
    overfit=Overfit(steps=80, fields={"width": 8}),
)
def bayesian_segnet_basic(
    num_classes: int = 11,
    width: int = 64,
    dropout: float = 0.5,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> SegNetBasic:
    """SegNet-Basic with dropout in its two deepest levels, for Monte-Carlo samples."""
    return SegNetBasic(
        num_classes=num_classes,
        width=width,
        dropout=dropout,
        in_channels=in_channels,
        standardize=statistics(standardize, RAW_BGR, in_channels),
        dtype=dtype,
    )
