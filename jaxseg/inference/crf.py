"""Refine predicted probabilities by a fully connected CRF."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.inference.predictor import Predictor
from jaxseg.ops.crf import DenseCRF
from jaxseg.types import VOID


def refined(
    predictor: Predictor, crf: DenseCRF, keys: tuple[str, ...] | None = None, *, num_classes: int | None = None
) -> Predictor:
    """Return the predictor whose probabilities pass through the CRF over the whole image, and the labels with them.

    Args:
      predictor: predicts ``probability`` [b h w k].
      crf: guided by the image's own colours.
      keys: predictions to return; None returns all.
      num_classes: outputs from this number on are void; None if every output is a class.

    Raises:
      BadInput: on the first call, if there are no probabilities to refine.

    Example:
      >>> def unsure(batch):
      ...     return {"probability": np.full((*batch["image"].shape[:3], 2), 0.5, np.float32)}
      >>> image = np.zeros((1, 4, 4, 3), np.uint8)
      >>> refined(unsure, DenseCRF(iterations=1), ("label",))({"image": image})["label"].shape
      (1, 4, 4)
    """
    refine = _compiled(crf)

    def predict(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = predictor(batch)
        if "probability" not in found:
            raise BadInput(f"a CRF refines probabilities of classes; this model predicts {', '.join(found)}")
        pairs = zip(found["probability"], batch["image"], strict=True)
        probability = np.stack([np.asarray(refine(*pair)) for pair in pairs])
        label = probability.argmax(-1).astype(np.int32)
        if num_classes is not None:
            label = np.where(label < num_classes, label, np.int32(VOID))
        found |= {"label": label, "probability": probability}
        return {key: value for key, value in found.items() if keys is None or key in keys}

    return predict


@functools.lru_cache(maxsize=8)
def _compiled(crf: DenseCRF) -> Callable[[Any, Any], jax.Array]:
    return jax.jit(crf)
