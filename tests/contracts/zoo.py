"""The small variants of the zoo, and the sizes that every model is asked for.

A model without a small variant is still held to its shapes, its count and its paths, for which nothing runs.
"""

from typing import Any

import jax.numpy as jnp
import pytest

from jaxseg import registry

CLASSES = 3

DETECTORS = [
    name
    for name, entry in registry.entries().items()
    if entry.task in ("detection", "instance", "keypoints", "panoptic")
]
"""Networks that find objects."""

MAIN = {
    "depth": "depth",
    "relative_depth": "inverse_depth",
    "normals": "normal",
    "boundary": "boundary_logits",
    "saliency": "saliency_logits",
    "colorization": "ab",
}
"""Of tasks without classes, what their networks return for every pixel."""

MAPPERS = [name for name, entry in registry.entries().items() if entry.task in MAIN]
"""Networks that give every pixel numbers, not classes."""

LABELLERS = [name for name, entry in registry.entries().items() if entry.task == "semantic"]
"""Networks that label pixels; those that are none of these predict several kinds at once."""

SMALL = [name for name in (*LABELLERS, *MAPPERS) if registry.find(name).small is not None]


def one_of_each_file(names: Any) -> list[Any]:
    """Parameters of a test that runs always for one network of every file, and with ``-m slow`` for its siblings."""
    names = list(names)
    first = {registry.find(name).module: name for name in reversed(names)}
    return [pytest.param(name, marks=[] if name in first.values() else pytest.mark.slow, id=name) for name in names]


ODD = (37, 50)
"""A size that no stride divides."""


def sizes(model: Any) -> list[tuple[int, int]]:
    """Two sizes that the model takes, one of them odd where its geometry allows."""
    return [(188, 188), (188, 204)] if hasattr(model, "valid_size") else [(64, 96), ODD]


def output_size(model: Any, size: tuple[int, int]) -> tuple[int, int]:
    """How large the logits are for an image of that size."""
    return model.valid_size(*size) if hasattr(model, "valid_size") else size


def main_output(name: str) -> str:
    """The key of what a network gives every pixel."""
    return MAIN.get(registry.find(name).task, "logits")


def image_of(size: tuple[int, int], batch: int = 2) -> jnp.ndarray:
    """u8[b h w 3], a different pattern in every image."""
    import numpy as np

    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8))


def objects_of(size: tuple[int, int], batch: int = 2) -> dict[str, jnp.ndarray]:
    """Two objects and a crowd in every image, in four slots, as detectors take them in training."""
    height, width = size
    boxes = [[2, 3, width / 2, height / 2], [width / 3, 1, width - 1, height - 4], [0, 0, width, height], [0, 0, 0, 0]]
    rows = {"boxes": jnp.asarray(boxes, jnp.float32), "valid": jnp.arange(4) < 3, "crowd": jnp.arange(4) == 2}
    return {key: jnp.broadcast_to(value, (batch, *value.shape)) for key, value in rows.items()}


def shallow(model: Any) -> Any:
    """The model with one block a stage where its backbone repeats them: what fits does not depend on how often."""
    backbone: Any = getattr(model, "backbone", None)
    if not hasattr(backbone, "depths"):
        return model
    *depths, last = backbone.depths
    kept = last if getattr(backbone, "multi_grid", ()) else 1
    return model.clone(backbone=backbone.clone(depths=(*(1 for _ in depths), kept)))
