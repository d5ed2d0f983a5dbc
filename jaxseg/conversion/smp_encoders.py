"""Encoders of segmentation-models-pytorch: by their names there, or by the backbone that they are."""

import functools
from typing import Any

from flax import linen as nn

from jaxseg.backbones.efficientnet import EfficientNet
from jaxseg.backbones.encoder import EncoderSpec
from jaxseg.backbones.encoders import ENCODERS, VARIANTS
from jaxseg.errors import BadInput, suggest
from jaxseg.layers.standardize import CENTRED, UNIT, Standardize
from jaxseg.types import Rules


def find(name: str) -> EncoderSpec:
    """Return the encoder of that name; after a point it may name timm's weights that it was initialised with.

    >>> find("resnet50").dilates
    True

    Raises:
      BadInput: there is none here.
    """
    known, (_, _, tag) = plain(name), name.partition(".")
    if known not in ENCODERS or (tag and not known.startswith("tu-")):
        raise BadInput(f"encoder {name!r} of segmentation-models-pytorch is not here{suggest(name, ENCODERS)}")
    return ENCODERS[known]


def plain(name: str) -> str:
    """Return the name of :data:`jaxseg.backbones.encoders.ENCODERS` for one that the library takes.

    >>> plain("tu-resnet50.a1_in1k"), plain("timm-mobilenetv3_small_100")
    ('tu-resnet50', 'tu-tf_mobilenetv3_small_100')
    """
    known = name.partition(".")[0]  # and the older names as the library itself reads them
    return known.replace("timm-mobilenetv3", "tu-tf_mobilenetv3").replace("timm-regnet", "tu-regnet")


def statistics_of(name: str) -> Standardize | None:
    """Return the statistics of the timm weights that a name ends with; None where they are those of the plain name.

    >>> statistics_of("tu-resnet34.ra4_e3600_r224_in1k") == CENTRED
    True
    """
    tag = name.partition(".")[2]
    return next((value for begin, value in TAGS.items() if tag.startswith(begin)), None)


def names_of(backbone: nn.Module, depth: int = 5) -> Rules | None:
    """Return the rules of the encoder that a backbone of ``depth`` maps is, whatever its statistics and dtype; None if
    it is none.

    Where the library and timm have the same network they are the library's.

    >>> names_of(find("resnet18").build(output_stride=16)) == find("resnet18").rules
    True
    """
    for encoder in _of_class(type(backbone)).values():
        if is_of(backbone, encoder, depth):
            return encoder.rules
    return None


def is_of(backbone: Any, encoder: EncoderSpec, depth: int = 5) -> bool:
    """Return True if a backbone is what an encoder builds, whatever its statistics, dtype and number of channels.

    >>> is_of(find("resnet18").build(in_channels=4), find("resnet18"))
    True
    """
    known = {"in_channels": backbone.in_channels, "standardize": backbone.standardize, "dtype": backbone.dtype}
    stride = backbone.output_stride if encoder.dilates else 32
    return encoder.backbone(depth=depth, output_stride=stride, **known) == backbone


def names_for(backbone: nn.Module) -> dict[str, Rules]:
    """Return the rules that bring a classifier's weights into a backbone, each once, by an encoder that has them.

    Names of timm's encoders are without the prefix that segmentation-models-pytorch puts before them.

    >>> list(names_for(find("resnet18").build()))
    ['resnet18']
    """
    kin = _of_class(type(backbone))
    if isinstance(backbone, EfficientNet):  # each numbers its blocks by itself
        kin = {name: encoder for name, encoder in kin.items() if _alike(encoder.build(), backbone)} or kin
    found: dict[Rules, str] = {}
    for name, encoder in kin.items():
        found.setdefault(tuple((old.removeprefix(r"model\."), new) for old, new in encoder.rules), name)
    return {name: rules for rules, name in found.items()}


def check_geometry(source: str, model: Any) -> None:
    """Refuse weights of timm that fit an EfficientNet by name and shape, but were trained with another padding.

    >>> check_geometry("timm:tf_efficientnet_b0.ns_jft_in1k", None)

    Args:
      source: as the user gave it.
      model: that they are for.

    Raises:
      BadInput: they were; the encoders that they are for are named.
    """
    theirs = ENCODERS.get("tu-" + source.removeprefix("timm:").partition(".")[0])
    backbone = getattr(model, "backbone", None)
    if theirs is None or not source.startswith("timm:") or not isinstance(backbone, EfficientNet):
        return
    built = theirs.build()
    if not isinstance(built, EfficientNet) or _alike(built, backbone) or built.blocks != backbone.blocks:
        return
    fit = [name for name, encoder in VARIANTS.items() if _alike(ENCODERS[encoder].build(), built)]
    raise BadInput(
        f"{source} was trained with padding {built.padding!r} and epsilon {built.epsilon:g}, the model's encoder has "
        f"{backbone.padding!r} and {backbone.epsilon:g}; it is for {' and '.join(fit)}, as in unet_{fit[0]}"
    )


def _alike(one: nn.Module, other: EfficientNet) -> bool:
    """Whether weights of one give the other's numbers. Padding counted at a fixed resolution is the same at most."""
    return isinstance(one, EfficientNet) and (one.blocks, one.padding, one.epsilon) == (
        other.blocks,
        other.padding,
        other.epsilon,
    )


@functools.cache
def _of_class(kind: type) -> dict[str, EncoderSpec]:
    return {name: encoder for name, encoder in ENCODERS.items() if type(encoder.build()) is kind}


TAGS = {"ra4": CENTRED, "ap_": CENTRED, "miil": UNIT}
"""Statistics of timm's weights by how their names begin; the others have those of the plain name."""
