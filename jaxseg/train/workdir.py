"""Work directories: claim one for a recipe; turn a full disk into one line."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jaxseg.errors import BadInput, FailedRun
from jaxseg.files import disk_is_full
from jaxseg.recipe import check_format, dump, load
from jaxseg.train.log import Console, replace_text


def claim(workdir: Path, recipe: Any) -> None:
    """Write the recipe into a new work directory, or check that an old one holds the same recipe.

    A directory without a checkpoint counts as new.

    >>> import tempfile
    >>> from jaxseg.losses import Dice
    >>> workdir = Path(tempfile.mkdtemp())
    >>> claim(workdir, Dice(0.5))
    >>> (workdir / "recipe.json").exists()
    True

    Raises:
      BadInput: it holds another recipe; the first different field is named.
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
        for where, there, here in differences(old, json.loads(json.dumps(form))):
            fault = f"{where} is {_brief(there)} there and {_brief(here)} here"
            raise BadInput(f"{workdir} holds a run of another recipe: {fault}; choose another work directory")
    elif jax.process_index() == 0:
        try:
            replace_text(path, json.dumps(form, indent=1) + "\n")
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise BadInput(f"{workdir} cannot be a work directory: {error.strerror}") from error


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


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _brief(value: Any) -> str:
    if isinstance(value, dict) and "type" in value:
        return str(value["type"]).split(":")[-1]
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
