"""segmentation_models_pytorch's networks by our names; PAN's images have at least 128 pixels a side."""

from collections.abc import Callable
from typing import Any

from tests.torchvision_cpu import torchvision_or_skip

NOTE = """\
segmentation-models-pytorch refuses sides that its encoder's stride does not divide. An odd image is padded for it by
repeating the last row and column, as our networks do it inside, and its logits are cropped. Its DeepLab v3+ sees two
even images: its enlargements are by whole factors, where ours, as the paper's, are to the image's size.
"""


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Multiples of 32, and an odd size where padding means the same to both."""
    return (128, 160), (160, 224) if name.startswith("deeplabv3plus") else (161, 211)


def logits(network: Any, image: Any) -> Any:
    """Scores at the image's size, which is padded to what the library takes."""
    from torch.nn import functional

    (h, w), stride = image.shape[2:], network.encoder.output_stride
    padded = functional.pad(image, (0, -w % stride, 0, -h % stride), mode="replicate")
    return network(padded)[:, :, :h, :w]


def _network(name: str, encoder: str, **options: Any) -> Callable[[], Any]:
    """The library's class of that name on an encoder without pretrained weights, 21 classes."""

    def build() -> Any:
        torchvision_or_skip()  # the library imports it
        import segmentation_models_pytorch as smp

        return getattr(smp, name)(encoder, encoder_weights=None, classes=21, **options)

    return build


def _manet() -> Any:
    """MA-Net with small weights before its softmax and its gates: drawn ones give scores of millions and gates of
    thousands, where float32 is no longer near float64 in the library itself."""
    network = _network("MAnet", "resnet34")()
    decoder = network.decoder
    gates = [gate[3] for block in decoder.blocks[:4] for gate in (block.SE_hl, block.SE_ll)]
    for layer in (decoder.center.top_conv, decoder.center.center_conv, *gates):
        layer.weight.data.mul_(1e-3)
    return network


REFERENCES: dict[str, Callable[[], Any]] = {
    "deeplabv3plus_mobilenet_v2": _network("DeepLabV3Plus", "mobilenet_v2"),
    "deeplabv3plus_smp_resnet50": _network("DeepLabV3Plus", "resnet50"),
    "deeplabv3plus_smp_resnet101": _network("DeepLabV3Plus", "resnet101"),
    "fpn_resnet50": _network("FPN", "resnet50"),
    "fpn_resnet101": _network("FPN", "resnet101"),
    "linknet_resnet18": _network("Linknet", "resnet18"),
    "linknet_resnet34": _network("Linknet", "resnet34"),
    "manet_resnet34": _manet,
    "pan_resnet50": _network("PAN", "resnet50"),
    "pspnet_resnet34_smp": _network("PSPNet", "resnet34"),
    "unet_resnet18": _network("Unet", "resnet18"),
    "unet_resnet34": _network("Unet", "resnet34"),
    "unet_resnet50": _network("Unet", "resnet50"),
    "unet_resnet101": _network("Unet", "resnet101"),
    "unetplusplus_resnet34": _network("UnetPlusPlus", "resnet34"),
    "upernet_resnet50_smp": _network("UPerNet", "resnet50"),
}
