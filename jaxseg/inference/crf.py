"""Refine predicted probabilities by a fully connected CRF."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxseg.ops.crf import DenseCRF


def refined(crf: DenseCRF, probability: np.ndarray, image: np.ndarray, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What is left of the probabilities of one image or several after the CRF, and the labels that follow."""
    refine = _compiled(crf)
    pairs = zip(probability, image, strict=True) if image.ndim == 4 else [(probability, image)]
    refined = np.stack([np.asarray(refine(*pair)) for pair in pairs]).reshape(probability.shape)
    found = {"label": refined.argmax(-1).astype(np.int32), "probability": refined}
    return {name: found[name] for name in keys if name in found}


@functools.lru_cache(maxsize=8)
def _compiled(crf: DenseCRF) -> Callable[[Any, Any], jax.Array]:
    return jax.jit(crf)
