"""timm's classifiers up to their last map, which is our backbones' ``c5``."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from jaxseg.backbones import mobilenet, mobilenet_timm, resnet, vgg
from jaxseg.backbones.encoders import ENCODERS
from jaxseg.layers.standardize import CENTRED
from tests.torchvision_cpu import torchvision_or_skip

NOTE = """\
timm's networks are backbones here, and what is compared is their last map. Swin is compared on images whose third map
is larger than a window; on smaller ones timm, told to take any size, gives other numbers, while torchvision, see
`tests/oracles/test_swin.py`, gives ours.
"""


class Last(nn.Module):
    """A backbone's last map, as the others' logits."""

    backbone: nn.Module

    @nn.compact
    def __call__(self, image: Any) -> dict[str, Any]:
        return {"logits": self.backbone(image, train=False)["c5"]}


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """An even and an odd size for every network; for Swin whole patches, most maps above the window."""
    return ((144, 176), (224, 160)) if name.startswith("swin") else ((64, 96), (67, 45))


def logits(network: Any, image: Any) -> Any:
    """The last map."""
    if hasattr(network, "forward_features"):
        return network.forward_features(image)
    return network(image)[-1].permute(0, 3, 1, 2)


def _network(name: str) -> Callable[[], Any]:
    def build() -> Any:
        torchvision_or_skip()  # the library imports it
        import timm

        if not name.startswith("swin"):
            return timm.create_model(name, pretrained=False)
        return timm.create_model(name, pretrained=False, features_only=True, strict_img_size=False)

    return build


def _swin(name: str) -> Callable[[Any], tuple[Any, Any]]:
    encoder = ENCODERS[f"tu-{name}"]
    return _ours(encoder.build(), tuple((old.removeprefix(r"model\."), new) for old, new in encoder.rules))


def _ours(backbone: nn.Module, rules: Any) -> Callable[[Any], tuple[Any, Any]]:
    inside = tuple((name, path and f"backbone/{path}") for name, path in rules)
    return lambda network: (Last(backbone), inside)


def _v3(size: str, **options: Any) -> Callable[[Any], tuple[Any, Any]]:
    return _ours(mobilenet.mobilenet_v3(size, **options), mobilenet_timm.v3_names(size))


V2, RESNET = mobilenet_timm.V2_NAMES, resnet.TORCHVISION_NAMES
TF: dict[str, Any] = {"padding": "SAME", "standardize": CENTRED}

BESIDE: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "mobilenetv1_100": _ours(mobilenet.mobilenet_v1(standardize=CENTRED), mobilenet_timm.V1_NAMES),
    **{f"mobilenetv2_{w:03d}": _ours(mobilenet.mobilenet_v2(width=w / 100), V2) for w in (50, 75, 100, 140)},
    **{f"mobilenetv3_{size}_100": _v3(size, epsilon=1e-5) for size in mobilenet.V3},
    **{f"tf_mobilenetv3_{size}_100": _v3(size, **TF) for size in mobilenet.V3},
    "resnet50": _ours(resnet.resnet(50), RESNET),
    "resnext50_32x4d": _ours(resnet.resnet(50, groups=32, width_per_group=4), RESNET),
    "resnext101_32x8d": _ours(resnet.resnet(101, groups=32, width_per_group=8), RESNET),
    "resnext101_64x4d": _ours(resnet.resnet(101, groups=64, width_per_group=4), RESNET),
    "swin_tiny_patch4_window7_224": _swin("swin_tiny_patch4_window7_224"),
    "vgg11": _ours(vgg.VGG(vgg.VGG11), vgg.torchvision_names(vgg.VGG11, "none")),
    "vgg16": _ours(vgg.VGG(vgg.VGG16), vgg.torchvision_names(vgg.VGG16, "none")),
    "vgg16_bn": _ours(vgg.VGG(vgg.VGG16, norm="batch"), vgg.torchvision_names(vgg.VGG16, "batch")),
    "vgg19_bn": _ours(vgg.VGG(vgg.VGG19, norm="batch"), vgg.torchvision_names(vgg.VGG19, "batch")),
}
"""Under timm's names."""

REFERENCES: dict[str, Callable[[], Any]] = {name: _network(name) for name in BESIDE}
