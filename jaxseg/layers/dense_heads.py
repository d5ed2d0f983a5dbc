"""Depth, normals and further maps from any network that labels pixels: its channels are read otherwise."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from jaxseg.errors import BadInput
from jaxseg.ops.color import REACH

Channels = Float[Array, "b h w _"]


@runtime_checkable
class MapHead(Protocol):
    """Reads some of a network's last channels as outputs under the keys of :data:`jaxseg.types.OUTPUTS`."""

    @property
    def task(self) -> str:
        """Name of the task whose outputs they are; empty for none."""
        ...

    @property
    def channels(self) -> int:
        """How many it reads."""
        ...

    def __call__(self, x: Array) -> dict[str, Array]:
        """Return the outputs of those channels [b h w channels]."""
        ...


@dataclass(frozen=True)
class DepthHead:
    """Depth as the exponential of one channel.

    >>> DepthHead(shift=0.0)(jnp.zeros((1, 1, 1, 1)))["depth"].tolist()
    [[[1.0]]]

    Attributes:
      shift: log of the depth in metres where the channel is 0: the mean of log depth; by default that of NYU.
      scale: of the channel: the standard deviation of log depth.
      task: puts ``task/`` before the key.

    Reference: Eigen and Fergus 2015, arXiv:1411.4734: the statistics of NYU are of the authors' release.
    """

    shift: float = 0.82473954
    scale: float = 0.45723134
    task: str = ""

    @property
    def channels(self) -> int:
        """One."""
        return 1

    def __call__(self, x: Channels) -> dict[str, Array]:
        """Return ``depth`` [b h w] in metres; between e^-20 and e^20, so that no beginning overflows."""
        log = self.shift + self.scale * x[..., 0].astype(jnp.float32)
        return {_key("depth", self.task): jnp.exp(jnp.clip(log, -20.0, 20.0))}


@dataclass(frozen=True)
class NormalHead:
    """Unit normals: three channels divided by their length.

    >>> NormalHead()(jnp.asarray([[[[0.0, 0.0, -2.0]]]]))["normal"].tolist()
    [[[[0.0, 0.0, -1.0]]]]

    Attributes:
      task: puts ``task/`` before the key.
    """

    task: str = ""

    @property
    def channels(self) -> int:
        """Three."""
        return 3

    def __call__(self, x: Channels) -> dict[str, Array]:
        """Return ``normal`` [b h w 3]."""
        x = x.astype(jnp.float32)
        return {_key("normal", self.task): x * jnp.reciprocal(jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12))}


@dataclass(frozen=True)
class LabelHead:
    """Scores of classes, as they are.

    >>> list(LabelHead(2, task="parts")(jnp.zeros((1, 1, 1, 2))))
    ['parts/logits']

    Attributes:
      num_classes: how many.
      task: puts ``task/`` before the key.
    """

    num_classes: int
    task: str = ""

    @property
    def channels(self) -> int:
        """One for each class."""
        return self.num_classes

    def __call__(self, x: Channels) -> dict[str, Array]:
        """Return ``logits`` [b h w k]."""
        return {_key("logits", self.task): x.astype(jnp.float32)}


@dataclass(frozen=True)
class ScoreHead:
    """One score of every pixel before the sigmoid, under a key of one's choice.

    >>> list(ScoreHead("saliency_logits")(jnp.zeros((1, 1, 1, 1))))
    ['saliency_logits']

    Attributes:
      key: ``boundary_logits`` or ``saliency_logits``.
      task: puts ``task/`` before the key.
    """

    key: str
    task: str = ""

    @property
    def channels(self) -> int:
        """One."""
        return 1

    def __call__(self, x: Channels) -> dict[str, Array]:
        """Return the scores [b h w]."""
        return {_key(self.key, self.task): x[..., 0].astype(jnp.float32)}


@dataclass(frozen=True)
class ColorHead:
    """Colours, a and b of CIE Lab: two channels through tanh.

    >>> ColorHead()(jnp.full((1, 1, 1, 2), 50.0))["ab"].tolist()
    [[[[110.0, 110.0]]]]

    Attributes:
      task: puts ``task/`` before the key.
    """

    task: str = ""

    @property
    def channels(self) -> int:
        """Two."""
        return 2

    def __call__(self, x: Channels) -> dict[str, Array]:
        """Return ``ab`` [b h w 2]."""
        return {_key("ab", self.task): REACH * jnp.tanh(x.astype(jnp.float32))}


class DenseHeads(nn.Module):
    """Share one network, made for as many classes as the heads read channels, between heads.

    Every network that is registered for semantic segmentation so becomes one for depth, normals or all of them at once:
    its last convolution is the heads'. Auxiliary logits are left out.

    >>> import jax
    >>> from jaxseg.models.semantic.unet import unet
    >>> model = DenseHeads(unet(num_classes=4, depth=1, width=2), (DepthHead(), NormalHead()))
    >>> outputs, _ = model.init_with_output(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
    >>> {key: value.shape for key, value in sorted(outputs.items())}
    {'depth': (1, 8, 8), 'normal': (1, 8, 8, 3)}

    Attributes:
      network: returns ``logits``; its ``num_classes`` is the sum of the heads' channels.
      heads: what the channels are read as, in this order.
    """

    network: Any
    heads: tuple[MapHead, ...]

    @property
    def in_channels(self) -> int:
        """Number of bands of the image."""
        return self.network.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return the outputs of all heads for raw pixels.

        Raises:
          BadInput: the network has another number of channels than the heads read.
        """
        x = self.network(image, train=train)["logits"]
        wanted = sum(head.channels for head in self.heads)
        if x.shape[-1] != wanted:
            raise BadInput(
                f"the network has {x.shape[-1]} outputs, but its heads read {wanted}: set its num_classes to {wanted}"
            )
        outputs: dict[str, Array] = {}
        start = 0
        for head in self.heads:
            outputs.update(head(x[..., start : start + head.channels]))
            start += head.channels
        return outputs


def _key(key: str, task: str) -> str:
    return f"{task}/{key}" if task else key
