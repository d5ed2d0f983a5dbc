"""Predict an image of any size as evaluation sees it, tile by tile where it is large."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxseg.errors import BadInput
from jaxseg.inference.crf import refined
from jaxseg.inference.geometry import fitting, with_geometry
from jaxseg.inference.load import TrainedModel, channels_of
from jaxseg.inference.predictor import Predictor, augmented, base, takes_size
from jaxseg.inference.shapes import shaped
from jaxseg.inference.tiling import ALIGN, Tile, plan_tiles, tiled
from jaxseg.inference.tta import View
from jaxseg.ops.crf import DenseCRF
from jaxseg.tasks.semantic import Semantic


def predict(
    run: TrainedModel,
    image: Any,
    *,
    tile: int | None = None,
    margin: int | None = None,
    slots: int | None = None,
    keys: tuple[str, ...] | None = None,
    crf: DenseCRF | None = None,
    views: tuple[View, ...] = (),
    shapes: tuple[tuple[int, int], ...] = (),
    on_tile: Callable[[], None] | None = None,
) -> dict[str, np.ndarray]:
    """Predict an image of any size.

    The image goes through the model's test-time geometry, and predictions come back at the image's own size
    (:mod:`jaxseg.inference.geometry`). Each size is compiled once, and exact, unless ``shapes`` are given.

    Args:
      run: from ``jaxseg.load``.
      image: uint8 RGB [h w 3], or several of one size [b h w 3]; other bands where the model takes others.
      tile: an image of more rows or columns is cut into tiles of at most so many (see :mod:`jaxseg.inference.tiling`);
        None takes 1024, or 2048 for detectors, whose objects are stitched (:mod:`jaxseg.inference.stitching`).
      margin: pixels around a tile's own that it sees but does not decide, rounded up to a multiple of 32; None
        takes a quarter of the tile, at most 128.
      slots: for the objects of an image of several tiles; None takes as many as all tiles have.
      keys: which of the task's predictions to return; a large image's probabilities take much memory. None: all.
      crf: refines the probabilities over the whole image, tiles or not, and the label with them.
      views: test-time augmentation, see :func:`jaxseg.inference.tta.parse_tta`.
      shapes: pad images, or tiles, to these sizes, so that no more are compiled (:mod:`jaxseg.inference.shapes`).
      on_tile: called after each tile.

    Returns:
      The predictions by name, each at the image's size: ``label`` i32[h w] and ``probability`` f32[h w k] for
      semantic segmentation; for detectors ``boxes`` f32[d 4] in the image's pixels, ``scores``, ``classes``, ``valid``,
      ``masks`` f32[d m m] within the boxes, and of several tiles ``instance_ids`` u16[h w].

    Raises:
      BadInput: the image is none that the model takes, the tile is too small, or predictions that are neither maps nor
        objects would have to be assembled from tiles.

    Example:
      >>> import jax
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model, image = unet(num_classes=3, depth=1, width=2), jnp.zeros((9, 14, 3), jnp.uint8)
      >>> variables = model.init(jax.random.key(0), image[None])
      >>> run = TrainedModel(model, variables, Semantic(3), None, 0, Path(), 0, False)
      >>> {key: value.shape for key, value in sorted(predict(run, image).items())}
      {'label': (9, 14), 'probability': (9, 14, 3)}
    """
    if shapes and views:
        raise BadInput("--shapes pads images, and --tta would mirror, turn or scale the padding too: give one of them")
    wanted = keys if keys is None or crf is None else tuple(dict.fromkeys((*keys, "probability")))
    seen = augmented(run, views)
    inner = base(seen, wanted)
    whole = assembled(
        inner, seen, tile=tile, margin=margin, slots=slots, crf=crf, keys=keys, shapes=shapes, on_tile=on_tile
    )
    return predict_with(whole, run, image)


def assembled(
    predictor: Predictor,
    run: TrainedModel,
    *,
    tile: int | None = None,
    margin: int | None = None,
    slots: int | None = None,
    crf: DenseCRF | None = None,
    keys: tuple[str, ...] | None = None,
    shapes: tuple[tuple[int, int], ...] = (),
    on_tile: Callable[[], None] | None = None,
) -> Predictor:
    """Return an innermost predictor with shapes, tiles, a CRF and the model's geometry around it, in this order.

    Args:
      predictor: see :func:`jaxseg.inference.predictor.base`.
      run: gives the model's geometry and its sizes.
      tile: and everything else as in :func:`predict`.
      margin: of tiles.
      slots: for objects of several tiles.
      crf: over the whole image.
      keys: to return after the CRF.
      shapes: of tiles.
      on_tile: called after each tile.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> run = TrainedModel(unet(num_classes=2, depth=1, width=2), {}, Semantic(2), None, 0, Path(), 0, False)
      >>> seen = []
      >>> def red(batch):
      ...     seen.append(batch["image"].shape)
      ...     return {"label": batch["image"][..., 0].astype(np.int32)}
      >>> image = np.arange(96, dtype=np.uint8).reshape(1, 96, 1, 1).repeat(64, 2).repeat(3, 3)
      >>> label = assembled(red, run, tile=64, margin=0)({"image": image})["label"]
      >>> len(seen), bool((label == image[..., 0]).all())
      (2, True)
    """
    side = tile_of(run, tile)

    def pieces(inner: Predictor) -> Predictor:
        return tiled(inner, run.model, tile=side, margin=margin, slots=slots, on_tile=on_tile)

    if shapes:
        predictor = pieces(shaped(predictor, shapes, run))
    elif takes_size(run):
        predictor = _tiles_of_one_size(predictor, run, side, pieces)
    else:
        predictor = pieces(predictor)
    if crf is not None:
        classes = run.task.num_classes if isinstance(run.task, Semantic) else None
        predictor = refined(predictor, crf, keys, num_classes=classes)
    return with_geometry(predictor, run.geometry, mirrors=hasattr(run.model, "input_size"))


def _tiles_of_one_size(
    predictor: Predictor, run: TrainedModel, tile: int, pieces: Callable[[Predictor], Predictor]
) -> Predictor:
    """Return the tiled predictor of detectors: the last tiles of an image are padded to the size of the others."""

    def predict(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        height, width = batch["image"].shape[1:3]
        if max(height, width) <= tile:
            return pieces(predictor)(batch)
        rows, columns = (length if length <= tile else tile // ALIGN * ALIGN for length in (height, width))
        return pieces(shaped(predictor, ((rows, columns),), run))(batch)

    return predict


def predict_with(predictor: Predictor, run: TrainedModel, image: Any) -> dict[str, np.ndarray]:
    """Apply a predictor to one image [h w c] or several of one size [b h w c].

    Raises:
      BadInput: the image is none that the model takes.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> run = TrainedModel(unet(), {}, Semantic(21), None, 0, Path(), 0, False)
      >>> image = np.zeros((4, 6, 3), np.uint8)
      >>> predict_with(lambda batch: {"label": batch["image"][..., 0]}, run, image)["label"].shape
      (4, 6)
    """
    image, channels = np.asarray(image), channels_of(run.model)
    kinds = ("uint8",) if channels == 3 else ("uint8", "uint16", "float32")
    if image.dtype.name not in kinds or image.ndim not in (3, 4) or image.shape[-1] != channels or 0 in image.shape:
        expected = "uint8 RGB" if channels == 3 else f"{' or '.join(kinds)} of {channels} bands,"
        raise BadInput(
            f"predict takes {expected} [h w {channels}] or [b h w {channels}], not {image.dtype}{list(image.shape)}"
        )
    if image.ndim == 4:
        return predictor({"image": image})
    return {name: value[0] for name, value in predictor({"image": image[None]}).items()}


def tile_of(run: TrainedModel, tile: int | None) -> int:
    """Return the largest side of a tile: as given, or 1024, and 2048 for detectors, which should see objects whole.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> tile_of(TrainedModel(unet(), {}, Semantic(21), None, 0, Path(), 0, False), None)
      1024
    """
    return tile if tile is not None else 2048 if takes_size(run) else 1024


def plan(
    run: TrainedModel, height: int, width: int, *, tile: int | None = None, margin: int | None = None
) -> list[Tile]:
    """Return the tiles that an image of this size is predicted in, after the model's geometry.

    Raises:
      BadInput: see :func:`jaxseg.inference.tiling.plan_tiles`.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.data.transforms import Resize
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> run = TrainedModel(unet(), {}, Semantic(21), None, 0, Path(), 0, False, geometry=(Resize(180, 240),))
      >>> [tile.size for tile in plan(run, 3000, 4000)]
      [(180, 240)]
    """
    for transform in fitting(run.geometry, height, width, mirrors=hasattr(run.model, "input_size")):
        height, width = transform.frame(height, width).size
    return plan_tiles(run.model, height, width, tile=tile_of(run, tile), margin=margin)
