"""Rename rules that fit a model: of the registered models of its classes, of its encoder, of its backbone alone."""

from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

from flax import linen as nn

from jaxseg import registry
from jaxseg.backbones.classifiers import CLASSIFIERS
from jaxseg.conversion import smp, smp_encoders
from jaxseg.conversion.objects import fitting
from jaxseg.errors import BadInput
from jaxseg.types import Rules

OWN: Mapping[str, Rules] = {"jaxseg": ((r"(.+)", r"\1|hwio"),)}
"""Rules of a model of jaxseg's: its own paths, and arrays as they lie."""


def rules_of(model: Any, origin: Mapping[str, Any] | None = None) -> dict[str, Rules]:
    """Return the rules of every registered model that is made of the same classes, by implementation; or of an encoder
    and a decoder of segmentation-models-pytorch that nothing is registered of.

    Args:
      model: a linen module.
      origin: of its card. The names that imported weights had come first, those of their encoder among them.

    Raises:
      BadInput: there are none.

    >>> from jaxseg.models.semantic.fcn import fcn_resnet50
    >>> list(rules_of(fcn_resnet50(num_classes=3)))
    ['torchvision']
    """
    found: dict[str, Rules] = {}
    for entry in registry.entries().values():
        if entry.names and _classes_in(entry.build()) == _classes_in(model):
            found |= {name: rules for name, rules in entry.names.items() if name not in found}
    origin = origin or {}
    if not found or origin.get("encoder") or ("smp" in found and model.depth != 5):
        found |= smp.rules_of(model, origin.get("encoder", ""))
    first = origin.get("implementation")
    found = {name: found[name] for name in sorted(found, key=lambda name: name != first)}
    found = {name: rules for name, rules in fitting(model, found).items() if name != "milesial" or _is_milesial(model)}
    if not found:
        raise BadInput(f"no rules bring weights of others into a {type(model).__name__}, or its own out")
    return found


def rules_for(entry: registry.Entry, model: Any) -> dict[str, Rules]:
    """Return the rules of a registered model as it was built: segmentation-models-pytorch counts levels from the last.

    >>> entry = registry.find("upernet_resnet50_smp")
    >>> [rules_for(entry, entry.build(encoder_depth=depth)) == entry.names for depth in (5, 4)]
    [True, False]
    """
    if "smp" not in entry.names or model.depth == 5:
        return dict(entry.names)
    return {**entry.names, **smp.rules_of(model)}


def _is_milesial(model: Any) -> bool:
    """True for the one U-Net that milesial/Pytorch-UNet has; names of other depths would fit no network there."""
    return (model.depth, model.norm, model.patch, model.dropout) == (4, "batch", 1, 0.0)


def backbone_rules(model: Any) -> dict[str, Rules]:
    """Return the rules that bring a classifier's weights into the backbone of a model; none if it has no backbone.

    >>> from jaxseg.models.semantic.fcn import fcn_resnet50
    >>> len(backbone_rules(fcn_resnet50(num_classes=3)))
    1
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        return {}
    on_regions = getattr(model, "shared_head", None) is not None
    known = {**smp_encoders.names_for(backbone), **CLASSIFIERS.get(type(backbone), {})}
    return {
        f"backbone ({name})": (*(_on_regions(rules) if on_regions else ()), *_under("backbone", rules))
        for name, rules in known.items()
    }


def _under(part: str, rules: Rules) -> Rules:
    return tuple((pattern, path and f"{part}/{path}") for pattern, path in rules)


def _on_regions(rules: Rules) -> Rules:
    """Return rules for a detector on one map, which has the last stage of its backbone in its shared head."""
    stage = r"layer(\d)"
    return _under(
        "shared_head", tuple((p.replace(stage, "layer(4)"), path) for p, path in rules if p.startswith(stage))
    )


def _classes_in(model: Any) -> tuple[type, ...]:
    """Return the class of a module and of those that it is given, such as a backbone and a decoder."""
    given = (getattr(model, field.name, None) for field in fields_of(model))
    return (type(model), *(type(value) for value in given if isinstance(value, nn.Module)))
