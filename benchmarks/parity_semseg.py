"""hszhao/semseg's networks by our names, from their layer table, for the repository is no package; sides of 8 n + 1."""

from collections.abc import Callable
from typing import Any

NOTE = ""


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sides of ``8 n + 1``, the only ones it takes."""
    return (65, 97), (113, 73)


def logits(network: Any, image: Any) -> Any:
    """The main head's scores at the image's size."""
    return network(image)[0]


def _pspnet(depths: tuple[int, ...]) -> Callable[[], Any]:
    """150 classes."""

    def build() -> Any:
        from tests.oracles import semseg

        return semseg.PSPNet(150, 64, depths, 512)

    return build


REFERENCES: dict[str, Callable[[], Any]] = {
    "pspnet_resnet50": _pspnet((3, 4, 6, 3)),
    "pspnet_resnet101": _pspnet((3, 4, 23, 3)),
}

BESIDE: dict[str, Callable[[Any], tuple[Any, Any]]] = {}
