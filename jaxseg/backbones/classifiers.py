"""Names of classifiers' weights, by the backbone that they fill, where the encoder's names are not the same."""

from flax import linen as nn

from jaxseg.backbones import convnext, hrnet, swin, swin_names, vit
from jaxseg.types import Rules

CLASSIFIERS: dict[type[nn.Module], dict[str, Rules]] = {
    convnext.ConvNeXt: {
        "timm": convnext.TIMM_NAMES,
        "torchvision": convnext.TORCHVISION_NAMES,
        "transformers": convnext.TRANSFORMERS_NAMES,
        "facebookresearch": convnext.OFFICIAL_NAMES,
    },
    hrnet.HRNet: {"timm": hrnet.TIMM_NAMES, "timm, with increase": hrnet.TIMM_MAPS_NAMES},
    swin.Swin: {
        f"{library}, version {version}": rules
        for version in (1, 2)
        for library, rules in (
            ("timm", swin_names.timm(version)),
            ("torchvision", swin_names.torchvision(version)),
            ("transformers", swin_names.transformers(version)),
            ("microsoft", swin_names.timm(version, official=True)),
        )
    },
    vit.ViT: {
        "timm": vit.TIMM_NAMES,
        "torchvision": vit.TORCHVISION_NAMES,
        "transformers": vit.TRANSFORMERS_NAMES,
        "transformers, DINOv2": vit.DINOV2_NAMES,
    },
}
"""Rules by the library that they are for."""

BEYOND = ("pyramid", *(f"c{k}_norm" for k in (2, 3, 4, 5)))
"""Parts of these backbones that no classifier has: they start afresh when its weights fill the rest."""
