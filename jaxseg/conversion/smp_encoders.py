"""Encoders of segmentation-models-pytorch: by their names there, or by the backbone that they are."""

from typing import Any

from flax import linen as nn

from jaxseg.backbones.encoder import Encoder
from jaxseg.backbones.encoders import ENCODERS
from jaxseg.errors import BadInput, suggest
from jaxseg.layers.standardize import CENTRED, UNIT, Standardize
from jaxseg.types import Rules


def find(name: str) -> Encoder:
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
    for encoder in ENCODERS.values():
        if is_of(backbone, encoder, depth):
            return encoder.rules
    return None


def is_of(backbone: Any, encoder: Encoder, depth: int = 5) -> bool:
    """Return True if a backbone is what an encoder builds, whatever its statistics, dtype and number of channels.

    >>> is_of(find("resnet18").build(in_channels=4), find("resnet18"))
    True
    """
    if not isinstance(backbone, type(encoder.build())):
        return False
    known = {"in_channels": backbone.in_channels, "standardize": backbone.standardize, "dtype": backbone.dtype}
    stride = backbone.output_stride if encoder.dilates else 32
    return encoder.backbone(depth=depth, output_stride=stride, **known) == backbone


def names_by_class(kind: type) -> dict[str, Rules]:
    """Return the rules of all encoders whose backbone is of a class, each once, by an encoder that has them.

    Names of timm's encoders are without the prefix that segmentation-models-pytorch puts before them.

    >>> list(names_by_class(type(find("resnet18").build())))
    ['resnet18']
    """
    found: dict[Rules, str] = {}
    for name, encoder in ENCODERS.items():
        if isinstance(encoder.build(), kind):
            found.setdefault(tuple((old.removeprefix(r"model\."), new) for old, new in encoder.rules), name)
    return {name: rules for rules, name in found.items()}


TAGS = {"ra4": CENTRED, "ap_": CENTRED, "miil": UNIT}
"""Statistics of timm's weights by how their names begin; the others have those of the plain name."""
