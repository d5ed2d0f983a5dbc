"""Any set of heads on one pyramid: objects with masks, and any maps of pixels, of the image and of its lightness.

Mask R-CNN finds the objects. Maps of pixels come from the pyramid's finest level, which has seen all others, and from
the backbone's first map, at half of the image's resolution; each head there has a convolution of its own. Panoptic
scores are those of the label head, with all things added up, as in Panoptic FPN (Kirillov et al. 2019,
arXiv:1901.02446), which has a branch of its own for them.

Heads that are to be ignorant of colours see the image's lightness through the same layers, in the same batch.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.errors import BadInput
from jaxseg.layers.canvas import whole
from jaxseg.layers.conv import Conv
from jaxseg.layers.dense_heads import LabelHead, MapHead
from jaxseg.layers.norm import make_norm
from jaxseg.models.detection.faster_rcnn import fields_of
from jaxseg.models.instance.mask_rcnn import MaskRCNN
from jaxseg.ops.lab import lab_to_rgb, rgb_to_lab
from jaxseg.ops.resize import resize_bilinear

Map = Float[Array, "b _ _ _"]


class MapsBranch(nn.Module):
    """Channels for heads of pixels: shared layers at stride 4 and 2, and a layer for each head.

    >>> branch, maps = MapsBranch(8, 4), (jnp.zeros((1, 4, 4, 6)), jnp.zeros((1, 8, 8, 3)))
    >>> ask = {"depth": (1, slice(None))}
    >>> jax.eval_shape(lambda: branch.init_with_output(jax.random.key(0), *maps, ask, train=False)[0])["depth"].shape
    (1, 16, 16, 1)

    Attributes:
      features: channels of the shared convolutions.
      own: channels of each head's convolution.
      norm: of all of them.
      dtype: compute dtype.
    """

    features: int = 64
    own: int = 32
    norm: str = "batch"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(
        self, coarse: Map, fine: Map, heads: Mapping[str, tuple[int, slice]], *, train: bool
    ) -> dict[str, Float[Array, "_ h w _"]]:
        """Return the channels of each head, at twice the resolution of ``fine``.

        Args:
          coarse: at half of its resolution.
          fine: at half of the image's.
          heads: number of channels of each, and the rows of the batch that it is for.
          train: normalise by the batch.
        """
        x = resize_bilinear(self._conv("coarse", coarse, self.features, train), (fine.shape[1], fine.shape[2]))
        x = self._conv("fine", jnp.concatenate([x, fine], -1), self.features, train)
        return {name: self._head(name, x[rows], channels, train) for name, (channels, rows) in heads.items()}

    def _conv(self, name: str, x: Map, features: int, train: bool) -> Map:
        x = Conv(features, 3, padding=1, use_bias=self.norm == "none", dtype=self.dtype, name=name)(x)
        return jax.nn.relu(make_norm(self.norm)(dtype=self.dtype, name=f"{name}_norm")(x, train=train))

    def _head(self, name: str, x: Map, channels: int, train: bool) -> Map:
        """Return the channels, of which every cell has four: of its two by two pixels."""
        x = self._conv(f"{name}_own", x, self.own, train)
        x = Conv(4 * channels, 1, dtype=self.dtype, name=name)(x)
        b, h, w, _ = x.shape
        return x.reshape(b, h, w, 2, 2, channels).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, channels)


class PyramidHeads(MaskRCNN):
    """Objects and maps of pixels by one backbone and one pyramid; :func:`with_heads` makes it.

    Outputs of a head are called ``task/key`` by its ``task``, those of Mask R-CNN have no prefix.

    >>> from jaxseg.models.instance import mask_rcnn
    >>> with_heads(mask_rcnn.on_resnet(18, 3), (), finds=True).in_channels
    3

    Attributes:
      branch: of the heads of pixels; the backbone's ``c1`` is its finest map.
      heads: of the image.
      grey_heads: of the image's lightness.
      finds: whether objects are found.
      thing_labels: labels that are things, for ``panoptic/logits``: the :class:`LabelHead`'s, all things first as one;
        none without.
    """

    branch: MapsBranch = MapsBranch()
    heads: tuple[MapHead, ...] = ()
    grey_heads: tuple[MapHead, ...] = ()
    finds: bool = True
    thing_labels: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Array]:
        """Return the outputs of all heads, and what :class:`MaskRCNN` returns if objects are found.

        Raises:
          BadInput: two heads have one name, or a head has none.
        """
        rows, height, width = image.shape[:3]
        size = whole(image) if size is None else size
        every = (*self.heads, *self.grey_heads)
        if not all(head.task for head in every) or len({head.task for head in every}) < len(every):
            raise BadInput(f"heads have names of their own (task=...), not {[head.task for head in every]}")
        seen = [image] * (self.finds or bool(self.heads)) + [in_grey(image)] * bool(self.grey_heads)
        # one batch, so that normalisation has one set of statistics
        canvas, found = self._see(jnp.concatenate(seen), jnp.concatenate([size] * len(seen)), train=train)
        levels = self._levels(found, train=train)
        outputs: dict[str, Array] = {}
        if self.finds:
            of_color = [level[:rows] for level in levels]
            objects, of_color, regions = self._find_in(canvas[:rows], of_color, size, targets, train=train)
            outputs |= self._with_masks(objects, of_color, regions, train=train)
        asked = {head.task: (head.channels, slice(0, rows)) for head in self.heads}
        asked |= {head.task: (head.channels, slice(len(canvas) - rows, len(canvas))) for head in self.grey_heads}
        channels = self.branch(levels[0], found["c1"], asked, train=train) if every else {}
        for head in every:
            x = channels[head.task][:, :height, :width]
            outputs |= head(x)
            if isinstance(head, LabelHead) and self.thing_labels:
                outputs["panoptic/logits"] = things_first(x.astype(jnp.float32), self.thing_labels)
        return outputs


def with_heads(
    detector: MaskRCNN,
    heads: tuple[MapHead, ...],
    *,
    grey_heads: tuple[MapHead, ...] = (),
    finds: bool = True,
    thing_labels: tuple[int, ...] = (),
    features: int = 64,
    own: int = 32,
) -> PyramidHeads:
    """Return a network with Mask R-CNN's backbone, pyramid and, if it ``finds`` objects, its own heads.

    Args:
      detector: on a pyramid, with a backbone whose first map, ``c1``, has stride 2.
      heads: of the image.
      grey_heads: of its lightness.
      finds: whether it finds objects.
      thing_labels: labels of the :class:`LabelHead` that are things.
      features: shared channels of the heads of pixels.
      own: channels of each one's own.

    >>> from jaxseg.layers.dense_heads import DepthHead
    >>> from jaxseg.models.instance import mask_rcnn
    >>> detector = mask_rcnn.on_resnet(18, 3, width=4, features=4, dense=8)
    >>> model = with_heads(detector, (DepthHead(task="depth"),), finds=False)
    >>> image = jnp.zeros((1, 40, 60, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])
    >>> {key: value.shape for key, value in found.items()}
    {'depth/depth': (1, 40, 60)}
    """
    branch = MapsBranch(features, own, dtype=detector.dtype)
    return PyramidHeads(
        **fields_of(detector),
        branch=branch,
        heads=heads,
        grey_heads=grey_heads,
        finds=finds,
        thing_labels=thing_labels,
    )


def things_first(logits: Float[Array, "b h w k"], things: tuple[int, ...]) -> Float[Array, "b h w _"]:
    """Return scores of all things together, whose probability is the sum of theirs, and of each kind of stuff.

    >>> things_first(jnp.zeros((1, 1, 1, 3)), (1, 2)).round(2).tolist()
    [[[[0.6899999976158142, 0.0]]]]
    """
    stuff = [k for k in range(logits.shape[-1]) if k not in things]
    together = jax.nn.logsumexp(logits[..., list(things)], axis=-1, keepdims=True)
    return jnp.concatenate([together, logits[..., stuff]], axis=-1)


def in_grey(image: Shaped[Array, "b h w 3"]) -> Shaped[Array, "b h w 3"]:
    """Return images of the same lightness without colours, in the same dtype.

    >>> in_grey(jnp.asarray([[[[255, 0, 0]]]], jnp.uint8)).ravel().tolist()
    [127, 127, 127]

    Raises:
      BadInput: the image has no colours.
    """
    if image.shape[-1] != 3:
        raise BadInput(f"an image of {image.shape[-1]} channels has no lightness: heads that see it need RGB")
    one = 257 if image.dtype == jnp.uint16 else 1
    lab = rgb_to_lab(image.astype(jnp.float32) / one)
    grey = one * lab_to_rgb(jnp.concatenate([lab[..., :1], jnp.zeros_like(lab[..., 1:])], -1))
    return (jnp.rint(grey) if jnp.issubdtype(image.dtype, jnp.integer) else grey).astype(image.dtype)
