"""segmentation_models_pytorch's networks by our names; PAN's images have at least 128 pixels a side."""

from collections.abc import Callable
from typing import Any

from jaxseg.backbones import densenet, senet
from tests.torchvision_cpu import torchvision_or_skip

NOTE = """\
segmentation-models-pytorch refuses sides that its encoder's stride does not divide. An odd image is padded for it by
repeating the last row and column, as our networks do it inside, and its logits are cropped. Its DeepLab v3+ sees two
even images: its enlargements are by whole factors, where ours, as the paper's, are to the image's size. Networks on
other encoders than ResNets are in the registry as combinations; here a saved folder's `config.json` describes them.
Parameters that it makes and never calls, such as EfficientNet's last convolution, are not counted.
"""


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Multiples of 32, and an odd size where padding means the same to both; Swin's as for timm."""
    if "swin" in name:
        return (160, 192), (161, 211)
    return (128, 160), (160, 224) if name.startswith("deeplabv3plus") else (161, 211)


def logits(network: Any, image: Any) -> Any:
    """Scores at the image's size, which is padded to what the library takes."""
    from torch.nn import functional

    (h, w), stride = image.shape[2:], network.encoder.output_stride
    padded = functional.pad(image, (0, -w % stride, 0, -h % stride), mode="replicate")
    return network(padded)[:, :, :h, :w]


ANY_SIZE = {"strict_img_size": False}
"""What a Swin of timm is told so that it takes other images than those of its pre-training."""


def _network(name: str, encoder: str, **options: Any) -> Callable[[], Any]:
    """The library's class of that name on an encoder without pretrained weights, 21 classes."""

    def build() -> Any:
        torchvision_or_skip()  # the library imports it
        import segmentation_models_pytorch as smp
        import torch

        from tests.oracles.torch_side import draw

        more = ANY_SIZE if encoder.startswith("tu-swin") else {}
        network = getattr(smp, name)(encoder, encoder_weights=None, classes=21, **options, **more)
        if encoder.startswith(("tu-convnext", "tu-swin")):  # for the same reasons as in parity_timm.py
            draw(network.encoder)
        for layer in network.encoder.modules() if encoder.startswith("mit_") else ():
            if isinstance(layer, torch.nn.Linear):  # else attention would be uniform, with weights of 0.02
                torch.nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
        return network

    return build


def _manet(encoder: str) -> Callable[[], Any]:
    """MA-Net with small weights before its softmax and its gates: drawn ones give scores of millions and gates of
    thousands, where float32 is no longer near float64 in the library itself."""

    def build() -> Any:
        network = _network("MAnet", encoder)()
        decoder = network.decoder
        fusing = [block for block in decoder.blocks if hasattr(block, "SE_hl")]
        gates = [gate[3] for block in fusing for gate in (block.SE_hl, block.SE_ll)]
        for layer in (decoder.center.top_conv, decoder.center.center_conv, *gates):
            layer.weight.data.mul_(1e-3)
        return network

    return build


def _saved(network: Any) -> tuple[Any, Any]:
    """What its configuration says that it is."""
    from jaxseg.conversion.smp import saved

    config = {key: value for key, value in network.config.items() if key not in ANY_SIZE}
    found = saved({**config, "_model_class": type(network).__name__})
    return found.model, found.rules


PAIRS = (
    *(("Unet", f"vgg{layers}{norm}") for layers in (11, 13, 16, 19) for norm in ("", "_bn")),
    *(("Unet", f"mit_b{i}") for i in range(6)),
    *(("Unet", f"tu-{name}") for name in ("resnet50.a1_in1k", "resnext50_32x4d", "resnext101_64x4d")),
    *(("Unet", f"tu-{name}") for name in ("vgg16", "vgg16_bn", "mobilenetv1_100")),
    *(("Unet", f"tu-mobilenetv2_{width}") for width in ("050", "075", "100", "140")),
    *(("Unet", f"tu-{tf}mobilenetv3_{size}_100") for tf in ("", "tf_") for size in ("large", "small")),
    *((kind, "vgg16_bn") for kind in ("FPN", "Linknet", "MAnet", "PSPNet", "UPerNet", "UnetPlusPlus")),
    *((kind, "mit_b0") for kind in ("FPN", "MAnet", "PSPNet", "UPerNet")),
    *((kind, "tu-mobilenetv3_large_100") for kind in ("FPN", "Linknet", "UPerNet", "UnetPlusPlus")),
    *((kind, "tu-resnet50") for kind in ("DeepLabV3", "DeepLabV3Plus", "PAN")),
    *(("Unet", f"{timm}efficientnet-b{i}") for timm in ("", "timm-") for i in range(8)),
    *(("Unet", name) for name in (*densenet.ENCODERS, *senet.ENCODERS)),
    *(("Unet", f"tu-{name}") for name in ("efficientnet_b0", "tf_efficientnet_b0", "regnetx_002", "regnety_002")),
    *(("Unet", f"tu-{name}") for name in ("convnext_tiny", "hrnet_w18")),
    *(("Unet", f"tu-{name}") for name in ("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256")),
)
"""Architectures and encoders that no registered network has."""


def _name(kind: str, encoder: str) -> str:
    return f"{kind.lower()}_{encoder}"


REFERENCES: dict[str, Callable[[], Any]] = {
    "deeplabv3plus_mobilenet_v2": _network("DeepLabV3Plus", "mobilenet_v2"),
    "deeplabv3plus_smp_resnet50": _network("DeepLabV3Plus", "resnet50"),
    "deeplabv3plus_smp_resnet101": _network("DeepLabV3Plus", "resnet101"),
    "fpn_resnet50": _network("FPN", "resnet50"),
    "fpn_resnet101": _network("FPN", "resnet101"),
    "linknet_resnet18": _network("Linknet", "resnet18"),
    "linknet_resnet34": _network("Linknet", "resnet34"),
    "manet_resnet34": _manet("resnet34"),
    "pan_resnet50": _network("PAN", "resnet50"),
    "pspnet_resnet34_smp": _network("PSPNet", "resnet34"),
    "unet_resnet18": _network("Unet", "resnet18"),
    "unet_resnet34": _network("Unet", "resnet34"),
    "unet_resnet50": _network("Unet", "resnet50"),
    "unet_resnet101": _network("Unet", "resnet101"),
    "unetplusplus_resnet34": _network("UnetPlusPlus", "resnet34"),
    "upernet_resnet50_smp": _network("UPerNet", "resnet50"),
    **{_name(*pair): _manet(pair[1]) if pair[0] == "MAnet" else _network(*pair) for pair in PAIRS},
}

BESIDE: dict[str, Callable[[Any], tuple[Any, Any]]] = {_name(*pair): _saved for pair in PAIRS}
