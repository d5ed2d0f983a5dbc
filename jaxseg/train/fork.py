"""Fork a run: start a new work directory from the last checkpoint of an old one, under a changed recipe."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.recipe import check_format, dump, load
from jaxseg.train import checkpoint
from jaxseg.train.changes import brief, differences
from jaxseg.train.checkpoint import Checkpoints, Saved
from jaxseg.train.log import Console, replace_text
from jaxseg.train.optim import path_of
from jaxseg.train.workdir import rooted, steps_done

NOTE = "forked_from.json"
"""File in the new work directory that names the old one, the step, and what was changed."""


def fork(old: Path, workdir: Path, recipe: Any, console: Console | None = None) -> int:
    """Prepare ``workdir`` so that training ``recipe`` in it goes on from the last checkpoint of ``old``.

    The new run has the weights, the optimizer's averages, the step and the log of the old one; what was changed holds
    from the next step on. At another batch size the stream of examples goes on after those that were seen. Where the
    optimizer keeps other averages, they start afresh. A work directory that has been forked already is left as it is,
    so that the same command resumes.

    Args:
      old: a work directory.
      workdir: a new one.
      recipe: to train from now on, with the stages of the old one.
      console: progress output; lists what was changed.

    Returns:
      The step of the last begun stage that the new run starts from.

    Raises:
      BadInput: the old directory has no checkpoint, its stages are others, its network is of another shape, or the new
        directory holds another run.

    >>> fork(Path("no such folder"), Path("new"), None)
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: no such folder holds no run to fork: ...
    """
    done = steps_done(old)
    if not (old / "recipe.json").is_file() or not any(step is not None for step in done):
        raise BadInput(f"{old} holds no run to fork: there is no recipe.json with a checkpoint")
    recipe = rooted(recipe)
    index = max(number for number, step in enumerate(done) if step is not None)
    if any(step is not None for step in steps_done(workdir)):
        return _forked_before(old, workdir)
    if old.resolve() == workdir.resolve():
        raise BadInput(f"{old} cannot be forked into itself: give a new --workdir")
    form = json.loads((old / "recipe.json").read_text())
    check_format(form, str(old / "recipe.json"))
    with contextlib.suppress(BadInput):  # a field that came into being since has its default value there
        form = json.loads(json.dumps(dump(load(form))))
    changed = list(differences(form, json.loads(json.dumps(dump(recipe)))))
    names = [stage["fields"]["name"] for stage in form["fields"]["stages"]]
    if [stage.name for stage in recipe.stages[: index + 1]] != names[: index + 1]:
        raise BadInput(f"{old} has the stages {', '.join(names)}: a fork has the same up to the one that goes on")
    label = f"{index}-{names[index]}"
    saved = checkpoint.read(old / "stages" / label / "checkpoints")
    stage = recipe.stages[index]
    if stage.steps < saved.step:
        raise BadInput(f"stages.{index}.steps is {stage.steps}, but {old} has made {saved.step} updates already")
    if jax.process_index() == 0:
        _copy_log(old, workdir, [f"{number}-{name}" for number, name in enumerate(names[:index])])
        before = form["fields"]["stages"][index]["fields"]["batch_size"]
        notes = {**saved.notes, "recipe": dump(recipe), "positions": _positions(saved, before, stage.batch_size)}
        with contextlib.closing(Checkpoints(workdir / "stages" / label / "checkpoints", keep=stage.keep_last)) as kept:
            kept.save(saved.step, {**_averages(stage, saved), **_optimizer_state(stage, saved, console)}, notes)
        lines = [f"{where}: {brief(there)} -> {brief(here)}" for where, there, here in changed]
        note = {"workdir": str(old.resolve()), "stage": label, "step": saved.step, "changed": lines}
        replace_text(workdir / NOTE, json.dumps(note, indent=1) + "\n")
        replace_text(workdir / "recipe.json", json.dumps(dump(recipe), indent=1) + "\n")
        if console is not None:
            for line in lines:
                console.line(f"{label}: from step {saved.step} of {old}, {line}")
    return saved.step


def _forked_before(old: Path, workdir: Path) -> int:
    """Return the step that a work directory was forked at; refuse one that holds another run."""
    path = workdir / NOTE
    note = json.loads(path.read_text()) if path.is_file() else {}
    if note.get("workdir") != str(old.resolve()):
        raise BadInput(f"{workdir} holds a run already that is no fork of {old}: give a new --workdir")
    return note["step"]


def _copy_log(old: Path, workdir: Path, finished: list[str]) -> None:
    """Copy the finished stages, the log and the pictures; later rows are cut when the run is opened."""
    for name in ("metrics.jsonl", "figures.json"):
        if (old / name).is_file():
            workdir.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(old / name, workdir / name)
    for folder in ("samples", *(f"stages/{label}" for label in finished)):
        if (old / folder).is_dir():
            shutil.copytree(old / folder, workdir / folder, dirs_exist_ok=True)


def _positions(saved: Saved, before: int, after: int) -> list[Any]:
    """Return where each process's stream of examples goes on."""
    positions = saved.notes["positions"]
    if before == after:
        return positions
    if not all(isinstance(position, dict) and position.keys() == {"batches"} for position in positions):
        raise BadInput("this data stream cannot go on at another batch size")
    return [{"rows": position["batches"] * (before // len(positions))} for position in positions]


def _optimizer_state(stage: Any, saved: Saved, console: Console | None) -> dict[str, Any]:
    """Return a new ``opt_state`` where the optimizer keeps other averages than the old one did, else nothing."""
    tx = stage.optimizer.build(stage.steps)
    wanted = jax.eval_shape(tx.init, saved.state["params"])
    shapes = {path: leaf.shape for path, leaf in _flat(checkpoint.by_path(wanted)).items()}
    if shapes == {path: np.shape(leaf) for path, leaf in _flat(saved.state.get("opt_state", {})).items()}:
        return {}
    if console is not None:
        console.line("the optimizer keeps other averages than before: they start afresh")
    return {"opt_state": checkpoint.by_path(jax.device_get(tx.init(saved.state["params"])))}


def _averages(stage: Any, saved: Saved) -> dict[str, Any]:
    """Return the state with moving averages exactly where the stage keeps some; new ones begin at the weights."""
    state = {name: tree for name, tree in saved.state.items() if name != "ema"}
    if stage.ema is None:
        return state
    return {**state, "ema": saved.state.get("ema") or {"params": state["params"], **state.get("model_state", {})}}


def _flat(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_of(path): leaf for path, leaf in leaves}
