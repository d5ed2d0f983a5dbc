"""Heads on regions of interest: what is in a box and where exactly, its mask, its keypoints.

Regions come as ``[b p y x c]`` from :func:`jaxseg.ops.roi.roi_align`; both first axes become one inside.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import make_norm
from jaxseg.ops.resize import resize_bilinear
from jaxseg.types import Rules

Regions = Float[Array, "b p y x c"]
Vectors = Float[Array, "b p d"]

fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
uniform_fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""U(-sqrt(1 / fan_in), sqrt(1 / fan_in)): torch's start of linear layers."""


class BoxHead(nn.Module):
    """Features of a region: convolutions, if any, then dense layers (Lin et al. 2017, section 4.2).

    Attributes:
      convs: channels of 3x3 convolutions before the dense layers; () in the paper, four of 256 in torchvision's v2.
      dense: units of the dense layers; () takes the mean over the cells instead.
      norm: of the convolutions; with "none" they have biases.
      dropout: rate after each dense layer.
      ranks: of the dense layers' matrices, each then a product of two (Girshick 2015, section 3.1); () for whole ones.
      dtype: compute dtype.

    >>> regions = jnp.zeros((2, 3, 7, 7, 4))
    >>> jax.eval_shape(lambda: BoxHead(dense=(8,)).init_with_output(jax.random.key(0), regions, train=False)[0]).shape
    (2, 3, 8)
    """

    convs: tuple[int, ...] = ()
    dense: tuple[int, ...] = (1024, 1024)
    norm: str = "none"
    dropout: float = 0.0
    ranks: tuple[int, ...] = ()
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, regions: Regions, valid: Bool[Array, "b p"] | None = None, *, train: bool) -> Vectors:
        """Return a vector of ``dense[-1]`` numbers of each region, or of one for each channel.

        Args:
          regions: cells of the regions.
          valid: regions of which statistics of normalisation are taken in training; None for all.
          train: as normalisation takes it.
        """
        b, p = regions.shape[:2]
        x = regions.reshape(b * p, *regions.shape[2:]).astype(self.dtype)
        x = _convs(self, x, self.convs, self.norm, valid, train=train)
        if not self.dense:
            return x.astype(jnp.float32).mean((1, 2)).astype(self.dtype).reshape(b, p, -1)
        first = len(self.convs) + 1 if self.convs else 6  # as torchvision numbers them
        options: dict[str, Any] = {"kernel_init": uniform_fan_in, "dtype": self.dtype}
        for i, units in enumerate(self.dense):
            name, window = f"fc{first + i}", (x.shape[1], x.shape[2])
            if self.ranks:
                x = Conv(self.ranks[i], window, use_bias=False, **options, name=f"{name}_right")(x)
                window = (1, 1)
            x = jax.nn.relu(Conv(units, window, **options, name=name)(x))
            x = Dropout(self.dropout, name=f"{name}_dropout")(x.reshape(b, p, 1, units), train=train)
            x = x.reshape(b * p, 1, 1, units)
        return x.reshape(b, p, -1)


class BoxPredictor(nn.Module):
    """Class scores and box codes of each region's vector, each by one dense layer.

    Attributes:
      outputs: classes and background.
      coded: classes that have a box code of their own.
      dtype: compute dtype.

    >>> x = jnp.zeros((2, 3, 8))
    >>> logits, codes = jax.eval_shape(lambda: BoxPredictor(5, 5).init_with_output(jax.random.key(0), x)[0])
    >>> logits.shape, codes.shape
    ((2, 3, 5), (2, 3, 5, 4))
    """

    outputs: int
    coded: int
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Vectors) -> tuple[Float[Array, "b p k"], Float[Array, "b p q 4"]]:
        """Return logits and codes, float32."""
        cells = x[:, :, None, None].reshape(-1, 1, 1, x.shape[-1])
        logits = Conv(self.outputs, 1, kernel_init=nn.initializers.normal(0.01), dtype=self.dtype, name="logits")(cells)
        codes = Conv(4 * self.coded, 1, kernel_init=nn.initializers.normal(0.001), dtype=self.dtype, name="deltas")(
            cells
        )
        b, p = x.shape[:2]
        return (
            logits.reshape(b, p, self.outputs).astype(jnp.float32),
            codes.reshape(b, p, self.coded, 4).astype(jnp.float32),
        )


