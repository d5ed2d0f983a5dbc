"""Networks of segmentation-models-pytorch from the ``config.json`` that its ``save_pretrained`` writes.

Every pair of an architecture of :data:`ARCHITECTURES` and an encoder of
:data:`jaxseg.conversion.smp_encoders.ENCODERS` is built as it is there; what is there and not here is refused by name.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxseg import registry
from jaxseg.conversion import smp_encoders
from jaxseg.errors import BadInput, suggest
from jaxseg.layers.encoder_decoder import EncoderDecoder
from jaxseg.models.semantic import (
    deeplabv3,
    deeplabv3plus,
    fpn,
    linknet,
    manet,
    pan,
    pspnet,
    unet,
    unetplusplus,
    upernet,
)
from jaxseg.types import Rules

APART: dict[str, tuple[str, ...]] = {
    "Linknet": ("mit_",),
    "UnetPlusPlus": ("mit_",),
    "PSPNet": ("tu-resne", "tu-vgg"),
}
"""Encoders, by how their names begin, that an architecture does not have. Two need a map at stride 2, and MiT has none;
PSPNet's encoders from timm end where it reads them, without what our backbones have beyond."""


STATISTICS = ("mean", "std", "input_range", "input_space")
"""Names of an encoder's statistics of pixels in the library; :mod:`jaxseg.conversion.pixels` reads them."""


@dataclass(frozen=True)
class Saved:
    """The network that a configuration describes.

    >>> found = saved({"_model_class": "Unet", "encoder_name": "resnet18", "classes": 1})
    >>> found.name, found.classes, found.model.num_classes
    ('unet_resnet18', 1, 2)

    Attributes:
      name: of the registered model that it is, or architecture and encoder.
      model: the linen module.
      rules: that bring its weights in.
      classes: outputs of the file's head; the module has two where the file has one.
    """

    name: str
    model: nn.Module
    rules: Rules
    classes: int


def config_of(path: Path) -> dict[str, Any] | None:
    """Return the configuration in a folder that segmentation-models-pytorch wrote; None if it is no such folder.

    >>> config_of(Path("no such folder")) is None
    True

    Raises:
      BadInput: there is one that cannot be read.
    """
    file = path / "config.json"
    if not file.is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{file} is damaged ({' '.join(str(error).split())[:120]})") from error
    return config if isinstance(config, dict) and "_model_class" in config else None


def classes_of(config: Mapping[str, Any]) -> int:
    """Return the number of classes of a saved network: a single output stands for two.

    >>> classes_of({"classes": 1})
    2

    Raises:
      BadInput: that is no count.
    """
    count = config.get("classes", 1)
    if type(count) is not int or not 1 <= count <= 10_000:
        raise BadInput(f"config.json: classes is {count!r}, not a number of classes")
    return max(count, 2)


def channels_of(config: Mapping[str, Any]) -> int:
    """Return how many channels the images of a saved network have.

    Raises:
      BadInput: that is no count.

    >>> channels_of({"in_channels": 4})
    4
    """
    count = config.get("in_channels", 3)
    if type(count) is not int or not 1 <= count <= 1_000:
        raise BadInput(f"config.json: in_channels is {count!r}, not a number of channels")
    return count


def saved(config: Mapping[str, Any], *, num_classes: int | None = None) -> Saved:
    """Return the network that a configuration describes.

    >>> saved({"_model_class": "Unet", "encoder_name": "resnet18", "classes": 3}).name
    'unet_resnet18'

    Args:
      config: of ``save_pretrained``.
      num_classes: other classes than the file's.

    Raises:
      BadInput: an architecture, encoder or option that is not here.
    """
    kind = config.get("_model_class")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise BadInput(f"{kind!r} of segmentation-models-pytorch is not here{suggest(str(kind), ARCHITECTURES)}")
    options = Options(config, kind)
    classes = classes_of(config) if num_classes is None else num_classes
    model, rules = ARCHITECTURES[kind](options, classes)
    options.check_all_used()
    own = [name for name, entry in registry.entries().items() if "smp" in entry.names]
    fields = {"num_classes": classes, "in_channels": channels_of(config)}
    same = [name for name in own if registry.create_model(name, **fields) == model]
    name = same[0] if same else f"{kind.lower()}_{config['encoder_name']}"
    return Saved(name, model, rules, config.get("classes", 1))


