"""Networks of segmentation-models-pytorch from the ``config.json`` that its ``save_pretrained`` writes.

Every pair of an architecture of :data:`jaxseg.models.smp.ARCHITECTURES` and an encoder of
:data:`jaxseg.backbones.encoders.ENCODERS` is built as it is there; what is there and not here is refused by name.
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
from jaxseg.layers.encoder_decoder import EncoderDecoder, ImageHead
from jaxseg.models.on_encoder import STAIRS
from jaxseg.models.semantic.deeplabv3plus import DeepLabV3Plus
from jaxseg.models.smp import ARCHITECTURES, Architecture
from jaxseg.types import Rules

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
    if not isinstance(kind, str) or kind not in OPTIONS:
        raise BadInput(f"{kind!r} of segmentation-models-pytorch is not here{suggest(str(kind), OPTIONS)}")
    architecture = next(known for known in ARCHITECTURES.values() if known.kind == kind)
    options = Options(config, kind)
    classes = classes_of(config) if num_classes is None else num_classes
    model, rules = _network(options, architecture, classes)
    options.check_all_used()
    own = [name for name, entry in registry.entries().items() if "smp" in entry.names]
    own += [name for name in registry.combinations() if name.startswith(kind.lower())]
    fields = {"num_classes": classes, "in_channels": channels_of(config)}
    same = next((name for name in own if registry.create_model(name, **fields) == model), "")
    return Saved(same or f"{kind.lower()}_{config['encoder_name']}", model, rules, config.get("classes", 1))


class Options:
    """A configuration of which every entry has to be looked at.

    >>> options = Options({"encoder_name": "resnet18", "encoder_depth": 4}, "Unet")
    >>> options.get("encoder_depth", 5), options.get("decoder_attention_type", "")
    (4, '')
    """

    def __init__(self, config: Mapping[str, Any], kind: str) -> None:
        self.config, self.kind = config, kind
        # Where the numbers came from changes nothing about the logits.
        self.used = {"_model_class", "encoder_weights", "classes", "in_channels", *STATISTICS}
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

    def given(self, name: str) -> Any:
        """Return an option as it stands there, None where it does not."""
        self.used.add(name)
        return self.config.get(name)

    def demand(self, name: str, *known: Any) -> Any:
        """Return an option, and refuse any value but those that are built here; the first is the default."""
        self.used.add(name)
        value = self.config.get(name, known[0])
        if value not in known:
            raise BadInput(
                f"config.json: {name}={value!r} of {self.kind} is not here; there is {' or '.join(map(repr, known))}"
            )
        return value

    def check_all_used(self) -> None:
        """Refuse an option that nothing has looked at."""
        for name, value in self.config.items():
            if name not in self.used and value is not None:
                raise BadInput(f"config.json: {name}={value!r} of {self.kind} is not known here")


def _is_size(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and 0 < value <= 65_536)


def _network(options: Options, architecture: Architecture, classes: int) -> tuple[nn.Module, Rules]:
    """Return the network and its rules."""
    kind, name = architecture.kind, options.get("encoder_name", "resnet34")
    known = smp_encoders.find(name)
    if "swin" in name:
        options.demand("strict_img_size", True, False)  # ours takes any size
    depth = options.get("encoder_depth", 3 if kind == "PSPNet" else 5)
    fields = OPTIONS[kind](options, depth)
    stride = fields.get("encoder_output_stride", 32)
    if stride not in (8, 16, 32):
        raise BadInput(f"encoder_output_stride {stride}; there are 8, 16 and 32")
    if stride < 32 and not known.dilates:
        raise BadInput(f"{kind} on encoder {name!r} is not here: it has no output stride of {stride}")
    if name.startswith(architecture.apart):
        raise BadInput(f"{kind} on encoder {name!r} is not here")
    model = architecture.build(
        smp_encoders.plain(name),
        classes,
        encoder_depth=depth,
        aux_params=ImageHead.parse(options.given("aux_params")),
        in_channels=channels_of(options.config),
        standardize=smp_encoders.statistics_of(name) if channels_of(options.config) == 3 else None,
        **fields,
    )
    return model, architecture.names(known.rules, depth)


def _usual(options: Options) -> None:
    """Refuse other normalisations and interpolations than the usual ones."""
    options.demand("decoder_use_norm", "batchnorm", True)
    options.demand("decoder_use_batchnorm", True)
    options.demand("decoder_interpolation", "nearest")


def _stairs(options: Options, depth: int) -> dict[str, Any]:
    _usual(options)
    attention = options.demand("decoder_attention_type", None, "scse")
    return {"decoder_channels": options.get("decoder_channels", STAIRS), "decoder_attention_type": attention}


def _manet(options: Options, depth: int) -> dict[str, Any]:
    _usual(options)
    channels = options.get("decoder_channels", STAIRS)
    return {"decoder_channels": channels, "decoder_pab_channels": options.get("decoder_pab_channels", 64)}


def _linknet(options: Options, depth: int) -> dict[str, Any]:
    options.demand("decoder_use_norm", "batchnorm", True)
    options.demand("decoder_use_batchnorm", True)
    return {}


def _fpn(options: Options, depth: int) -> dict[str, Any]:
    options.demand("decoder_merge_policy", "add")
    options.demand("decoder_interpolation", "nearest")
    _enlarged(options, 4, 2 ** max(depth - 3, 0))
    return {
        "decoder_pyramid_channels": options.get("decoder_pyramid_channels", 256),
        "decoder_segmentation_channels": options.get("decoder_segmentation_channels", 128),
        "decoder_dropout": options.get("decoder_dropout", 0.2),
    }


def _pan(options: Options, depth: int) -> dict[str, Any]:
    options.demand("decoder_interpolation", "bilinear")
    options.demand("encoder_dilation", True)
    options.demand("upsampling", 4)
    stride = options.demand("encoder_output_stride", 16, 32)
    return {"decoder_channels": options.get("decoder_channels", 32), "encoder_output_stride": stride}


def _pspnet(options: Options, depth: int) -> dict[str, Any]:
    options.demand("decoder_use_norm", "batchnorm", True)
    options.demand("psp_use_batchnorm", True)
    _enlarged(options, 8, 2**depth)
    return {
        "psp_out_channels": options.get("psp_out_channels", 512),
        "psp_dropout": options.get("psp_dropout", 0.2),
    }


def _upernet(options: Options, depth: int) -> dict[str, Any]:
    options.demand("decoder_use_norm", "batchnorm", True)
    options.demand("upsampling", 4)
    return {"decoder_channels": options.get("decoder_channels", 256)}


def _segformer(options: Options, depth: int) -> dict[str, Any]:
    options.demand("upsampling", 4)
    return {"decoder_segmentation_channels": options.get("decoder_segmentation_channels", 256)}


def _deeplabv3(options: Options, depth: int) -> dict[str, Any]:
    options.demand("decoder_aspp_separable", False)
    stride = options.get("encoder_output_stride", 8)
    options.demand("upsampling", None, min(stride, 2**depth))
    return {**_pyramid(options), "encoder_output_stride": stride}


def _deeplabv3plus(options: Options, depth: int) -> dict[str, Any]:
    options.demand("decoder_aspp_separable", True)
    options.demand("upsampling", 4)
    return {**_pyramid(options), "encoder_output_stride": options.get("encoder_output_stride", 16)}


def _pyramid(options: Options) -> dict[str, Any]:
    return {
        "decoder_channels": options.get("decoder_channels", 256),
        "decoder_atrous_rates": options.get("decoder_atrous_rates", (12, 24, 36)),
        "decoder_aspp_dropout": options.get("decoder_aspp_dropout", 0.5),
    }


def _enlarged(options: Options, default: int, factor: int) -> None:
    """Refuse logits that are not as large as the image; its own default is that at its own depth alone."""
    if options.get("upsampling", default) != factor:
        raise BadInput(f"config.json: upsampling of {options.kind} must be {factor} with its encoder_depth")


OPTIONS: dict[str, Callable[[Options, int], dict[str, Any]]] = {
    "DeepLabV3": _deeplabv3,
    "DeepLabV3Plus": _deeplabv3plus,
    "FPN": _fpn,
    "Linknet": _linknet,
    "MAnet": _manet,
    "PAN": _pan,
    "PSPNet": _pspnet,
    "Segformer": _segformer,
    "UPerNet": _upernet,
    "Unet": _stairs,
    "UnetPlusPlus": _stairs,
}
"""The builder's fields of a configuration and its depth, by the class's name there."""


def rules_of(model: nn.Module, encoder_name: str = "") -> dict[str, Rules]:
    """Return the rules of the network of an architecture and an encoder; none for any other.

    Some encoders are the same network under two names: without ``encoder_name`` they are the library's own.

    >>> list(rules_of(saved({"_model_class": "Unet", "encoder_name": "resnet18", "classes": 3}).model))
    ['smp']
    """
    if isinstance(model, EncoderDecoder):
        decoder = type(model.decoder)
    elif isinstance(model, DeepLabV3Plus):
        decoder = DeepLabV3Plus
    else:
        return {}
    architecture = next((known for known in ARCHITECTURES.values() if known.decoder is decoder), None)
    rules = (
        smp_encoders.find(encoder_name).rules if encoder_name else smp_encoders.names_of(model.backbone, model.depth)
    )
    return {} if architecture is None or rules is None else {"smp": architecture.names(rules, model.depth)}
