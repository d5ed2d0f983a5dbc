"""Normalisation layers; they compute in float32 whatever the compute dtype."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxseg.errors import BadInput, suggest
from jaxseg.layers import axis


class BatchNorm(nn.Module):
    """Batch normalisation over batch, rows and columns.

    With ``train=True`` the statistics are those of the global batch, under every placement; the running statistics move
    towards them by ``1 - momentum``, with the unbiased variance as in torch and cuDNN. ``momentum`` is the share kept:
    torch's 0.1 is 0.9 here.

    >>> norm, x = BatchNorm(), jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    >>> y, _ = norm.apply(norm.init(jax.random.key(0), x, train=False), x, train=True, mutable=["batch_stats"])
    >>> y.round(3).ravel().tolist()
    [-1.0, 1.0]

    Reference:
      Ioffe and Szegedy 2015, arXiv:1502.03167.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool, where: Bool[Array, " b"] | None = None
    ) -> Float[Array, "b h w c"]:
        """Return the normalised map in the compute dtype.

        Args:
          x: the map.
          train: normalise by the statistics of the batch, and move the running ones.
          where: rows that the statistics are of; None for all. Without any, the running ones stay.
        """
        c = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (c,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (c,), jnp.float32)
        scale = self.param("scale", nn.initializers.ones, (c,), jnp.float32) if self.use_scale else jnp.ones(c)
        bias = self.param("bias", self.bias_init, (c,), jnp.float32) if self.use_bias else jnp.zeros(c)
        if train:
            if not self.is_initializing():
                _check_count(x, "/".join(self.path))
            m, v = moments(x, where)
            if not self.is_initializing():
                rows = x.shape[0] if where is None else axis.mean_over_devices(where.sum(dtype=jnp.float32))
                n = rows * x.shape[1] * x.shape[2] * axis.device_count()
                keep = self.momentum if where is None else jnp.where(n > 0, self.momentum, 1.0)
                mean.value = keep * mean.value + (1 - keep) * m
                var.value = keep * var.value + (1 - keep) * v * (n / jnp.maximum(n - 1, 1))
        else:
            m, v = mean.value, var.value
        gain = scale * jax.lax.rsqrt(v + self.epsilon)
        shift = bias - m * gain
        out = x.astype(jnp.float32) * gain.reshape(1, 1, 1, c) + shift.reshape(1, 1, 1, c)
        return out.astype(self.dtype)


def _check_count(x: Float[Array, "b h w c"], path: str) -> None:
    """Raise if there is one value per channel: it would normalise to 0 and spoil the statistics."""
    rows = x.shape[0] * axis.device_count()
    if rows * x.shape[1] * x.shape[2] == 1:
        raise BadInput(
            f"BatchNorm {path} sees one value per channel in training (one image, a map of 1x1): "
            "use two or more images per update and microbatch, larger images, or norm='group' where the model has it"
        )


def moments(
    x: Float[Array, "b h w c"], where: Bool[Array, " b"] | None = None
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Return mean and biased variance of each channel over the global batch, float32.

    Both come from one pass over the map, shifted by each channel's first value, which keeps the difference of squares
    exact if the mean is far from zero.

    Args:
      x: the map.
      where: rows that count; None for all.

    >>> mean, variance = moments(jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1))
    >>> float(mean[0]), float(variance[0])
    (2.0, 1.0)
    """
    x = x.astype(jnp.float32)
    centre = jax.lax.stop_gradient(axis.mean_over_devices(x[:1, :1, :1]))
    d, share = x - centre, jnp.float32(1.0)
    if where is not None:
        d = jnp.where(where.reshape(-1, 1, 1, 1), d, 0.0)
        share = jnp.maximum(axis.mean_over_devices(jnp.mean(where, dtype=jnp.float32)), 1e-30)
    mean = axis.mean_over_devices(jnp.mean(d, axis=(0, 1, 2))) / share
    square = axis.mean_over_devices(jnp.mean(d * d, axis=(0, 1, 2))) / share
    return mean + centre.reshape(-1), jnp.maximum(square - mean * mean, 0.0)


class FrozenBatchNorm(nn.Module):
    """Batch normalisation whose statistics, scale and shift are constants: detectors fine-tune networks that way.

    All four lie in the collection ``batch_stats``, so that no optimiser and no weight decay moves them.

    >>> import jax
    >>> x = jnp.full((1, 1, 1, 2), 3.0)
    >>> layer = FrozenBatchNorm(epsilon=0.0)
    >>> layer.apply(layer.init(jax.random.key(0), x, train=True), x, train=True)[0, 0, 0].tolist()
    [3.0, 3.0]
    """

    epsilon: float = 1e-5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Return the normalised map in the compute dtype; the same in training and at test."""
        del train
        c = x.shape[-1]
        zeros, ones = ("mean", "bias"), ("var", "scale")
        found = {name: self.variable("batch_stats", name, jnp.zeros, (c,), jnp.float32).value for name in zeros}
        found |= {name: self.variable("batch_stats", name, jnp.ones, (c,), jnp.float32).value for name in ones}
        gain = found["scale"] * jax.lax.rsqrt(found["var"] + self.epsilon)
        shift = found["bias"] - found["mean"] * gain
        out = x.astype(jnp.float32) * gain.reshape(1, 1, 1, c) + shift.reshape(1, 1, 1, c)
        return out.astype(self.dtype)


