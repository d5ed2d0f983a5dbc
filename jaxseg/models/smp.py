"""segmentation-models-pytorch's architectures on every encoder, under names such as ``unet_efficientnet_b0``.

A name is a decoder of :data:`ARCHITECTURES` and an encoder of :data:`jaxseg.backbones.encoders.VARIANTS`. The builders
take the library's options under its names. A pair that is registered on its own keeps its meaning, so that beside a
paper's ``pspnet_resnet50`` the library's is ``pspnet_resnet50_smp``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxseg.backbones.encoders import ENCODERS, VARIANTS
from jaxseg.models import on_encoder
from jaxseg.models.semantic import (
    deeplabv3,
    deeplabv3plus,
    fpn,
    linknet,
    manet,
    pan,
    pspnet,
    segformer,
    unet,
    unetplusplus,
    upernet,
)
from jaxseg.registry import register
from jaxseg.types import Rules


@dataclass(frozen=True)
class Architecture:
    """A decoder that goes on every encoder.

    >>> ARCHITECTURES["unet"].kind
    'Unet'

    Attributes:
      kind: the class there.
      build: the builder here, whose first argument names the encoder.
      decoder: the class of its decoder, or of the network that has none apart.
      rules: of a depth, from its state dict on an encoder whose names the first rules have.
      paper: where it is described.
      title: for people.
      dilated: whether its encoders have an output stride below 32.
      apart: encoders that it is not put on, by how their names begin.
      own: the zoo has a paper's network of this name on ResNets, so that the library's are called ``_smp`` there.
    """

    kind: str
    build: Callable[..., Any]
    decoder: type
    rules: Callable[[int], Rules]
    paper: str
    title: str
    dilated: bool = False
    apart: tuple[str, ...] = ()
    own: bool = False

    def names(self, encoder: Rules, depth: int = 5) -> Rules:
        r"""Return the rules from its state dict on an encoder.

        >>> ARCHITECTURES["unet"].names((("conv1", "stem"),))[0]
        ('encoder\\.conv1', 'backbone/stem')
        """
        inside = tuple((rf"encoder\.{name}", path and f"backbone/{path}") for name, path in encoder)
        # Made there and never called: an attention before the last step of the U-Nets, UNet++'s centre on a VGG.
        unused = (rf"decoder\.blocks\.(?:x_0_)?{depth - 1}\.attention1\..*", None)
        return (*inside, unused, *self.rules(depth), (r"decoder\.center\..*", None))


_WITHOUT_HALF = tuple(name for name, encoder in ENCODERS.items() if encoder.finest > 2)
"""Encoders without a map at stride 2, which some decoders cannot do without."""

ARCHITECTURES: dict[str, Architecture] = {
    "unet": Architecture(
        "Unet", on_encoder.unet_on, unet.UNetDecoder, lambda _: unet.SMP_NAMES, "arXiv:1505.04597", "U-Net"
    ),
    "unetplusplus": Architecture(
        "UnetPlusPlus",
        on_encoder.unetplusplus_on,
        unetplusplus.UNetPlusPlusDecoder,
        lambda _: unetplusplus.SMP_NAMES,
        "arXiv:1807.10165",
        "UNet++",
        apart=_WITHOUT_HALF,
    ),
    "manet": Architecture(
        "MAnet",
        on_encoder.manet_on,
        manet.MANetDecoder,
        lambda _: manet.SMP_NAMES,
        "doi:10.1109/ACCESS.2020.3025372",
        "MA-Net",
    ),
    "linknet": Architecture(
        "Linknet",
        on_encoder.linknet_on,
        linknet.LinkNetDecoder,
        lambda _: linknet.SMP_NAMES,
        "arXiv:1707.03718",
        "LinkNet",
        apart=_WITHOUT_HALF,
    ),
    "fpn": Architecture(
        "FPN", on_encoder.fpn_on, fpn.FPNDecoder, lambda _: fpn.SMP_NAMES, "arXiv:1901.02446", "Semantic FPN"
    ),
    "pan": Architecture(
        "PAN", on_encoder.pan_on, pan.PANDecoder, lambda _: pan.SMP_NAMES, "arXiv:1805.10180", "PAN", dilated=True
    ),
    "pspnet": Architecture(
        "PSPNet",
        on_encoder.pspnet_on,
        pspnet.PSPDecoder,
        lambda _: pspnet.SMP_NAMES,
        "arXiv:1612.01105",
        "PSPNet",
        apart=("tu-vgg",),  # end there where it reads them, without what our backbone has beyond
        own=True,
    ),
    "upernet": Architecture(
        "UPerNet",
        on_encoder.upernet_on,
        upernet.UPerNetDecoder,
        upernet.smp_names_of,
        "arXiv:1807.10221",
        "UPerNet",
        own=True,
    ),
    "segformer": Architecture(
        "Segformer",
        on_encoder.segformer_on,
        segformer.SegFormerDecoder,
        lambda _: segformer.SMP_NAMES,
        "arXiv:2105.15203",
        "SegFormer",
    ),
    "deeplabv3": Architecture(
        "DeepLabV3",
        on_encoder.deeplabv3_on,
        deeplabv3.DeepLabV3Decoder,
        lambda _: deeplabv3.SMP_NAMES,
        "arXiv:1706.05587",
        "DeepLab v3",
        dilated=True,
        own=True,
    ),
    "deeplabv3plus": Architecture(
        "DeepLabV3Plus",
        on_encoder.deeplabv3plus_on,
        deeplabv3plus.DeepLabV3Plus,
        lambda _: deeplabv3plus.SMP_NAMES,
        "arXiv:1802.02611",
        "DeepLab v3+",
        dilated=True,
        own=True,
    ),
}
"""By the name that comes before the encoder's."""


def _pairs() -> Iterator[tuple[str, Architecture, str]]:
    """Yield the name of every registered combination, its architecture and its encoder."""
    for prefix, architecture in ARCHITECTURES.items():
        for variant, encoder in VARIANTS.items():
            if encoder.startswith(architecture.apart):
                continue
            if architecture.dilated and not ENCODERS[encoder].dilates:
                continue
            suffix = "_smp" if architecture.own and variant.startswith("resn") else ""
            yield f"{prefix}_{variant}{suffix}", architecture, encoder


class _Names(Mapping[str, Rules]):
    """The rules of one combination, made when they are asked for: those of all are hundreds of thousands."""

    def __init__(self, architecture: Architecture, encoder: str) -> None:
        self.architecture, self.encoder = architecture, encoder

    def __getitem__(self, name: str) -> Rules:
        if name != "smp":
            raise KeyError(name)
        return self.architecture.names(ENCODERS[self.encoder].rules)

    def __iter__(self) -> Iterator[str]:
        return iter(("smp",))

    def __len__(self) -> int:
        return 1


for _name, _architecture, _encoder in _pairs():
    register(
        task="semantic",
        paper=_architecture.paper,
        name=_name,
        summary=f"{_architecture.title} of segmentation-models-pytorch on its encoder {_encoder}.",
        names=_Names(_architecture, _encoder),
        combined=True,
    )(partial(_architecture.build, _encoder))
