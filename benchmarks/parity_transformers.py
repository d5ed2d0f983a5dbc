"""transformers' networks by our names."""

from collections.abc import Callable
from typing import Any

from parity_timm import Last

from jaxseg.backbones import vit
from jaxseg.backbones.vit_blocks import dinov2_blocks
from tests.torchvision_cpu import torchvision_or_skip

NOTE = ""


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """An even and an odd size for every network; whole patches of 14 for DINOv2."""
    return ((70, 98), (126, 84)) if "dinov2" in name else ((64, 96), (67, 45))


def logits(network: Any, image: Any) -> Any:
    """Scores resized to the image, as the library's own post-processing does it; of a backbone the last map."""
    from torch.nn import functional

    if hasattr(network, "out_features"):
        return network(image).feature_maps[-1]
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


def _dinov2(width: int, heads: int) -> Callable[[], Any]:
    """Of 12 blocks, pre-trained on 37x37 patches."""

    def build() -> Any:
        torchvision_or_skip()
        from transformers import Dinov2Backbone, Dinov2Config

        from tests.oracles.torch_side import draw

        config = Dinov2Config(hidden_size=width, num_attention_heads=heads, image_size=518, patch_size=14)
        return draw(Dinov2Backbone(config))

    return build


def _blocks(variant: str) -> Callable[[Any], tuple[Any, Any]]:
    rules = tuple((name, path and f"backbone/{path}") for name, path in vit.DINOV2_NAMES)
    return lambda network: (Last(dinov2_blocks(variant, (11,)), "block11"), rules)


REFERENCES: dict[str, Callable[[], Any]] = {
    **{f"segformer_{variant}": _segformer(variant) for variant in ("b0", "b1", "b2", "b3", "b4", "b5")},
    "upernet_resnet50": _upernet((3, 4, 6, 3)),
    "upernet_resnet101": _upernet((3, 4, 23, 3)),
    **{f"dinov2-{variant}": _dinov2(*shape) for variant, shape in vit.VARIANTS.items()},
}

BESIDE: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    f"dinov2-{variant}": _blocks(variant) for variant in vit.VARIANTS
}
"""Under transformers' names."""
