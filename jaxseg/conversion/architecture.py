"""Whose published weights a model can have: the name behind ``torchvision:TAG``, read off the model itself."""

from dataclasses import fields
from typing import Any

from flax import linen as nn

from jaxseg import registry
from jaxseg.backbones import mobilenet
from jaxseg.backbones.encoders import ENCODERS
from jaxseg.errors import BadInput
from jaxseg.weights.published import PUBLISHED

FREE = {
    *("output_stride", "multi_grid", "stride_on", "ceil_mode", "out_maps", "padding", "epsilon", "last", "activation"),
    *("in_channels", "standardize", "dtype", "num_classes", "parent", "name"),
}
"""Fields of modules that the shapes of published arrays do not depend on, or that heads of one's own change."""


def architecture_of(model: Any, source: str) -> str:
    """Return the name, in the table of published files, of a model or of its backbone.

    Args:
      model: a linen module.
      source: ``torchvision:TAG``.

    Raises:
      BadInput: no published file of that name is for the model or its backbone, or several are.

    >>> from jaxseg.registry import create_model
    >>> architecture_of(create_model("unet_resnet34", num_classes=2), "torchvision:IMAGENET1K_V1")
    'resnet34'
    >>> architecture_of(create_model("fcn_resnet50", num_classes=2), "torchvision:COCO_WITH_VOC_LABELS_V1")
    'fcn_resnet50'
    """
    offered = [name for name, files in PUBLISHED.items() if source in files]
    found = [name for name in offered if name in registry.entries() and _alike(registry.create_model(name), model)]
    backbone = getattr(model, "backbone", None)
    if not found and isinstance(backbone, nn.Module):
        found = [name for name in offered if (plain := _backbone(name)) is not None and _alike(plain, backbone)]
    if len(found) == 1:
        return found[0]
    kind = type(model).__name__
    if not offered:
        tags = sorted({tag for files in PUBLISHED.values() for tag in files if tag.startswith("torchvision:")})
        raise BadInput(f"no weights {source!r} are known; there are {', '.join(tags)}")
    names = found or offered
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    raise BadInput(
        f"whose weights {source!r} are is not told by a {kind}, which may be any of {shown}; name it in the recipe: "
        f'init=WeightsFrom("{source}", "{names[0]}")'
        if found
        else f"{source!r} is of other networks ({shown}), not of this {kind} nor of its backbone"
    )


def _backbone(name: str) -> nn.Module | None:
    """Return a backbone by torchvision's name of its classifier."""
    if name.startswith("mobilenet_v3_"):
        return mobilenet.mobilenet_v3(size=name.rpartition("_")[2])
    return ENCODERS[name].build() if name in ENCODERS else None


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Return True if two modules are of one class and of equal parts; normalisation may be frozen or learn."""
    if type(one) is not type(other):
        return False
    whole = getattr(one, "backbone", None) is not None  # anchors, proposals, slots are the user's to choose
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, nn.Module) or isinstance(theirs, nn.Module):
            if not (isinstance(mine, nn.Module) and isinstance(theirs, nn.Module) and _alike(mine, theirs)):
                return False
        elif field.name == "norm":
            if (mine == "none") != (theirs == "none"):
                return False
        elif field.name not in FREE and mine != theirs and not whole:
            return False
    return True
