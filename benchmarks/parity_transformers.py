"""transformers' networks by our names."""

from collections.abc import Callable
from typing import Any

from tests.torchvision_cpu import torchvision_or_skip

NOTE = ""


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """An even and an odd size for every network."""
    return (64, 96), (67, 45)


def logits(network: Any, image: Any) -> Any:
    """Scores resized to the image, as the library's own post-processing does it."""
    from torch.nn import functional

    return functional.interpolate(network(image).logits, size=image.shape[2:], mode="bilinear", align_corners=False)


def _segformer(variant: str) -> Callable[[], Any]:
    """The network of that variant, 150 classes, with weights of ordinary size: 0.02 would leave attention uniform."""

    def build() -> Any:
        torchvision_or_skip()  # the library imports it
        import torch
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        from jaxseg.backbones.mit import VARIANTS

        depths, widths = VARIANTS[variant]
        features = 256 if variant in ("b0", "b1") else 768
        config = SegformerConfig(depths=depths, hidden_sizes=widths, decoder_hidden_size=features, num_labels=150)
        network = SegformerForSemanticSegmentation(config)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5)
        return network

    return build


def _upernet(depths: tuple[int, ...]) -> Callable[[], Any]:
    """On the library's own ResNet of those blocks, 150 classes."""

    def build() -> Any:
        torchvision_or_skip()
        from transformers import ResNetConfig, UperNetConfig, UperNetForSemanticSegmentation

        stages = [f"stage{i}" for i in (1, 2, 3, 4)]
        trunk = ResNetConfig(depths=list(depths), out_features=stages)
        return UperNetForSemanticSegmentation(UperNetConfig(backbone_config=trunk, num_labels=150))

    return build


REFERENCES: dict[str, Callable[[], Any]] = {
    **{f"segformer_{variant}": _segformer(variant) for variant in ("b0", "b1", "b2", "b3", "b4", "b5")},
    "upernet_resnet50": _upernet((3, 4, 6, 3)),
    "upernet_resnet101": _upernet((3, 4, 23, 3)),
}

BESIDE: dict[str, Callable[[Any], tuple[Any, Any]]] = {}