class Options:
    """A configuration of which every entry has to be looked at.

    >>> options = Options({"encoder_name": "resnet18", "encoder_depth": 4}, "Unet")
    >>> options.get("encoder_depth", 5), options.get("decoder_attention_type", "")
    (4, '')
    """

    def __init__(self, config: Mapping[str, Any], kind: str) -> None:
        self.config, self.kind = config, kind
        # Where the numbers came from and what hangs beside the network change nothing about its logits.
        self.used = {"_model_class", "encoder_weights", "classes", "aux_params", "in_channels", *STATISTICS}
        outputs = ("sigmoid",) if config.get("classes", 1) == 1 else ("softmax", "softmax2d", "logsoftmax")
        self.demand("activation", None, "identity", *outputs)

    def get(self, name: str, default: Any) -> Any:
        """Return an option of the type of its default."""
        self.used.add(name)
        value = self.config.get(name, default)
        value = tuple(value) if isinstance(value, list) else value
        numbers = value if isinstance(value, tuple) else (value,)
        if type(value) is not type(default) or (not isinstance(default, str) and not all(_is_size(n) for n in numbers)):
            raise BadInput(f"config.json: {name} of {self.kind} is {value!r}; a value like {default!r} is expected")
        return value

    def demand(self, name: str, *known: Any) -> None:
        """Refuse any value but those that are built here; the first is the default."""
        self.used.add(name)
        value = self.config.get(name, known[0])
        if value not in known:
            raise BadInput(
                f"config.json: {name}={value!r} of {self.kind} is not here; there is {' or '.join(map(repr, known))}"
            )

    def check_all_used(self) -> None:
        """Refuse an option that nothing has looked at."""
        for name, value in self.config.items():
            if name not in self.used and value is not None:
                raise BadInput(f"config.json: {name}={value!r} of {self.kind} is not known here")

    def encoder(self, output_stride: int = 32) -> tuple[nn.Module, Rules]:
        """Return the backbone, and the rules of its weights."""
        name = self.get("encoder_name", "resnet34")
        known = smp_encoders.find(name)
        if output_stride not in (8, 16, 32):
            raise BadInput(f"encoder_output_stride {output_stride}; there are 8, 16 and 32")
        if output_stride < 32 and not known.dilates:
            raise BadInput(f"{self.kind} on encoder {name!r} is not here: it has no output stride of {output_stride}")
        if name.startswith(APART.get(self.kind, ())):
            raise BadInput(f"{self.kind} on encoder {name!r} is not here")
        return known.build(output_stride=output_stride, in_channels=channels_of(self.config)), known.rules


def _is_size(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and 0 < value <= 65_536)


def _both(rules: Rules, encoder: Rules) -> Rules:
    """Return rename rules of an architecture on a ResNet, for another encoder and a file with a classification head
    too.
    """
    inside = tuple((rf"encoder\.{name}", path and f"backbone/{path}") for name, path in encoder)
    return (*inside, *rules, (r"classification_head\..*", None))


def _pair(decoder: nn.Module, rules: Rules, options: Options, classes: int, **more: Any) -> tuple[nn.Module, Rules]:
    stride = more.pop("output_stride", 32)
    options.demand("encoder_depth", more.pop("depth", 5))
    backbone, encoder = options.encoder(stride)
    model = EncoderDecoder(backbone=backbone, decoder=decoder, num_classes=classes, **more)
    return model, _both(rules, encoder)


