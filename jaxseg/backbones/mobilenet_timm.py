"""timm's names of MobileNet 1 to 3, as in ``timm:mobilenetv2_100.ra_in1k``, to the paths of the backbone ``mobilenet``.

timm numbers blocks by stage, ``blocks.1.0``. Its own MobileNetV3 has epsilon 1e-5; those that begin with ``tf_`` are
TensorFlow's: epsilon 1e-3 and ``padding="SAME"``.
"""

from jaxseg.errors import BadInput
from jaxseg.types import Rules

Part = tuple[str, str, str]

_FIRST: tuple[Part, ...] = (("conv_dw", "bn1", "depthwise"), ("conv_pw", "bn2", "project"))
_OTHER: tuple[Part, ...] = (
    ("conv_pw", "bn1", "expand"),
    ("conv_dw", "bn2", "depthwise"),
    ("conv_pwl", "bn3", "project"),
)
_SEPARABLE: tuple[Part, ...] = (("conv_dw", "bn1", "depthwise"), ("conv_pw", "bn2", "pointwise"))
"""Convolution, normalisation and our name of both: in a first block without expansion, in the others, in version 1."""


def _conv_norm(conv: str, norm: str, path: str) -> Rules:
    return (
        (rf"{conv}\.weight", f"{path}/conv/kernel"),
        (rf"{norm}\.weight", f"{path}/norm/scale"),
        (rf"{norm}\.bias", f"{path}/norm/bias"),
        *((rf"{norm}\.running_{leaf}", f"{path}/norm/{leaf}") for leaf in ("mean", "var")),
    )


def _names(repeats: tuple[int, ...], first: tuple[Part, ...], other: tuple[Part, ...], last: tuple[str, str]) -> Rules:
    """Return rename rules by the blocks of each stage, the parts of the first block and of the others, and the last
    convolution.
    """
    rules: list[tuple[str, str | None]] = [*_conv_norm("conv_stem", "bn1", "stem")]
    blocks = [rf"blocks\.{stage}\.{i}" for stage, count in enumerate(repeats) for i in range(count)]
    for number, block in enumerate(blocks, 1):
        for conv, norm, part in first if number == 1 else other:
            rules += _conv_norm(rf"{block}\.{conv}", rf"{block}\.{norm}", f"block{number}/{part}")
        for layer in ("reduce", "expand"):
            path = f"block{number}/squeeze/{layer}"
            rules.append((rf"{block}\.se\.conv_{layer}\.weight", f"{path}/kernel"))
            rules.append((rf"{block}\.se\.conv_{layer}\.bias", f"{path}/bias"))
    rules += _conv_norm(*last, "last")
    return (*rules, (r".*\.num_batches_tracked", None), (r"(classifier|conv_head)\..*", None))


V1_NAMES: Rules = _names((1, 2, 2, 6, 2), _SEPARABLE, _SEPARABLE, ("conv_head", "bn2"))
"""``mobilenetv1_100``, whose statistics are :data:`jaxseg.layers.standardize.CENTRED`."""

V2_NAMES: Rules = _names((1, 2, 3, 4, 3, 3, 1), _FIRST, _OTHER, ("conv_head", "bn2"))
"""``mobilenetv2_050`` to ``mobilenetv2_140``."""

_REPEATS = {"large": (1, 2, 3, 4, 2, 3), "small": (1, 2, 3, 2, 3)}


def v3_names(size: str) -> Rules:
    """Return the rename rules of ``mobilenetv3_large_100`` or ``mobilenetv3_small_100``.

    At other widths timm rounds channels differently.

    >>> v3_names("large")[0][1]
    'stem/conv/kernel'

    Raises:
      BadInput: another size.
    """
    if size not in _REPEATS:
        raise BadInput(f"no MobileNetV3 is called {size!r}; there are 'large' and 'small'")
    last = rf"blocks\.{len(_REPEATS[size])}\.0"
    return _names(_REPEATS[size], _FIRST, _OTHER, (rf"{last}\.conv", rf"{last}\.bn1"))