class GroupNorm(nn.Module):
    """Group normalisation: statistics of each image over groups of channels.

    ``groups=0`` is one channel per group (instance normalisation), ``groups=1`` all channels (layer normalisation over
    the image).

    >>> x = jnp.array([1.0, 3.0]).reshape(1, 2, 1, 1)
    >>> y = GroupNorm(groups=1).init_with_output(jax.random.key(0), x, train=False)[0]
    >>> y.round(3).ravel().tolist()
    [-1.0, 1.0]

    Reference:
      Wu and He 2018, arXiv:1803.08494.
    """

    groups: int = 32
    epsilon: float = 1e-5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Return the normalised map in the compute dtype, in training and evaluation alike."""
        del train
        b, h, w, c = x.shape
        groups = self.groups or c
        if c % groups:
            raise BadInput(f"{c} channels do not split into {groups} groups; choose a divisor of {c}")
        scale = self.param("scale", nn.initializers.ones, (c,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (c,), jnp.float32)
        grouped = x.astype(jnp.float32).reshape(b, h, w, groups, c // groups)
        mean = grouped.mean(axis=(1, 2, 4), keepdims=True)
        var = jnp.square(grouped - mean).mean(axis=(1, 2, 4), keepdims=True)
        out = ((grouped - mean) * jax.lax.rsqrt(var + self.epsilon)).reshape(b, h, w, c)
        return (out * scale.reshape(1, 1, 1, c) + bias.reshape(1, 1, 1, c)).astype(self.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation of each pixel over its channels, as in transformers.

    >>> y = LayerNorm().init_with_output(jax.random.key(0), jnp.array([1.0, 3.0]).reshape(1, 1, 1, 2), train=False)[0]
    >>> y.round(3).ravel().tolist()
    [-1.0, 1.0]

    Reference:
      Ba et al. 2016, arXiv:1607.06450.
    """

    epsilon: float = 1e-6
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Return the normalised map in the compute dtype, in training and evaluation alike."""
        del train
        c = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (c,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (c,), jnp.float32)
        x = x.astype(jnp.float32)
        mean = x.mean(axis=-1, keepdims=True)
        var = jnp.square(x - mean).mean(axis=-1, keepdims=True)
        out = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        return (out * scale.reshape(1, 1, 1, c) + bias.reshape(1, 1, 1, c)).astype(self.dtype)


class Identity(nn.Module):
    """No normalisation, with the signature of one.

    >>> Identity().apply({}, jnp.ones((1, 1, 1, 2)), train=False).ravel().tolist()
    [1.0, 1.0]
    """

    dtype: jnp.dtype | type = jnp.float32

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Return the map in the compute dtype."""
        del train
        return x.astype(self.dtype)


NORMS: dict[str, Callable[..., nn.Module]] = {
    "batch": BatchNorm,
    "frozen": FrozenBatchNorm,
    "group": GroupNorm,
    "instance": partial(GroupNorm, groups=0),
    "layer": partial(GroupNorm, groups=1),
    "pixel": LayerNorm,
    "none": Identity,
}


def make_norm(kind: str) -> Callable[..., nn.Module]:
    """Return the normalisation of a name.

    "batch", "frozen", "group", "instance", "layer" (over channels and pixels), "pixel" (over channels) or "none".

    >>> make_norm("none") is Identity
    True

    Raises:
      BadInput: unknown name.
    """
    if kind not in NORMS:
        raise BadInput(f"no normalisation is called {kind!r}{suggest(kind, NORMS)}")
    return NORMS[kind]
