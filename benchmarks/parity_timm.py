"""timm's networks by our names."""

from collections.abc import Callable
from typing import Any

NOTE = ""


def sizes(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """An even and an odd size for every network."""
    return (64, 96), (67, 45)


def logits(network: Any, image: Any) -> Any:
    """What the network returns."""
    return network(image)


REFERENCES: dict[str, Callable[[], Any]] = {}
