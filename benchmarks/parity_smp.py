"""segmentation_models_pytorch's networks by our names. Its decoders want sides that the encoder's stride divides."""

from collections.abc import Callable
from typing import Any

SIZES = ((64, 96), (96, 160))


def logits(network: Any, image: Any) -> Any:
    """What the network returns: scores at the image's size."""
    return network(image)


def _network(name: str, encoder: str, **options: Any) -> Callable[[], Any]:
    """The library's class of that name on an encoder without pretrained weights, 21 classes."""

    def build() -> Any:
        import segmentation_models_pytorch as smp

        return getattr(smp, name)(encoder, encoder_weights=None, classes=21, **options)

    return build


REFERENCES: dict[str, Callable[[], Any]] = {}
