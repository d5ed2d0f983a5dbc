"""MediaPipe's hair segmentation: real-time hair segmentation and recoloring on mobile GPUs (Tkachenka et al. 2019,
arXiv:1907.06740).

An hourglass after ENet for a phone's camera: bottlenecks of 4 to 32 channels, depthwise-separable or dilated, three
poolings whose argmax travels to three unpoolings, five transposed convolutions. Its fourth input channel is the mask
of the frame before. The paper gives no layer table: widths and order are those of the published TFLite model, whose
normalisations are folded into the convolutions.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Shaped

from jaxseg.layers.activation import PReLU
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.standardize import UNIT, Standardize, statistics
from jaxseg.ops.pad import pad_to_multiple
from jaxseg.ops.pool import max_pool_with_switches, max_unpool
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]
Switches = Int8[Array, "b _ _ _"]

SEPARABLE, WIDE = "separable", "separable5"

STAGES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (16, (SEPARABLE, SEPARABLE)),
    (32, (SEPARABLE,) * 4),
    (16, (SEPARABLE, "dilated2", WIDE, "dilated4", SEPARABLE, "dilated8") * 2),
)
"""Of the contracting path: channels inside the block that halves the map, and the kinds of those that follow."""


class HairNet(nn.Module):
    """The whole network.

    >>> net, image = HairNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 2)

    Attributes:
      num_classes: channels of the logits; the published model has background and hair.
      width: factor of every number of channels between the image and the logits.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 2
    width: float = 1.0
    in_channels: int = 3
    standardize: Standardize = UNIT
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        *,
        previous: Float[Array, "b h w"] | None = None,
        train: bool = False,
    ) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels, padded inside to multiples of 32.

        Args:
          image: the frame.
          previous: probability of hair in the frame before; None, as for a still picture, is zero everywhere.
          train: changes nothing: there is neither dropout nor a norm.
        """
        h, w = image.shape[1:3]
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        mask = jnp.zeros((*x.shape[:3], 1), x.dtype) if previous is None else previous[..., None].astype(x.dtype)
        x = pad_to_multiple(jnp.concatenate([x, mask], axis=-1), 32)
        for i, features in enumerate((8, 32), 1):
            x = _prelu(self, f"stem{i}", _conv(self, f"stem{i}", x, self._wide(features), 2, stride=2))
        skips, switches = [], []
        for i, ((inner, kinds), features) in enumerate(zip(STAGES, (64, 128, 128), strict=True), 1):
            down = Down(self._wide(features), self._wide(inner), dtype=self.dtype, name=f"stage{i}_down")
            x, where = down(x)
            skips.append(x)
            switches.append(where)
            inner = 8 if i == 3 else 16
            for j, kind in enumerate(kinds, 1):
                x = Bottleneck(self._wide(inner), kind, dtype=self.dtype, name=f"stage{i}_{j}")(x)
        x = Bottleneck(self._wide(4), dtype=self.dtype, name="bottom")(x)
        for i, (inner, features) in enumerate(((8, 128), (8, 64), (4, 32)), 1):
            up = Up(self._wide(features), self._wide(inner), dtype=self.dtype, name=f"up{i}")
            x = up(x, switches[-i])
            if i < 3:
                x = jnp.concatenate([x, skips[-i - 1]], axis=-1)
            joined = Bottleneck(
                self._wide((8, 4, 4)[i - 1]), features=self._wide(features), dtype=self.dtype, name=f"join{i}"
            )
            x = joined(x)
        x = ConvTranspose(self._wide(8), 2, stride=2, dtype=self.dtype, name="head")(x)
        x = _prelu(self, "head", x)
        x = ConvTranspose(self.num_classes, 2, stride=2, dtype=self.dtype, name="classifier")(x)
        return {"logits": x[:, :h, :w].astype(jnp.float32)}

    def _wide(self, channels: int) -> int:
        return max(1, round(channels * self.width))


class Bottleneck(nn.Module):
    """1x1 reduction, what ``kind`` says, 1x1 expansion, sum with the input or, for other channels, its projection.

    ``kind`` is "plain" (3x3), "dilatedN", "separable" (depthwise, 1x1, depthwise) or "separable5" (depthwise, 1x1).

    >>> block, x = Bottleneck(inner=2, kind="dilated4", features=8), jnp.ones((1, 8, 8, 4))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x)[0], jax.random.key(0)).shape
    (1, 8, 8, 8)
    """

    inner: int
    kind: str = "plain"
    features: int = 0
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Return a map of ``features`` channels, or as many as came in."""
        y = _prelu(self, "reduce", _conv(self, "reduce", x, self.inner, 1))
        y = _middle(self, y)
        features = self.features or x.shape[-1]
        y = _conv(self, "expand", y, features, 1)
        main = x if features == x.shape[-1] else _conv(self, "main", x, features, 1)
        return _prelu(self, "sum", main + y)


class Down(nn.Module):
    """The bottleneck that halves the map: a 2x2 reduction beside a 2x2 max-pooling, projected where it needs to be.

    >>> block, x = Down(features=8, inner=2), jnp.ones((1, 8, 8, 4))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x)[0], jax.random.key(0))[0].shape
    (1, 4, 4, 8)
    """

    features: int
    inner: int
    dtype: jnp.dtype | type = jnp.float32
    kind: str = SEPARABLE

    @nn.compact
    def __call__(self, x: Map) -> tuple[Map, Switches]:
        """Return the map, and where in each window its maximum was."""
        y = _prelu(self, "reduce", _conv(self, "reduce", x, self.inner, 2, stride=2))
        y = _conv(self, "expand", _middle(self, y), self.features, 1)
        main, switches = max_pool_with_switches(x, 2)
        if main.shape[-1] != self.features:
            main = _conv(self, "main", main, self.features, 1)
        return _prelu(self, "sum", main + y), switches


