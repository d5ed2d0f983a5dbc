"""transformers' networks by our names."""

from collections.abc import Callable
from typing import Any

SIZES = ((64, 96), (67, 45))


def logits(network: Any, image: Any) -> Any:
    """Scores resized to the image, as the library's own post-processing does it."""
    from torch.nn import functional

    return functional.interpolate(network(image).logits, size=image.shape[2:], mode="bilinear", align_corners=False)


REFERENCES: dict[str, Callable[[], Any]] = {}
