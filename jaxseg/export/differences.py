"""Compare the predictions of an exported file with those of the model: maps pixel by pixel, objects in pairs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from jaxseg.types import PREDICTIONS, bare_key, beside

SQUARES = (32, 8, 2, 1)
"""Sides of the squares of :func:`probe_picture`, pixels."""


def largest_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    """Return the largest difference of any predicted number.

    Classes of pixels are not compared: those of two probabilities that are equal to rounding may differ. Slots of
    objects are compared in pairs of the same class, because objects of equal score may change places; the difference
    of an object that has no counterpart is its score.

    Args:
      found: predictions by key, arrays ``[b ...]``.
      wanted: the same of the model.

    >>> boxes, scores = np.asarray([[[0.0, 0, 4, 4], [5, 5, 9, 9]]]), np.asarray([[0.75, 0.75]])
    >>> one = {"boxes": boxes, "scores": scores, "valid": np.ones((1, 2), bool)}
    >>> largest_difference({**one, "boxes": boxes[:, ::-1]}, one)
    0.0
    """
    errors = [0.0]
    for name, value in wanted.items():
        key = PREDICTIONS.get(bare_key(name))
        if key is not None and key.slots == "d":
            if bare_key(name) == "valid":
                errors.append(_of_objects(_task(name, found), _task(name, wanted)))
        elif np.issubdtype(np.asarray(value).dtype, np.floating):
            errors.append(_of_numbers(found[name], value))
    return max(errors)


def probe_picture(rows: int, height: int, width: int, channels: int) -> np.ndarray:
    """Return pictures of random squares of several sizes upon one another, uint8 ``[b h w c]``: noise with objects.

    >>> probe_picture(1, 40, 50, 3).shape
    (1, 40, 50, 3)
    """
    rng = np.random.default_rng(0)
    total = np.zeros((rows, height, width, channels))
    for side in SQUARES:
        cells = rng.uniform(0, 1, (rows, -(-height // side), -(-width // side), channels))
        total += cells.repeat(side, 1)[:, :height].repeat(side, 2)[:, :, :width]
    return np.clip(np.rint(255 * ((total / len(SQUARES) - 0.5) * 2 + 0.5)), 0, 255).astype(np.uint8)


def _task(name: str, predictions: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the slots of the task that a key belongs to, by their bare keys."""
    rows = {key: beside(name, key) for key, row in PREDICTIONS.items() if row.slots == "d"}
    return {key: np.asarray(predictions[full]) for key, full in rows.items() if full in predictions}


def _of_numbers(found: Any, wanted: Any) -> float:
    return float(np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64)).max(initial=0))


def _of_objects(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """Return the largest difference of paired objects of a batch, or the score of one that has no pair."""
    largest = 0.0
    for i in range(len(wanted["valid"])):
        ours = {key: value[i][wanted["valid"][i]] for key, value in wanted.items()}
        theirs = {key: value[i][found["valid"][i]] for key, value in found.items()}
        if "classes" in ours:
            same = theirs["classes"][:, None] == ours["classes"][None]
        else:
            same = np.ones((len(theirs["valid"]), len(ours["valid"])), bool)
        numbers = [key for key, value in ours.items() if np.issubdtype(value.dtype, np.floating)]
        apart = np.abs(theirs["boxes"][:, None] - ours["boxes"][None]).max(-1)
        apart = np.where(same, apart + np.abs(theirs["scores"][:, None] - ours["scores"][None]), 1e9)
        rows, columns = linear_sum_assignment(apart)
        paired = same[rows, columns]
        rows, columns = rows[paired], columns[paired]
        alone = [np.delete(theirs["scores"], rows), np.delete(ours["scores"], columns)]
        errors = [_of_numbers(theirs[key][rows], ours[key][columns]) for key in numbers]
        largest = max(largest, *errors, *(float(scores.max(initial=0)) for scores in alone))
    return largest
