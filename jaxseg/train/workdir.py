"""Work directories: claim one for a recipe, or for a changed one; turn a full disk into one line."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax

from jaxseg.errors import BadInput, FailedRun
from jaxseg.files import disk_is_full
from jaxseg.recipe import check_format, dump, load
from jaxseg.train.changes import NEXT, refusals
from jaxseg.train.checkpoint import latest_step
from jaxseg.train.log import Console, replace_text


@runtime_checkable
class Rooted(Protocol):
    """Data that names files by paths, which may start at the current directory."""

    def rooted(self) -> Any:
        """Return the same with whole paths."""
        ...


def rooted(recipe: Any) -> Any:
    """Return the recipe with whole paths of its data, as a work directory keeps it.

    >>> from jaxseg.recipe import find_file, load_file
    >>> value = load_file(find_file("unet_scenes"))
    >>> rooted(value) == value
    True
    """
    stages = (
        replace(stage, data=stage.data.rooted()) if isinstance(stage.data, Rooted) else stage for stage in recipe.stages
    )
    return replace(recipe, stages=tuple(stages))


def claim(workdir: Path, recipe: Any) -> None:
    """Write the recipe into a new work directory, or check that the run of an old one can go on under it.

    A directory without a checkpoint counts as new. What may differ is in :mod:`jaxseg.train.changes`; a recipe that
    does so takes the place of the old one.

    >>> import tempfile
    >>> from jaxseg.losses import Dice
    >>> workdir = Path(tempfile.mkdtemp())
    >>> claim(workdir, Dice(0.5))
    >>> (workdir / "recipe.json").exists()
    True

    Raises:
      BadInput: it holds another recipe; the first field that cannot change is named, with what it would mean.
    """
    path, form = workdir / "recipe.json", dump(recipe)
    if path.exists() and any((workdir / "stages").glob("*/checkpoints/[0-9]*")):
        try:
            old = json.loads(path.read_text())
        except ValueError as error:
            raise BadInput(f"{path} is damaged ({error}); choose another work directory") from error
        check_format(old, str(path))
        with contextlib.suppress(BadInput):  # a field that came into being since has its default value there
            old = json.loads(json.dumps(dump(load(old))))
        faults = refusals(old, form, steps_done(workdir))
        if faults:
            raise BadInput(f"{workdir} holds a run of another recipe: {faults[0]}; {NEXT} {workdir}")
        if old == json.loads(json.dumps(form)):
            return
    if jax.process_index() == 0:
        try:
            replace_text(path, json.dumps(form, indent=1) + "\n")
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise BadInput(f"{workdir} cannot be a work directory: {error.strerror}") from error


def steps_done(workdir: Path) -> list[int | None]:
    """Return the updates in the last checkpoint of each stage's folder, in order; None for a folder without one.

    >>> steps_done(Path("no such folder"))
    []
    """
    folders = sorted((workdir / "stages").glob("*-*"), key=lambda folder: int(folder.name.split("-")[0]))
    found = {int(folder.name.split("-")[0]): latest_step(folder / "checkpoints") for folder in folders}
    return [found.get(index) for index in range(max(found, default=-1) + 1)]


@contextlib.contextmanager
def guarded(workdir: Path, console: Console) -> Iterator[None]:
    """Turn a full disk into one line, and close the progress bars in any case.

    >>> with guarded(Path("runs"), Console(quiet=True)):
    ...     pass
    """
    try:
        yield
    except OSError as error:
        if disk_is_full(error):
            raise FailedRun(
                f"no space left on the device of {workdir}: free some and give the same command again"
            ) from error
        raise
    finally:
        console.close()