class Up(nn.Module):
    """The bottleneck that doubles the map: a 3x3 transposed convolution beside an unpooling.

    >>> x, switches = max_pool_with_switches(jnp.ones((1, 8, 8, 4)), 2)
    >>> block = Up(features=4, inner=2)
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, switches)[0], jax.random.key(0)).shape
    (1, 8, 8, 4)
    """

    features: int
    inner: int
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, switches: Switches) -> Map:
        """Map ``[b y x c]`` to ``[b 2y 2x features]``."""
        h, w = x.shape[1:3]
        y = _prelu(self, "reduce", _conv(self, "reduce", x, self.inner, 1))
        # TensorFlow's padding: the row and the column too many are cut off behind.
        y = ConvTranspose(self.inner, 3, stride=2, dtype=self.dtype, name="up")(y)[:, : 2 * h, : 2 * w]
        y = _conv(self, "expand", _prelu(self, "up", y), self.features, 1)
        main = max_unpool(_conv(self, "main", x, self.features, 1), switches, 2)
        return _prelu(self, "sum", main + y)


Block = HairNet | Bottleneck | Down | Up


def _middle(block: Bottleneck | Down, x: Map) -> Map:
    """Return the convolutions between reduction and expansion, each but the last of a separable pair with its PReLU."""
    inner, kind = block.inner, block.kind
    if kind in (SEPARABLE, WIDE):
        k = 3 if kind == SEPARABLE else 5
        x = _conv(block, "depthwise1", x, inner, k, groups=inner)
        x = _prelu(block, "point", _conv(block, "point", x, inner, 1))
        if kind == WIDE:
            return x
        return _prelu(block, "depthwise2", _conv(block, "depthwise2", x, inner, 3, groups=inner))
    rate = int(kind.removeprefix("dilated")) if kind.startswith("dilated") else 1
    return _prelu(block, "conv", _conv(block, "conv", x, inner, 3, dilation=rate))


def _conv(
    block: Block, name: str, x: Map, features: int, size: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> Map:
    padding = 0 if stride > 1 else dilation * (size // 2)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "dtype": block.dtype}
    return Conv(features, size, **options, name=name, parent=block)(x)


def _prelu(block: Block, name: str, x: Map) -> Map:
    return PReLU(name=f"{name}_act", parent=block)(x)


def _tflite_names() -> Rules:
    """The published model numbers its layers by kind, in the order in which it was built."""
    layers: dict[str, list[str]] = {"conv2d": ["stem1", "stem2"], "depthwise_conv2d": [], "conv2d_transpose": []}
    acts = ["stem1", "stem2"]

    def block(name: str, kind: str, last: tuple[str, ...]) -> None:
        middle = {SEPARABLE: ("depthwise1", "point", "depthwise2"), WIDE: ("depthwise1", "point")}.get(kind, ("conv",))
        for part in ("reduce", *middle, *last):
            layers["depthwise_conv2d" if part.startswith("depthwise") else "conv2d"].append(f"{name}/{part}")
        acts.extend(f"{name}/{part}" for part in ("reduce", *middle, "sum") if part != "depthwise1")

    for i, (_, kinds) in enumerate(STAGES, 1):
        block(f"stage{i}_down", SEPARABLE, ("expand", "main") if i < 3 else ("expand",))
        for j, kind in enumerate(kinds, 1):
            block(f"stage{i}_{j}", kind, ("expand",))
    block("bottom", "plain", ("expand",))
    for i in (1, 2, 3):
        layers["conv2d"] += [f"up{i}/{part}" for part in ("reduce", "expand", "main")]
        layers["conv2d_transpose"].append(f"up{i}/up")
        acts += [f"up{i}/{part}" for part in ("reduce", "up", "sum")]
        block(f"join{i}", "plain", ("expand", "main") if i < 3 else ("expand",))
    layers["conv2d_transpose"] += ["head", "classifier"]
    acts.append("head")
    rules: list[tuple[str, str | None]] = []
    for kind, paths in layers.items():
        layout = "1hwc" if kind == "depthwise_conv2d" else "ohwi"
        for number, path in enumerate(paths):
            source = f"{kind}_{number}" if number else kind
            rules += [(f"{source}/Kernel", f"{path}/kernel|{layout}"), (f"{source}/Bias", f"{path}/bias")]
    for number, path in enumerate(acts):
        rules.append((f"p_re_lu_{number}/Alpha" if number else "p_re_lu/Alpha", f"{path}_act/alpha|11c"))
    return tuple(rules)


TFLITE_NAMES: Rules = _tflite_names()
"""Rules from MediaPipe's hair_segmentation.tflite to the paths of :class:`HairNet`."""


@register(
    task="semantic",
    paper="arXiv:1907.06740",
    names={"tflite": TFLITE_NAMES},
    overfit=Overfit(steps=100, learning_rate=3e-3, gain=1.0),
)
def mediapipe_hair(
    num_classes: int = 2,
    width: float = 1.0,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> HairNet:
    """MediaPipe's hair segmentation: a small hourglass with unpooling by argmax, for images of about 512 pixels."""
    return HairNet(
        num_classes=num_classes,
        width=width,
        in_channels=in_channels,
        standardize=statistics(standardize, UNIT, in_channels),
        dtype=dtype,
    )
