"""HRNet with OCR by our names, from its authors' layer table, for the repository is no package."""

from collections.abc import Callable
from typing import Any

NOTE = """\
HRNet with OCR is held to its authors' layers, on timm's branches with their way to enlarge maps.
"""


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Multiples of 32, without which timm's branches do not fit together."""
    return (64, 96), (160, 96)


def logits(network: Any, image: Any) -> Any:
    """The head's scores at the image's size."""
    return network(image)


def _hrnet_ocr(width: int) -> Callable[[], Any]:
    """19 classes."""

    def build() -> Any:
        from tests.oracles.hrnet_ocr import HRNetOCR

        return HRNetOCR(width, 19)

    return build


REFERENCES: dict[str, Callable[[], Any]] = {f"hrnet_ocr_w{width}": _hrnet_ocr(width) for width in (18, 32, 48)}

BESIDE: dict[str, Callable[[Any], tuple[Any, Any]]] = {}
