"""From a folder or a data set's name to a recipe: look at the data, decide, write."""

import contextlib
import re
from pathlib import Path
from typing import Any

from jaxseg import registry
from jaxseg.configure import depth as of_depth
from jaxseg.configure.choose import choose
from jaxseg.configure.decide import Wishes
from jaxseg.configure.look import look
from jaxseg.configure.objects import TASKS, choose_objects
from jaxseg.configure.write import write
from jaxseg.data import sets
from jaxseg.errors import BadInput, suggest
from jaxseg.layers.standardize import Standardize

FOLDER = "folder:"
"""Begins the name of a data set that is a folder."""


def dataset_of(data: str) -> str:
    """Return the name of a data set that a user means by a path or a name.

    >>> dataset_of("scenes"), dataset_of("my_module:Cells")
    ('scenes', 'my_module:Cells')

    Raises:
      BadInput: there is neither a folder nor a data set of that name.
    """
    if data in sets.list_sets():
        return data
    path = data.removeprefix(FOLDER)
    if Path(path).is_dir():
        return FOLDER + str(Path(path).resolve())
    if ":" in data and not data.startswith(FOLDER):
        return data
    raise BadInput(f"there is no folder {path!r}, nor a data set of that name{suggest(data, sets.list_sets())}")


def name_of(dataset: str, model: str) -> str:
    """Return the name of a recipe: the data set's last part and the model's name.

    >>> name_of("folder:/data/my cells", "unet")
    'my_cells_unet'
    """
    last = re.split(r"[:/\\]", dataset.rstrip("/\\"))[-1]
    return f"{re.sub(r'[^A-Za-z0-9_]+', '_', last).strip('_') or 'data'}_{model}"


def recipe_text(
    dataset: str,
    wishes: Wishes,
    *,
    command: str,
    options: tuple[tuple[str, Any], ...] = (),
    data_dir: Any = None,
) -> str:
    """Return a commented recipe for training a model on a data set, as the text of a Python file.

    >>> import tempfile
    >>> tiny = (("size", 16), ("train", 3), ("val", 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = recipe_text("scenes", Wishes("unet", steps=10), command="", options=tiny, data_dir=folder)
    >>> "steps=10," in text
    True

    Args:
      dataset: as :func:`dataset_of` returns it.
      wishes: what the user has decided.
      command: that wrote it, for the recipe's docstring.
      options: of the data set.
      data_dir: where prepared data lie.

    Raises:
      BadInput: the data cannot be trained on, there is no such model, or no such weights.
      FailedRun: the weights could not be downloaded.
    """
    stated = stated_statistics(wishes.weights, wishes.model) if wishes.weights else None
    task = registry.find(wishes.model).task
    objects, depth = task in TASKS, task in of_depth.TASKS
    seen = look(dataset, options=options, data_dir=data_dir, objects=objects, depth=depth)
    chosen = choose_objects if objects else choose if seen.depth is None else of_depth.choose_depth
    plan = chosen(seen, wishes, stated=stated)
    return write(plan, name=name_of(dataset, wishes.model), command=command)


def stated_statistics(source: str, model: str) -> Standardize | None:
    """Return the statistics of pixels that the weights of a source are for; None where it states none.

    Args:
      source: see :mod:`jaxseg.conversion.initial`.
      model: whose weights a name such as ``torchvision:TAG`` means.

    Raises:
      BadInput: there is no such source.
      FailedRun: the download failed.

    >>> stated_statistics("nowhere.npz", "unet")
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: there are no weights 'nowhere.npz'
    """
    from jaxseg.conversion import pixels
    from jaxseg.conversion.sources import locate
    from jaxseg.inference.load import load

    located = locate(source, model)
    if not located.path.exists():
        raise BadInput(f"there are no weights {source!r}")
    if located.kind == "weights":
        found = pixels.read_statistics(located.path) if located.path.is_dir() else None
        return None if found is None else found[0]
    with contextlib.suppress(BadInput):  # the weights can be read without the code of their recipe
        return pixels.statistics_of(load(located.path).model)
    return None
