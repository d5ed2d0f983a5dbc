"""Test-time augmentation: average a network's outputs over scaled, mirrored and turned views of the image.

``flip`` and scales are what DeepLab and PSPNet report (Chen et al. 2018, arXiv:1802.02611, section 4; Zhao et al. 2017,
arXiv:1612.01105, section 5.1): the mean of the probabilities over scales and left-right mirror images. ``turns`` is for
images without an up, such as microscopy and aerial photographs: U-Net's published figures are means over seven rotated
versions of the input (Ronneberger et al. 2015, section 4; the angles are not given), and the eight positions by right
angles need no resampling.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from jaxseg.errors import BadInput
from jaxseg.ops.resize import resize_bilinear
from jaxseg.types import OUTPUTS, bare_key


@dataclass(frozen=True, order=True)
class View:
    """One view of an image: scaled, then transposed, then mirrored.

    Attributes:
      scale: of both sides.
      transposed: exchange rows and columns.
      mirrored: axes of [b h w c] to reverse: 1 rows, 2 columns.

    Example:
      >>> View(0.5, mirrored=(2,))
      View(scale=0.5, transposed=False, mirrored=(2,))
    """

    scale: float = 1.0
    transposed: bool = False
    mirrored: tuple[int, ...] = ()


MIRRORED = ((), (1,), (2,), (1, 2))
"""The axes along which an image is mirrored; with rows and columns exchanged or not, these are all eight positions."""

FLIP = (View(), View(mirrored=(2,)))
"""The image and its left-right mirror image."""

TURNS = tuple(View(1.0, transposed, mirrored) for transposed in (False, True) for mirrored in MIRRORED)
"""The eight positions of a square: turns by right angles and their mirror images."""


def parse_tta(text: str) -> tuple[View, ...]:
    """Return the views that ``--tta`` names: ``flip``, ``turns``, scales, or several with commas between.

    With scales, the image's own size is among them, and every position is seen at every scale.

    Raises:
      BadInput: a word is none of these.

    Example:
      >>> len(parse_tta("flip")), len(parse_tta("flip,0.75,1.25,1.5")), len(parse_tta("turns"))
      (2, 8, 8)
      >>> [view.scale for view in parse_tta("0.5,2")]
      [0.5, 1.0, 2.0]
    """
    named = {"flip": FLIP, "turns": TURNS}
    positions, scales = (View(),), {1.0}
    for word in (part.strip() for part in text.split(",")):
        if word in named:
            positions = max(positions, named[word], key=len)
            continue
        try:
            scale = float(word)
        except ValueError:
            scale = 0.0
        if not 0.1 <= scale <= 8:
            raise BadInput(f"--tta takes flip, turns and scales from 0.1 to 8, as in flip,0.75,1.25,1.5; not {word!r}")
        scales.add(scale)
    if len(positions) == len(scales) == 1:
        raise BadInput(f"--tta {text} is the image alone; give flip, turns or another scale")
    return tuple(View(scale, p.transposed, p.mirrored) for scale in sorted(scales) for p in positions)


@dataclass(frozen=True)
class TestTimeAugmented:
    """A network whose outputs are means over views of the image; it stands wherever a trained network is applied.

    ``evaluate(TestTimeAugmented(model), variables, task, batches)``; in ``predict``, ``views=``.

    Logits are averaged as probabilities, other maps of numbers as they are. Outputs that are no such maps, like boxes
    or surface normals, are refused by name; auxiliary heads are left out.

    Attributes:
      model: a linen module; it is never asked to train.
      views: see :func:`parse_tta`.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> model, image = unet(num_classes=3, depth=1, width=2), jnp.zeros((1, 8, 8, 3), jnp.uint8)
      >>> variables = model.init(jax.random.key(0), image)
      >>> TestTimeAugmented(model, parse_tta("flip,0.5")).apply(variables, image)["logits"].shape
      (1, 8, 8, 3)
    """

    model: Any
    views: tuple[View, ...] = TURNS

    __test__: ClassVar[bool] = False
    """Not a test, whatever its name begins with: pytest collects classes called Test*."""

    def __post_init__(self):
        if hasattr(self.model, "input_size") and any(view.scale != 1 for view in self.views):
            raise BadInput(
                f"{type(self.model).__name__} has valid convolutions, whose sizes do not scale: "
                "--tta flip or --tta turns"
            )

    def apply(self, variables: Mapping[str, Any], image: Shaped[Array, "b h w c"], *, train: bool = False) -> Any:
        """Return the model's outputs, each the mean over the views; ``logits`` are logarithms of mean probabilities."""
        assert not train
        total: dict[str, Array] = {}
        groups = dict.fromkeys((view.scale, view.transposed) for view in self.views)
        for scale, transposed in groups:
            axes = [v.mirrored for v in self.views if (v.scale, v.transposed) == (scale, transposed)]
            found = self._sums(variables, _scaled(image, scale), transposed, axes)
            for key, value in found.items():
                value = value if scale == 1 else _resized(value, image.shape[1:3])
                total[key] = total[key] + value if key in total else value
        means = {key: value / len(self.views) for key, value in total.items()}
        tiny = jnp.finfo(jnp.float32).tiny
        return {key: jnp.log(jnp.maximum(v, tiny)) if _is_logits(key) else v for key, v in means.items()}

    def _sums(self, variables: Any, image: Array, transposed: bool, axes: list[tuple[int, ...]]) -> dict[str, Array]:
        """Sums of the outputs over mirror images, each mirrored back; one pass of the network is compiled for all."""
        turned = jnp.swapaxes(image, 1, 2) if transposed else image

        def outputs(x: Array) -> dict[str, Array]:
            found = self.model.apply(variables, x, train=False)
            kept = {key: value for key, value in found.items() if not bare_key(key).startswith("aux_")}
            for key, value in kept.items():
                _check_averages(key, value)
            kept = {key: value.astype(jnp.float32) for key, value in kept.items()}
            return {key: jax.nn.softmax(value, axis=-1) if _is_logits(key) else value for key, value in kept.items()}

        found = jax.lax.map(outputs, jnp.stack([jnp.flip(turned, mirrored) for mirrored in axes]))
        back = {k: [jnp.flip(v[i], mirrored) for i, mirrored in enumerate(axes)] for k, v in found.items()}
        sums = {key: jnp.sum(jnp.stack(values), axis=0) for key, values in back.items()}
        return {key: jnp.swapaxes(value, 1, 2) for key, value in sums.items()} if transposed else sums

    @property
    def in_channels(self) -> int:
        """Bands of the image, if the network says so."""
        return self.model.in_channels

    @property
    def input_size(self) -> Callable[[int, int], tuple[int, int]]:
        """The network's own, if it has valid convolutions."""
        return self.model.input_size

    @property
    def valid_size(self) -> Callable[[int, int], tuple[int, int]]:
        """The network's own, if it has valid convolutions."""
        return self.model.valid_size


def _is_logits(key: str) -> bool:
    return bare_key(key) == "logits"


def _check_averages(key: str, value: Array) -> None:
    known = OUTPUTS.get(bare_key(key))
    averages = value.ndim in (3, 4) if known is None else known.axes in ("b h w", "b h w k")
    if not averages or not jnp.issubdtype(value.dtype, jnp.floating):
        raise BadInput(f"--tta takes means of maps of numbers; this network returns {key}, which has no such mean")


def _scaled(image: Array, scale: float) -> Array:
    if scale == 1:
        return image
    rows, columns = (max(1, round(length * scale)) for length in image.shape[1:3])
    return resize_bilinear(image.astype(jnp.float32), (rows, columns))


def _resized(value: Array, size: tuple[int, ...]) -> Array:
    given = value if value.ndim == 4 else value[..., None]
    return resize_bilinear(given, (size[0], size[1])).reshape(*value.shape[:1], *size, *value.shape[3:])
