"""timm's classifiers up to their last map, which is our backbones' ``c5``."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import flax.linen as nn

from jaxseg.backbones import mobilenet, mobilenet_timm, resnet, vgg, vit
from jaxseg.backbones.encoders import ENCODERS
from jaxseg.backbones.vit_blocks import on_transformer
from jaxseg.layers.standardize import CENTRED
from tests.torchvision_cpu import torchvision_or_skip

NOTE = """\
timm's networks are backbones here, and what is compared is their last map; a ViT's is without the pyramid, which is
ours alone. Swin is compared on images whose third map is larger than a window, or with windows of 16 in the second
version no larger, as at its pre-training; on others timm, told to take any size, gives other numbers, while
torchvision, see `tests/oracles/test_swin.py`, gives ours.
"""


class Last(nn.Module):
    """A backbone's last map, as the others' logits."""

    backbone: nn.Module
    key: str = "c5"

    @nn.compact
    def __call__(self, image: Any) -> dict[str, Any]:
        return {"logits": self.backbone(image, train=False)[self.key]}


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """An even and an odd size for every network; whole patches for transformers, and whole cells of HRNet's coarsest
    map, without which timm has none."""
    if "window12" in name:
        return (208, 240), (288, 224)
    if name.startswith("swin"):
        return (144, 176), (224, 160)
    if "patch14" in name:
        return (70, 98), (126, 84)
    return (64, 96), ((96, 160) if name.startswith(("hrnet", "vit")) else (67, 45))


def logits(network: Any, image: Any) -> Any:
    """The last map."""
    if hasattr(network.feature_info, "channels"):  # a network of maps
        last = network(image)[-1]
        return last.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "") == "NHWC" else last
    last = network.forward_features(image)
    if last.ndim == 4:
        return last
    (h, w), size = image.shape[2:], network.patch_embed.patch_size[0]
    return last[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, (h // size, w // size))


def _network(name: str) -> Callable[[], Any]:
    def build() -> Any:
        torchvision_or_skip()  # the library imports it
        import timm

        from tests.oracles.torch_side import draw

        if name in CLASSIFIERS:
            return timm.create_model(name, pretrained=False)
        options = {"dynamic_img_size": True} if name.startswith("vit") else {"features_only": True}
        if name.startswith("swin"):
            options["strict_img_size"] = False
        # Its own weights leave attention uniform, nothing of ConvNeXt's blocks, and gates of EfficientNet-B7 so large
        # that float32 is no longer near float64 in timm itself.
        return draw(timm.create_model(name, pretrained=False, **options))

    return build


def _encoder(name: str) -> Callable[[Any], tuple[Any, Any]]:
    """timm's network of maps as segmentation-models-pytorch has it inside."""
    encoder = ENCODERS[f"tu-{name}"]
    return _ours(encoder.build(), tuple((old.removeprefix(r"model\."), new) for old, new in encoder.rules))


def _vit(net: vit.ViT) -> Callable[[Any], tuple[Any, Any]]:
    last = net.depth - 1
    return _ours(on_transformer(net, (last,)), vit.TIMM_NAMES, key=f"block{last}")


def _ours(backbone: nn.Module, rules: Any, key: str = "c5") -> Callable[[Any], tuple[Any, Any]]:
    inside = tuple((name, path and f"backbone/{path}") for name, path in rules)
    return lambda network: (Last(backbone, key), inside)


def _v3(size: str, **options: Any) -> Callable[[Any], tuple[Any, Any]]:
    return _ours(mobilenet.mobilenet_v3(size, **options), mobilenet_timm.v3_names(size))


V2, RESNET = mobilenet_timm.V2_NAMES, resnet.TORCHVISION_NAMES
TF: dict[str, Any] = {"padding": "SAME", "standardize": CENTRED}

FAMILIES = ("convnext_*", "efficientnet_*", "hrnet_*", "regnet*", "swin*", "tf_efficientnet_*")

MAPS = tuple(
    name
    for known in ENCODERS
    if known.startswith("tu-") and any(fnmatchcase(name := known.removeprefix("tu-"), family) for family in FAMILIES)
)
"""Networks of these families that are encoders here."""

CLASSIFIERS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "mobilenetv1_100": _ours(mobilenet.mobilenet_v1(standardize=CENTRED), mobilenet_timm.V1_NAMES),
    **{f"mobilenetv2_{w:03d}": _ours(mobilenet.mobilenet_v2(width=w / 100), V2) for w in (50, 75, 100, 140)},
    **{f"mobilenetv3_{size}_100": _v3(size, epsilon=1e-5) for size in mobilenet.V3},
    **{f"tf_mobilenetv3_{size}_100": _v3(size, **TF) for size in mobilenet.V3},
    "resnet50": _ours(resnet.resnet(50), RESNET),
    "resnext50_32x4d": _ours(resnet.resnet(50, groups=32, width_per_group=4), RESNET),
    "resnext101_32x8d": _ours(resnet.resnet(101, groups=32, width_per_group=8), RESNET),
    "resnext101_64x4d": _ours(resnet.resnet(101, groups=64, width_per_group=4), RESNET),
    "vgg11": _ours(vgg.VGG(vgg.VGG11), vgg.torchvision_names(vgg.VGG11, "none")),
    "vgg16": _ours(vgg.VGG(vgg.VGG16), vgg.torchvision_names(vgg.VGG16, "none")),
    "vgg16_bn": _ours(vgg.VGG(vgg.VGG16, norm="batch"), vgg.torchvision_names(vgg.VGG16, "batch")),
    "vgg19_bn": _ours(vgg.VGG(vgg.VGG19, norm="batch"), vgg.torchvision_names(vgg.VGG19, "batch")),
}

BESIDE: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    **CLASSIFIERS,
    **{name: _encoder(name) for name in MAPS},
    **{f"vit_{size}_patch16_224": _vit(vit.vit(size)) for size in vit.VARIANTS},
    **{f"vit_{size}_patch14_dinov2": _vit(vit.dinov2(size)) for size in vit.VARIANTS},
}
"""Under timm's names."""

REFERENCES: dict[str, Callable[[], Any]] = {name: _network(name) for name in BESIDE}