class MaskHead(nn.Module):
    """Masks of a region, one for each class (He et al. 2017, arXiv:1703.06870, Figure 4, right).

    Attributes:
      convs: channels of the 3x3 convolutions.
      upsampled: channels after the transposed convolution.
      norm: of the convolutions; with "none" they have biases.
      dtype: compute dtype.

    >>> head, regions = MaskHead((4,), 4), jnp.zeros((1, 2, 14, 14, 4))
    >>> jax.eval_shape(lambda: head.init_with_output(jax.random.key(0), regions, 5, train=False)[0]).shape
    (1, 2, 28, 28, 5)
    """

    convs: tuple[int, ...] = (256, 256, 256, 256)
    upsampled: int = 256
    norm: str = "none"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(
        self, regions: Regions, outputs: int, valid: Bool[Array, "b p"] | None = None, *, train: bool
    ) -> Float[Array, "b p m m k"]:
        """Return so many masks of each region as logits, of twice the regions' side, float32.

        Args:
          regions: cells of the regions.
          outputs: masks of each.
          valid: regions of which statistics of normalisation are taken in training; None for all.
          train: as normalisation takes it.
        """
        b, p = regions.shape[:2]
        x = regions.reshape(b * p, *regions.shape[2:]).astype(self.dtype)
        x = _convs(self, x, self.convs, self.norm, valid, train=train)
        options = {"kernel_init": fan_out_normal, "dtype": self.dtype}
        x = jax.nn.relu(ConvTranspose(self.upsampled, 2, stride=2, **options, name="upsample")(x))
        x = Conv(outputs, 1, **options, name="logits")(x)
        return x.reshape(b, p, *x.shape[1:]).astype(jnp.float32)


class KeypointHead(nn.Module):
    """Heatmaps of a region, one for each joint (He et al. 2017, section 5; Detectron's head).

    Attributes:
      joints: heatmaps of each region.
      convs: channels of the 3x3 convolutions.
      dtype: compute dtype.

    >>> head, regions = KeypointHead(5, (4,)), jnp.zeros((1, 2, 14, 14, 4))
    >>> jax.eval_shape(lambda: head.init_with_output(jax.random.key(0), regions, train=False)[0]).shape
    (1, 2, 56, 56, 5)
    """

    joints: int = 17
    convs: tuple[int, ...] = (512,) * 8
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, regions: Regions, *, train: bool) -> Float[Array, "b p m m j"]:
        """Return heatmap logits of four times the regions' side, float32."""
        b, p = regions.shape[:2]
        x = regions.reshape(b * p, *regions.shape[2:]).astype(self.dtype)
        x = _convs(self, x, self.convs, "none", None, train=train)
        options = {"stride": 2, "padding": 1, "kernel_init": fan_out_normal, "dtype": self.dtype}
        x = ConvTranspose(self.joints, 4, **options, name="upsample")(x)
        x = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))
        return x.reshape(b, p, *x.shape[1:]).astype(jnp.float32)


