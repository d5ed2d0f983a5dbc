"""torchvision's segmentation networks by our names."""

from collections.abc import Callable
from typing import Any

SIZES = ((64, 96), (67, 45))


def logits(network: Any, image: Any) -> Any:
    """The main head's scores, which torchvision resizes itself."""
    return network(image)["out"]


def _segmentation(name: str, **options: Any) -> Callable[[], Any]:
    """torchvision's builder of that name, auxiliary head included, nothing downloaded."""

    def build() -> Any:
        from tests.torchvision_cpu import torchvision_or_skip

        builders = torchvision_or_skip().models.segmentation
        return getattr(builders, name)(weights=None, weights_backbone=None, num_classes=21, **options)

    return build


REFERENCES = {
    "fcn_resnet50": _segmentation("fcn_resnet50", aux_loss=True),
    "fcn_resnet101": _segmentation("fcn_resnet101", aux_loss=True),
}