def _unet(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    decoder = unet.UNetDecoder(_stairs(options), centre=options.get("encoder_name", "resnet34").startswith("vgg"))
    return _pair(decoder, unet.SMP_NAMES, options, classes)


def _unetplusplus(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    # On a VGG it has two convolutions more, which it makes and never calls.
    rules = (*unetplusplus.SMP_NAMES, (r"decoder\.center\..*", None))
    return _pair(unetplusplus.UNetPlusPlusDecoder(_stairs(options)), rules, options, classes)


def _stairs(options: Options) -> tuple[int, ...]:
    """Return channels of the steps of U-Net and UNet++, whose other options are the same."""
    options.demand("decoder_use_norm", "batchnorm", True)
    options.demand("decoder_use_batchnorm", True)
    options.demand("decoder_attention_type", None)
    options.demand("decoder_interpolation", "nearest")
    return options.get("decoder_channels", unet.UNetDecoder().features)


def _manet(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    options.demand("decoder_use_norm", "batchnorm", True)
    options.demand("decoder_use_batchnorm", True)
    options.demand("decoder_interpolation", "nearest")
    features = options.get("decoder_channels", manet.MANetDecoder().features)
    decoder = manet.MANetDecoder(features, options.get("decoder_pab_channels", 64))
    return _pair(decoder, manet.SMP_NAMES, options, classes)


def _linknet(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    options.demand("decoder_use_norm", "batchnorm", True)
    options.demand("decoder_use_batchnorm", True)
    return _pair(linknet.LinkNetDecoder(), linknet.SMP_NAMES, options, classes, kernel_size=1)


def _fpn(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    options.demand("decoder_merge_policy", "add")
    options.demand("decoder_interpolation", "nearest")
    options.demand("upsampling", 4)
    decoder = fpn.FPNDecoder(
        options.get("decoder_pyramid_channels", 256),
        options.get("decoder_segmentation_channels", 128),
        options.get("decoder_dropout", 0.2),
    )
    return _pair(decoder, fpn.SMP_NAMES, options, classes, kernel_size=1)


def _pan(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    options.demand("decoder_interpolation", "bilinear")
    options.demand("encoder_output_stride", 16)
    options.demand("encoder_dilation", True)
    options.demand("upsampling", 4)
    decoder = pan.PANDecoder(options.get("decoder_channels", 32))
    return _pair(decoder, pan.SMP_NAMES, options, classes, output_stride=16, multiple=16, least=128)


def _pspnet(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    options.demand("decoder_use_norm", "batchnorm", True)
    options.demand("psp_use_batchnorm", True)
    options.demand("upsampling", 8)
    decoder = pspnet.PSPDecoder(features=options.get("psp_out_channels", 512), dropout=options.get("psp_dropout", 0.2))
    return _pair(decoder, pspnet.SMP_NAMES, options, classes, depth=3, multiple=8)


def _upernet(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    options.demand("decoder_use_norm", "batchnorm", True)
    options.demand("upsampling", 4)
    decoder = upernet.UPerNetDecoder(options.get("decoder_channels", 256), map_norm="pixel")
    return _pair(decoder, upernet.SMP_NAMES, options, classes, kernel_size=1)


def _deeplabv3(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    options.demand("decoder_aspp_separable", False)
    stride = options.get("encoder_output_stride", 8)
    options.demand("upsampling", None, stride)
    decoder = deeplabv3.DeepLabV3Decoder(
        options.get("decoder_channels", 256),
        options.get("decoder_atrous_rates", (12, 24, 36)),
        dropout=options.get("decoder_aspp_dropout", 0.5),
    )
    rules = deeplabv3.SMP_NAMES
    return _pair(decoder, rules, options, classes, output_stride=stride, multiple=stride, kernel_size=1)


def _deeplabv3plus(options: Options, classes: int) -> tuple[nn.Module, Rules]:
    options.demand("decoder_aspp_separable", True)
    options.demand("encoder_depth", 5)
    options.demand("upsampling", 4)
    backbone, encoder = options.encoder(options.get("encoder_output_stride", 16))
    model = deeplabv3plus.DeepLabV3Plus(
        backbone=backbone,
        num_classes=classes,
        rates=options.get("decoder_atrous_rates", (12, 24, 36)),
        kind="separable_plain",
        features=options.get("decoder_channels", 256),
        refinements=1,
        decoders=1,
        dropout=options.get("decoder_aspp_dropout", 0.5),
    )
    return model, _both(deeplabv3plus.SMP_NAMES, encoder)


ARCHITECTURES: dict[str, Callable[[Options, int], tuple[nn.Module, Rules]]] = {
    "DeepLabV3": _deeplabv3,
    "DeepLabV3Plus": _deeplabv3plus,
    "FPN": _fpn,
    "Linknet": _linknet,
    "MAnet": _manet,
    "PAN": _pan,
    "PSPNet": _pspnet,
    "UPerNet": _upernet,
    "Unet": _unet,
    "UnetPlusPlus": _unetplusplus,
}
"""By the class's name there."""


def rules_of(model: nn.Module, encoder_name: str = "") -> dict[str, Rules]:
    """Return the rules of the network of an architecture and an encoder; none for any other.

    Some encoders are the same network under two names: without ``encoder_name`` they are the library's own.

    >>> list(rules_of(saved({"_model_class": "Unet", "encoder_name": "resnet18", "classes": 3}).model))
    ['smp']
    """
    rules = DECODERS.get(type(model.decoder)) if isinstance(model, EncoderDecoder) else None
    if isinstance(model, deeplabv3plus.DeepLabV3Plus):
        rules = deeplabv3plus.SMP_NAMES
    if rules is None:
        return {}
    backbone = model.backbone
    encoder = smp_encoders.find(encoder_name).rules if encoder_name else smp_encoders.names_of(backbone)
    return {} if encoder is None else {"smp": _both(rules, encoder)}


DECODERS: dict[type, Rules] = {
    deeplabv3.DeepLabV3Decoder: deeplabv3.SMP_NAMES,
    fpn.FPNDecoder: fpn.SMP_NAMES,
    linknet.LinkNetDecoder: linknet.SMP_NAMES,
    manet.MANetDecoder: manet.SMP_NAMES,
    pan.PANDecoder: pan.SMP_NAMES,
    pspnet.PSPDecoder: pspnet.SMP_NAMES,
    unet.UNetDecoder: unet.SMP_NAMES,
    unetplusplus.UNetPlusPlusDecoder: unetplusplus.SMP_NAMES,
    upernet.UPerNetDecoder: upernet.SMP_NAMES,
}
