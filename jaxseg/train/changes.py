"""What a changed recipe means for a run that has begun: what may simply go on, and what would make it another run.

Settings that no update depends on (workers, how often is logged, saved and evaluated, patience) may change between two
starts of one run, and so may ``steps`` and the schedule where the learning rates of the updates so far stay what they
were: more steps at a constant rate, say. Anything else would leave a run
whose recipe is not the one that its past was trained by: it is refused with what it would mean, and
:mod:`jaxseg.train.fork` does it in a work directory of its own.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from jaxseg.errors import BadInput
from jaxseg.recipe import load

FREE = (
    r"name",
    r"stages\.\d+\.(log_every|eval_every|save_every|eval_batch_size|keep_best|keep_last|pictures|patience)",
    r"stages\.\d+\.data\.(workers|prefetch)",
)
"""Paths of settings that no update depends on."""

NEXT = "choose another work directory, or give a new --workdir and --fork"
"""What would work where a run cannot go on."""


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield where two dumped recipes differ: the path, as ``override`` writes it, and both values.

    >>> list(differences({"seed": 0, "stages": [1]}, {"seed": 0, "stages": [2]}))
    [('stages.0', 1, 2)]
    """
    if isinstance(old, dict) and isinstance(new, dict):
        if "fields" in old and "fields" in new and old.get("type") == new.get("type"):
            yield from differences(old["fields"], new["fields"], path)
            return
        if old.keys() == new.keys() and "type" not in old:
            for name in old:
                yield from differences(old[name], new[name], _join(path, name))
            return
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, _join(path, str(index)))
        return
    if old != new:
        yield path or "recipe", old, new


def refusals(old: Any, new: Any, steps_done: list[int | None]) -> list[str]:
    """Return why a run cannot go on under another recipe, one line for each setting; none if it can.

    >>> from jaxseg.losses import Dice
    >>> from jaxseg.recipe import dump
    >>> refusals(dump(Dice(0.5)), dump(Dice(1.0)), [4])
    ['weight is 0.5 there and 1.0 here']

    Args:
      old: the recipe that was trained so far, dumped.
      new: the one to go on with.
      steps_done: updates in the last checkpoint of each stage, None for stages without one.
    """
    found = []
    for where, there, here in differences(old, json.loads(json.dumps(new))):
        if any(re.fullmatch(pattern, where) for pattern in FREE):
            continue
        fault = f"{where} is {brief(there)} there and {brief(here)} here"
        begun = re.match(r"stages\.(\d+)\.(\w+)", where)
        if begun is None or int(begun[1]) >= len(steps_done):
            found.append(fault)
            continue
        index, done = int(begun[1]), steps_done[int(begun[1])]
        if done is None and any(step is not None for step in steps_done) and begun[2] != "name":
            continue  # a stage that has not begun has no past
        meaning = _meaning(begun[2], old, new, index, steps_done)
        if meaning is not None:
            found.append(fault + meaning)
    return found


def _meaning(field: str, old: Any, new: Any, index: int, steps_done: list[int | None]) -> str | None:
    """Return what a change of a stage would mean from its last step on, "" where that is plain; None for nothing."""
    done = steps_done[index] or 0
    try:
        before, after = load(old).stages[index], load(new).stages[index]
    except BadInput:
        return ""
    if any(step is not None for step in steps_done[index + 1 :]):
        return ": the stages after it have begun with its weights"
    if field in ("steps", "optimizer"):
        return _of_schedule(before, after, done)
    if field in ("batch_size", "accumulate"):
        kind = "images" if field == "batch_size" else "microbatches"
        return f": from step {done} on an update would be of {getattr(after, field)} {kind}, at the same learning rate"
    return ""


def _of_schedule(before: Any, after: Any, done: int) -> str | None:
    """Return what another number of steps or another optimizer would mean; None if the rates so far are the same."""
    if after.steps < done:
        return f": {done} updates are made already"
    if replace(before.optimizer, learning_rate=after.optimizer.learning_rate) != after.optimizer:
        return ": the updates so far are another optimizer's"
    was, now = (stage.optimizer.schedule(stage.steps) for stage in (before, after))
    past = range(0, done, max(1, done // 64))
    if all(math.isclose(float(was(step)), float(now(step)), rel_tol=1e-5, abs_tol=1e-12) for step in past):
        return None
    at = min(done, before.steps - 1)
    return (
        f": the updates so far followed another schedule, and the learning rate at step {done} would be "
        f"{float(now(done)):.3g} instead of {float(was(at)):.3g}"
    )


def brief(value: Any) -> str:
    """Return a dumped value in a few characters.

    >>> brief({"type": "Poly", "fields": {}}), brief(0.5)
    ('Poly', '0.5')
    """
    if isinstance(value, dict) and "type" in value:
        return str(value["type"]).split(":")[-1]
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}...{text[-25:]}"  # paths differ at their ends


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
