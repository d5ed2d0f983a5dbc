"""Every encoder by the name that segmentation-models-pytorch has for it: its own, and ``tu-NAME``, which it takes from
timm.

A backbone's file ends with its ``ENCODERS``, which are listed here once; the older backbones' are made here. From the
table follow the registered networks ``DECODER_ENCODER`` (:mod:`jaxseg.models.smp`), the folders that
segmentation-models-pytorch saves, and weights by name.
"""

from typing import Any

from flax import linen as nn

from jaxseg.backbones import (
    convnext,
    densenet,
    efficientnet,
    hrnet,
    mit,
    mobilenet,
    mobilenet_timm,
    regnet,
    resnet,
    senet,
    swin,
    vgg,
    vit,
)
from jaxseg.backbones.encoder import EncoderSpec, fixed, in_timm
from jaxseg.layers.standardize import CENTRED


def _resnet(layers: int, groups: int = 1, width: int = 64) -> EncoderSpec:
    """Dilate every convolution of a stage, as the library does."""

    def build(output_stride: int = 32, **options: Any) -> nn.Module:
        grid = (1,) * resnet.DEPTHS[layers][0][-1] if output_stride < 32 else ()
        options |= {"groups": groups, "width_per_group": width, "multi_grid": grid}
        return resnet.resnet(layers, output_stride=output_stride, **options)

    return EncoderSpec(build, resnet.TORCHVISION_NAMES)


def _timm_resnet(layers: int, groups: int = 1, width: int = 64) -> EncoderSpec:
    def build(output_stride: int = 32, **options: Any) -> nn.Module:
        options |= {"groups": groups, "width_per_group": width}
        return resnet.resnet(layers, output_stride=output_stride, **options)

    def pruned(net: resnet.ResNet, stages: int) -> nn.Module:
        return net.clone(depths=net.depths[:stages])

    return EncoderSpec(build, in_timm(resnet.TORCHVISION_NAMES), prune=pruned)


def _vgg(blocks: tuple[int, ...], norm: str, *, timm: bool = False) -> EncoderSpec:
    rules = vgg.torchvision_names(blocks, norm, features="features_" if timm else r"features\.")
    return fixed(vgg.VGG, in_timm(rules) if timm else rules, blocks=blocks, norm=norm, out_maps="last")


def _timm_mobilenets() -> dict[str, EncoderSpec]:
    names = {"tu-mobilenetv1_100": fixed(mobilenet.mobilenet_v1, in_timm(mobilenet_timm.V1_NAMES), standardize=CENTRED)}
    for width in (50, 75, 100, 140):
        rules = in_timm(mobilenet_timm.V2_NAMES)
        names[f"tu-mobilenetv2_{width:03d}"] = fixed(mobilenet.mobilenet_v2, rules, width=width / 100, last=0)
    for size in mobilenet.V3:
        rules = in_timm(mobilenet_timm.v3_names(size))
        options = {"padding": "SAME", "standardize": CENTRED}
        names[f"tu-mobilenetv3_{size}_100"] = fixed(mobilenet.mobilenet_v3, rules, size=size, epsilon=1e-5)
        names[f"tu-tf_mobilenetv3_{size}_100"] = fixed(mobilenet.mobilenet_v3, rules, size=size, **options)
    return names


_VGGS = {f"vgg{sum(blocks) + 3}": blocks for blocks in (vgg.VGG11, vgg.VGG13, vgg.VGG16, vgg.VGG19)}
_RESNEXTS = ((50, 32, 4), *((101, 32, width) for width in (4, 8, 16, 32)))

ENCODERS: dict[str, EncoderSpec] = {
    **{f"resnet{layers}": _resnet(layers) for layers in resnet.DEPTHS},
    **{f"resnext{layers}_{g}x{w}d": _resnet(layers, g, w) for layers, g, w in (*_RESNEXTS, (101, 32, 48))},
    "mobilenet_v2": EncoderSpec(mobilenet.mobilenet_v2, mobilenet.TORCHVISION_V2_NAMES),
    **{name: _vgg(blocks, "none") for name, blocks in _VGGS.items()},
    **{f"{name}_bn": _vgg(blocks, "batch") for name, blocks in _VGGS.items()},
    **{f"mit_{variant}": fixed(mit.mit, mit.SMP_NAMES, finest=4, variant=variant) for variant in mit.VARIANTS},
    **{f"tu-resnet{layers}": _timm_resnet(layers) for layers in resnet.DEPTHS},
    **{f"tu-resnext{layers}_{g}x{w}d": _timm_resnet(layers, g, w) for layers, g, w in (*_RESNEXTS, (101, 64, 4))},
    **{f"tu-{name}": _vgg(blocks, "none", timm=True) for name, blocks in _VGGS.items()},
    **{f"tu-{name}_bn": _vgg(blocks, "batch", timm=True) for name, blocks in _VGGS.items()},
    **_timm_mobilenets(),
    **convnext.ENCODERS,
    **densenet.ENCODERS,
    **efficientnet.ENCODERS,
    **hrnet.ENCODERS,
    **regnet.ENCODERS,
    **senet.ENCODERS,
    **swin.ENCODERS,
    **vit.ENCODERS,
}
"""Those that are here; where a network has a name in both libraries, segmentation-models-pytorch's comes first."""


def _variants() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ENCODERS:
        found.setdefault(name.removeprefix("tu-").replace("-", "_"), name)
    return found


VARIANTS: dict[str, str] = _variants()
"""Encoder by its name after a decoder's, as in ``unet_efficientnet_b0``: without ``tu-``, with underscores."""
