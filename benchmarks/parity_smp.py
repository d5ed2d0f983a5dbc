"""segmentation_models_pytorch's networks by our names. Its decoders want sides that the encoder's stride divides."""

from collections.abc import Callable
from typing import Any

from tests.torchvision_cpu import torchvision_or_skip

SIZES = ((64, 96), (96, 160))


def logits(network: Any, image: Any) -> Any:
    """What the network returns: scores at the image's size."""
    return network(image)


def _network(name: str, encoder: str, **options: Any) -> Callable[[], Any]:
    """The library's class of that name on an encoder without pretrained weights, 21 classes."""

    def build() -> Any:
        torchvision_or_skip()  # the library imports it
        import segmentation_models_pytorch as smp

        return getattr(smp, name)(encoder, encoder_weights=None, classes=21, **options)

    return build


REFERENCES: dict[str, Callable[[], Any]] = {
    "deeplabv3plus_mobilenet_v2": _network("DeepLabV3Plus", "mobilenet_v2"),
    "deeplabv3plus_smp_resnet50": _network("DeepLabV3Plus", "resnet50"),
    "deeplabv3plus_smp_resnet101": _network("DeepLabV3Plus", "resnet101"),
}
