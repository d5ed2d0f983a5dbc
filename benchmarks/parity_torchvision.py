"""torchvision's segmentation networks by our names."""

from collections.abc import Callable
from typing import Any

from tests.torchvision_cpu import torchvision_or_skip

NOTE = ""


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """An even and an odd size for every network."""
    return (64, 96), (67, 45)


def logits(network: Any, image: Any) -> Any:
    """The main head's scores, which torchvision resizes itself."""
    return network(image)["out"]


def _segmentation(name: str, **options: Any) -> Callable[[], Any]:
    """torchvision's builder of that name, auxiliary head included, nothing downloaded."""

    def build() -> Any:
        builders = torchvision_or_skip().models.segmentation
        return getattr(builders, name)(weights=None, weights_backbone=None, num_classes=21, **options)

    return build


REFERENCES = {
    "deeplabv3_mobilenet_v3_large": _segmentation("deeplabv3_mobilenet_v3_large", aux_loss=True),
    "deeplabv3_resnet50": _segmentation("deeplabv3_resnet50", aux_loss=True),
    "deeplabv3_resnet101": _segmentation("deeplabv3_resnet101", aux_loss=True),
    "fcn_resnet50": _segmentation("fcn_resnet50", aux_loss=True),
    "fcn_resnet101": _segmentation("fcn_resnet101", aux_loss=True),
    "lraspp_mobilenet_v3_large": _segmentation("lraspp_mobilenet_v3_large"),
}

BESIDE: dict[str, Callable[[Any], tuple[Any, Any]]] = {}
