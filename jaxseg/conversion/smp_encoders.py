"""Encoders of segmentation-models-pytorch by their names there: its own, and ``tu-NAME``, which it takes from timm."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flax import linen as nn

from jaxseg.backbones import mit, mobilenet, mobilenet_timm, resnet, vgg
from jaxseg.errors import BadInput, suggest
from jaxseg.layers.standardize import CENTRED, UNIT
from jaxseg.types import Rules


@dataclass(frozen=True)
class Encoder:
    """A backbone that an encoder is.

    >>> ENCODERS["resnet18"].build(output_stride=16).output_stride
    16

    Attributes:
      build: the backbone of an output stride, 32 where it does not dilate.
      rules: from the encoder's own state dict.
      dilates: whether the encoder trades stride for dilation as the backbone does; if not, there is 32 alone.
    """

    build: Callable[..., nn.Module]
    rules: Rules
    dilates: bool = True


def find(name: str) -> Encoder:
    """Return the encoder of that name; after a point it may name timm's weights that it was initialised with.

    >>> find("resnet50").dilates
    True

    Raises:
      BadInput: there is none here.
    """
    plain, _, tag = name.partition(".")
    plain = plain.replace("timm-mobilenetv3", "tu-tf_mobilenetv3")  # as the library itself reads the older name
    if plain not in ENCODERS or (tag and not plain.startswith("tu-")):
        raise BadInput(f"encoder {name!r} of segmentation-models-pytorch is not here{suggest(name, ENCODERS)}")
    known = ENCODERS[plain]
    statistics = next((value for begin, value in TAGS.items() if tag.startswith(begin)), None)
    if statistics is None:
        return known
    return Encoder(partial(known.build, standardize=statistics), known.rules, known.dilates)


def names_of(backbone: nn.Module) -> Rules | None:
    """Return the rules of the encoder that a backbone is, whatever its statistics and dtype; None if it is none.

    Where the library and timm have the same network they are the library's.

    >>> names_of(find("resnet18").build(output_stride=16)) == find("resnet18").rules
    True
    """
    if not isinstance(backbone, resnet.ResNet | mobilenet.MobileNet | vgg.VGG | mit.MiT):
        return None
    stride = 32 if isinstance(backbone, mit.MiT) else backbone.output_stride
    for encoder in ENCODERS.values():
        known = {"in_channels": backbone.in_channels, "standardize": backbone.standardize, "dtype": backbone.dtype}
        built = encoder.build(output_stride=stride, **known)
        if built == backbone:
            return encoder.rules
    return None


def names_by_class(kind: type) -> dict[str, Rules]:
    """Return the rules of all encoders whose backbone is of a class, each once, by an encoder that has them.

    Names of timm's encoders are without the prefix that segmentation-models-pytorch puts before them.

    >>> list(names_by_class(resnet.ResNet))
    ['resnet18']
    """
    found: dict[Rules, str] = {}
    for name, encoder in ENCODERS.items():
        if isinstance(encoder.build(), kind):
            found.setdefault(tuple((old.removeprefix(r"model\."), new) for old, new in encoder.rules), name)
    return {name: rules for rules, name in found.items()}


TAGS = {"ra4": CENTRED, "miil": UNIT}
"""Statistics of timm's weights by how their names begin; the others have those of the plain name."""


def _resnet(layers: int, groups: int = 1, width: int = 64) -> Encoder:
    """Dilate every convolution of a stage, as the library does."""

    def build(output_stride: int = 32, **options: Any) -> nn.Module:
        grid = (1,) * resnet.DEPTHS[layers][0][-1] if output_stride < 32 else ()
        options |= {"groups": groups, "width_per_group": width, "multi_grid": grid}
        return resnet.resnet(layers, output_stride=output_stride, **options)

    return Encoder(build, resnet.TORCHVISION_NAMES)


def _timm_resnet(layers: int, groups: int = 1, width: int = 64) -> Encoder:
    def build(output_stride: int = 32, **options: Any) -> nn.Module:
        options |= {"groups": groups, "width_per_group": width}
        return resnet.resnet(layers, output_stride=output_stride, **options)

    return Encoder(build, _in_timm(resnet.TORCHVISION_NAMES))


def _fixed(build: Callable[..., nn.Module], rules: Rules, **options: Any) -> Encoder:
    """Return an encoder of one output stride, which does not dilate, or not as the backbone here does."""
    return Encoder(lambda output_stride=32, **more: build(**{**options, **more}), rules, dilates=False)


def _vgg(blocks: tuple[int, ...], norm: str, *, timm: bool = False) -> Encoder:
    rules = vgg.torchvision_names(blocks, norm, features="features_" if timm else r"features\.")
    return _fixed(vgg.VGG, _in_timm(rules) if timm else rules, blocks=blocks, norm=norm, out_maps="last")


def _timm_mobilenets() -> dict[str, Encoder]:
    names = {
        "tu-mobilenetv1_100": _fixed(mobilenet.mobilenet_v1, _in_timm(mobilenet_timm.V1_NAMES), standardize=CENTRED)
    }
    for width in (50, 75, 100, 140):
        rules = _in_timm(mobilenet_timm.V2_NAMES)
        names[f"tu-mobilenetv2_{width:03d}"] = _fixed(mobilenet.mobilenet_v2, rules, width=width / 100, last=0)
    for size in mobilenet.V3:
        rules = _in_timm(mobilenet_timm.v3_names(size))
        options = {"padding": "SAME", "standardize": CENTRED}
        names[f"tu-mobilenetv3_{size}_100"] = _fixed(mobilenet.mobilenet_v3, rules, size=size, epsilon=1e-5)
        names[f"tu-tf_mobilenetv3_{size}_100"] = _fixed(mobilenet.mobilenet_v3, rules, size=size, **options)
    return names


def _in_timm(rules: Rules) -> Rules:
    return tuple((rf"model\.{name}", path) for name, path in rules)


_VGGS = {f"vgg{sum(blocks) + 3}": blocks for blocks in (vgg.VGG11, vgg.VGG13, vgg.VGG16, vgg.VGG19)}
_RESNEXTS = ((50, 32, 4), *((101, 32, width) for width in (4, 8, 16, 32)))

ENCODERS: dict[str, Encoder] = {
    **{f"resnet{layers}": _resnet(layers) for layers in resnet.DEPTHS},
    **{f"resnext{layers}_{g}x{w}d": _resnet(layers, g, w) for layers, g, w in (*_RESNEXTS, (101, 32, 48))},
    "mobilenet_v2": Encoder(mobilenet.mobilenet_v2, mobilenet.TORCHVISION_V2_NAMES),
    **{name: _vgg(blocks, "none") for name, blocks in _VGGS.items()},
    **{f"{name}_bn": _vgg(blocks, "batch") for name, blocks in _VGGS.items()},
    **{f"mit_{variant}": _fixed(mit.mit, mit.SMP_NAMES, variant=variant) for variant in mit.VARIANTS},
    **{f"tu-resnet{layers}": _timm_resnet(layers) for layers in resnet.DEPTHS},
    **{f"tu-resnext{layers}_{g}x{w}d": _timm_resnet(layers, g, w) for layers, g, w in (*_RESNEXTS, (101, 64, 4))},
    **{f"tu-{name}": _vgg(blocks, "none", timm=True) for name, blocks in _VGGS.items()},
    **{f"tu-{name}_bn": _vgg(blocks, "batch", timm=True) for name, blocks in _VGGS.items()},
    **_timm_mobilenets(),
}
"""Those that are here."""