def apply_where(
    head: nn.Module, regions: Regions, wanted: Bool[Array, "b p"], *args: Any, parts: int = 8, train: bool
) -> Float[Array, "b p m m k"]:
    """Apply a head to regions part by part, without those parts in which no image wants any.

    The losses of masks and keypoints are of positive regions alone, which come first and are mostly few, and these
    heads cost more than all else.

    Args:
      head: whose outcome for a region depends on that region alone, bound to its variables, which it only reads.
      regions: of all images.
      wanted: the regions whose outcome matters; that of others may be zeros.
      args: what the head takes besides.
      parts: of equal length, into which the regions are divided; 1 if the number of regions cannot be.
      train: as the head takes it.

    >>> head, regions = MaskHead((4,), 4), jnp.ones((1, 8, 14, 14, 4))
    >>> variables = head.init(jax.random.key(0), regions, 5, train=True)
    >>> logits = apply_where(head.bind(variables), regions, jnp.arange(8)[None] < 1, 5, train=True)
    >>> jnp.any(logits != 0, axis=(2, 3, 4)).tolist()
    [[True, False, False, False, False, False, False, False]]
    """
    alone, variables = head.unbind()
    b, p = wanted.shape
    parts = parts if p % parts == 0 else 1
    shape = jax.eval_shape(lambda x: alone.apply(variables, x, *args, train=train), regions[:, : p // parts])

    def one(part: tuple[Array, Array]) -> Array:
        return jax.lax.cond(
            part[1].any(),
            lambda x: alone.apply(variables, x, *args, train=train),
            lambda x: jnp.zeros(shape.shape, shape.dtype),
            part[0],
        )

    def split(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(b, parts, p // parts, *x.shape[2:]), 1, 0)

    found = jax.lax.map(one, (split(regions), split(wanted)))
    return jnp.moveaxis(found, 0, 1).reshape(b, p, *found.shape[3:])


def _convs(
    head: nn.Module, x: Array, channels: tuple[int, ...], norm: str, valid: Array | None, *, train: bool
) -> Array:
    rows = {} if valid is None or norm != "batch" else {"where": valid.reshape(-1)}
    for i, features in enumerate(channels):
        conv = Conv(
            features,
            3,
            padding=1,
            use_bias=norm == "none",
            kernel_init=fan_out_normal,
            dtype=x.dtype,
            name=f"conv{i}",
            parent=head,
        )
        layer = make_norm(norm)(dtype=x.dtype, name=f"conv{i}_norm", parent=head)
        x = jax.nn.relu(layer(conv(x), train=train, **rows))
    return x


_LEAVES = (("weight", "kernel"), ("bias", "bias"))
_NORM = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))


def torchvision_box_names(source: str, path: str) -> Rules:
    r"""Return rules from torchvision's ``TwoMLPHead`` or ``FastRCNNConvFCHead``, and ``FastRCNNPredictor``.

    >>> torchvision_box_names(r"roi_heads", "box")[0]
    ('roi_heads\\.box_head\\.fc(6|7)\\.weight', 'box_head/fc\\1/kernel|dense')
    """
    rules: list[tuple[str, str | None]] = []
    for theirs, ours in (("weight", "kernel|dense"), ("bias", "bias")):
        rules.append((rf"{source}\.box_head\.fc(6|7)\.{theirs}", rf"{path}_head/fc\1/{ours}"))
        rules.append((rf"{source}\.box_head\.5\.{theirs}", f"{path}_head/fc5/{ours}"))
        rules.append((rf"{source}\.box_predictor\.cls_score\.{theirs}", f"{path}_predictor/logits/{ours}"))
        rules.append((rf"{source}\.box_predictor\.bbox_pred\.{theirs}", f"{path}_predictor/deltas/{ours}"))
    for theirs, ours in _LEAVES:
        rules.append((rf"{source}\.box_head\.([0-3])\.0\.{theirs}", rf"{path}_head/conv\1/{ours}"))
    rules += [
        (rf"{source}\.box_head\.([0-3])\.1\.{theirs}", rf"{path}_head/conv\1_norm/{ours}") for theirs, ours in _NORM
    ]
    return tuple(rules)


def torchvision_mask_names(source: str, path: str) -> Rules:
    r"""Return rules from torchvision's ``MaskRCNNHeads`` and ``MaskRCNNPredictor``, also from before version 0.13.

    >>> torchvision_mask_names(r"roi_heads", "mask")[0]
    ('roi_heads\\.mask_head\\.(\\d)\\.0\\.weight', 'mask/conv\\1/kernel')
    """
    rules: list[tuple[str, str | None]] = []
    for theirs, ours in _LEAVES:
        rules.append((rf"{source}\.mask_head\.(\d)\.0\.{theirs}", rf"{path}/conv\1/{ours}"))
        for i in range(4):
            rules.append((rf"{source}\.mask_head\.mask_fcn{i + 1}\.{theirs}", f"{path}/conv{i}/{ours}"))
        layout = "|iohw" * (theirs == "weight")
        rules.append((rf"{source}\.mask_predictor\.conv5_mask\.{theirs}", f"{path}/upsample/{ours}{layout}"))
        rules.append((rf"{source}\.mask_predictor\.mask_fcn_logits\.{theirs}", f"{path}/logits/{ours}"))
    norm = rf"{source}\.mask_head\.(\d)\.1"
    rules += [(rf"{norm}\.{theirs}", rf"{path}/conv\1_norm/{ours}") for theirs, ours in _NORM]
    return tuple(rules)


def torchvision_keypoint_names(source: str, path: str) -> Rules:
    r"""Return rules from torchvision's ``KeypointRCNNHeads`` and ``KeypointRCNNPredictor``.

    >>> torchvision_keypoint_names(r"roi_heads", "keypoints")[-1][1]
    'keypoints/upsample/bias'
    """
    rules: list[tuple[str, str | None]] = []
    for i in range(8):
        rules += [
            (rf"{source}\.keypoint_head\.{2 * i}\.{theirs}", f"{path}/conv{i}/{ours}") for theirs, ours in _LEAVES
        ]
    lowres = rf"{source}\.keypoint_predictor\.kps_score_lowres"
    rules += [(rf"{lowres}\.weight", f"{path}/upsample/kernel|iohw"), (rf"{lowres}\.bias", f"{path}/upsample/bias")]
    return tuple(rules)


def caffe_box_names(path: str) -> Rules:
    r"""Return rules from the dense layers of Fast and Faster R-CNN in Caffe; their codes have no weights.

    >>> caffe_box_names("box")[-2]
    ('bbox_pred\\.weight', 'box_predictor/deltas/kernel|region codes')
    """
    return (
        (r"(fc[67])\.weight", rf"{path}_head/\1/kernel|dense"),
        (r"(fc[67])\.bias", rf"{path}_head/\1/bias"),
        (r"cls_score\.weight", f"{path}_predictor/logits/kernel|dense"),
        (r"cls_score\.bias", f"{path}_predictor/logits/bias"),
        (r"bbox_pred\.weight", f"{path}_predictor/deltas/kernel|region codes"),
        (r"bbox_pred\.bias", f"{path}_predictor/deltas/bias|region codes"),
    )


def detectron2_box_names(source: str, path: str) -> Rules:
    r"""Return rules from detectron2's ``FastRCNNConvFCHead`` and ``FastRCNNOutputLayers``.

    >>> detectron2_box_names(r"roi_heads", "box")[0]
    ('roi_heads\\.box_head\\.fc1\\.weight', 'box_head/fc6/kernel|dense')
    """
    rules: list[tuple[str, str | None]] = []
    for theirs, ours, layout in (("weight", "kernel", "|dense"), ("bias", "bias", "")):
        for i in (1, 2):
            rules.append((rf"{source}\.box_head\.fc{i}\.{theirs}", f"{path}_head/fc{i + 5}/{ours}{layout}"))
        predictor = rf"{source}\.box_predictor"
        rules.append((rf"{predictor}\.cls_score\.{theirs}", f"{path}_predictor/logits/{ours}|background last"))
        rules.append((rf"{predictor}\.bbox_pred\.{theirs}", f"{path}_predictor/deltas/{ours}{layout}"))
    return tuple(rules)


def detectron2_mask_names(source: str, path: str) -> Rules:
    r"""Return rules from detectron2's ``MaskRCNNConvUpsampleHead``.

    >>> detectron2_mask_names(r"roi_heads", "mask")[0]
    ('roi_heads\\.mask_head\\.mask_fcn1\\.weight', 'mask/conv0/kernel')
    """
    rules: list[tuple[str, str | None]] = []
    for theirs, ours in _LEAVES:
        for i in range(4):
            rules.append((rf"{source}\.mask_head\.mask_fcn{i + 1}\.{theirs}", f"{path}/conv{i}/{ours}"))
        layout = "|iohw" * (theirs == "weight")
        rules.append((rf"{source}\.mask_head\.deconv\.{theirs}", f"{path}/upsample/{ours}{layout}"))
        rules.append((rf"{source}\.mask_head\.predictor\.{theirs}", f"{path}/logits/{ours}"))
    return tuple(rules)


def detectron2_keypoint_names(source: str, path: str) -> Rules:
    r"""Return rules from detectron2's ``KRCNNConvDeconvUpsampleHead``.

    >>> detectron2_keypoint_names(r"roi_heads", "keypoints")[-1][1]
    'keypoints/upsample/bias'
    """
    rules: list[tuple[str, str | None]] = []
    for i in range(8):
        rules += [
            (rf"{source}\.keypoint_head\.conv_fcn{i + 1}\.{theirs}", f"{path}/conv{i}/{ours}")
            for theirs, ours in _LEAVES
        ]
    lowres = rf"{source}\.keypoint_head\.score_lowres"
    rules += [(rf"{lowres}\.weight", f"{path}/upsample/kernel|iohw"), (rf"{lowres}\.bias", f"{path}/upsample/bias")]
    return tuple(rules)
