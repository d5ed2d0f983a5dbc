"""Predict an image of any size, tile by tile where it is large (:mod:`jaxseg.inference.tiling`)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.forward import forward
from jaxseg.inference.crf import refined
from jaxseg.inference.load import TrainedModel
from jaxseg.inference.tiling import plan_tiles
from jaxseg.ops.crf import DenseCRF


def predict(
    run: TrainedModel,
    image: Any,
    *,
    tile: int = 1024,
    margin: int | None = None,
    keys: tuple[str, ...] = ("label", "probability"),
    crf: DenseCRF | None = None,
    on_tile: Callable[[], None] | None = None,
) -> dict[str, np.ndarray]:
    """What the task says of an image of any size.

    Args:
      run: see ``load``.
      image: uint8 RGB [h w 3], or several of one size [b h w 3].
      tile: an image of more rows or columns is cut into tiles of at most so many (see :mod:`jaxseg.inference.tiling`).
      margin: pixels around a tile's own that it sees but does not decide, rounded up to a multiple of 32; None
        takes a quarter of the tile, at most 128.
      keys: which of the task's predictions to return; a large image's probabilities take much memory.
      crf: refines the probabilities over the whole image, tiles or not, and the label with them.
      on_tile: called after each tile.

    Returns:
      The predictions by name, each at the image's size: ``label`` i32[h w], ``probability`` f32[h w k].

    Raises:
      BadInput: no uint8 RGB image, or the tile is too small.
    """
    chosen = _compiled(run.model, run.task, keys if crf is None else ("probability",))
    whole = in_tiles(run.model, image, lambda _, pixels: chosen(run.variables, pixels), tile, margin, on_tile)
    return whole if crf is None else refined(crf, whole["probability"], np.asarray(image), keys)


def in_tiles(
    model: Any,
    image: Any,
    of_tile: Callable[[int, np.ndarray], Any],
    tile: int,
    margin: int | None,
    on_tile: Callable[[], None] | None,
) -> dict[str, np.ndarray]:
    """Predict every tile and assemble the results; ``of_tile`` is given its number and its pixels."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3 or 0 in image.shape:
        raise BadInput(f"predict takes uint8 RGB [h w 3] or [b h w 3], not {image.dtype}{list(image.shape)}")
    batch = image if image.ndim == 4 else image[None]
    tiles = plan_tiles(model, batch.shape[1], batch.shape[2], tile=tile, margin=margin)
    whole: dict[str, np.ndarray] = {}
    for i, part in enumerate(tiles):
        found = jax.device_get(of_tile(i, part.cut(batch)))
        for name, value in found.items():
            if name not in whole:
                whole[name] = np.zeros((*batch.shape[:3], *value.shape[3:]), value.dtype)
            whole[name][:, part.rows, part.columns] = value[:, part.inner_rows, part.inner_columns]
        if on_tile is not None:
            on_tile()
    return whole if image.ndim == 4 else {name: value[0] for name, value in whole.items()}


@functools.lru_cache(maxsize=8)
def _compiled(model: Any, task: Any, keys: tuple[str, ...]) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """The compiled step from variables and images to the predictions asked for."""

    predictions = forward(model, task)

    def chosen(variables: Any, image: jax.Array) -> dict[str, jax.Array]:
        found = predictions(variables, {"image": image})
        return {name: found[name] for name in keys if name in found}

    return jax.jit(chosen)
