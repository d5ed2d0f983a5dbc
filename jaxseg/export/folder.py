"""A saved model: ``weights.safetensors`` and ``card.json`` in one folder, or the first alone with the card inside.

The card holds the model and its task as data, classes and palette, where the numbers come from and under which licence;
no code of a recipe is needed to load it. Folders and files appear whole or not at all.
"""

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from jaxseg.errors import BadInput
from jaxseg.files import atomic, atomic_folder
from jaxseg.recipe import FORMAT, check_format, dump, load, load_task
from jaxseg.weights import readers

WEIGHTS, CARD = "weights.safetensors", "card.json"


@dataclass(frozen=True)
class Card:
    """Description of a model beside its weights.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> card = Card(unet(num_classes=2), Semantic(2), "unet", ("road", "car"), ((0, 0, 0), (255, 0, 0)))
    >>> card.classes[1], card.palette[1], card.licence
    ('car', (255, 0, 0), '')

    Attributes:
      model: the linen module.
      task: what its outputs mean.
      name: of the recipe or of the registry's entry.
      classes: names of the classes.
      palette: one RGB triple per class.
      licence: of the weights; "" where it is not known.
      step: updates that the weights have seen.
      averaged: whether they are moving averages.
      recipe: what trained them, as :func:`jaxseg.recipe.dump` writes it; None for imported weights.
      stage: the recipe's stage.
      metrics: name -> figure, with the split that it was measured on as part of the name.
      origin: of imported weights: file, sha256, implementation, what was reinitialised, a report of all decisions, and
        the name of the encoder in segmentation-models-pytorch.
      version: of the jaxseg that wrote it.
      geometry: transforms that an image goes through before the network, at test time.
      things: names of the classes of objects.
      joints: names of the keypoints of an object.
      skeleton: pairs of joints between which a limb is drawn.
      tables: names of the classes of a task of its own, by the task's name.
    """

    model: Any
    task: Any
    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    licence: str = ""
    step: int = 0
    averaged: bool = False
    recipe: Any = None
    stage: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    geometry: tuple[Any, ...] = ()
    things: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()
    skeleton: tuple[tuple[str, str], ...] = ()
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)


def card_text(card: Card) -> str:
    """Return the card as JSON.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> card = Card(unet(num_classes=2), Semantic(2), "unet", ("road", "car"), ((0, 0, 0), (255, 0, 0)))
    >>> json.loads(card_text(card))["classes"]
    ['road', 'car']
    """
    form = {f.name: getattr(card, f.name) for f in fields(card)}
    form |= {"model": dump(card.model), "task": dump(card.task), "geometry": dump(card.geometry)}
    return json.dumps({"format": FORMAT, **form}, indent=1)


def card_from_text(text: str, *, where: str) -> Card:
    """Return the card that ``card_text`` wrote.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> card = Card(unet(num_classes=2), Semantic(2), "unet", ("road", "car"), ((0, 0, 0), (255, 0, 0)))
    >>> card_from_text(card_text(card), where="card.json") == card
    True

    Raises:
      BadInput: it is none, or names a model that this jaxseg does not have.
    """
    try:
        form = json.loads(text)
        if not isinstance(form, dict):
            raise TypeError("not an object")
        check_format(form, where)
        del form["format"]
        form["geometry"] = load(form.get("geometry", []))
        form |= {"model": load(form["model"]), "task": load_task(form["task"]), "classes": tuple(form["classes"])}
        form |= {name: tuple(form.get(name, ())) for name in ("things", "joints")}
        form["skeleton"] = tuple((a, b) for a, b in form.get("skeleton", ()))
        form["tables"] = {task: tuple(names) for task, names in form.get("tables", {}).items()}
        return Card(**{**form, "palette": tuple(tuple(color) for color in form["palette"])})
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"{where} is no card of a model ({type(error).__name__}: {' '.join(str(error).split())})"
        ) from error


def is_model(path: Path) -> bool:
    """Return True if a path is a folder or a file that ``write`` wrote.

    >>> is_model(Path("nowhere"))
    False
    """
    return (path / CARD).is_file() or (path.suffix == ".safetensors" and path.is_file() and _inside(path) is not None)


def write(path: Path, card: Card, variables: Any) -> None:
    """Write a folder, or one file where ``path`` ends in .safetensors.

    >>> import tempfile
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> card = Card(unet(num_classes=2), Semantic(2), "unet", ("road", "car"), ((0, 0, 0), (255, 0, 0)))
    >>> path = Path(tempfile.mkdtemp()) / "unet"
    >>> write(path, card, {"params": {"kernel": np.ones(2)}})
    >>> sorted(file.name for file in path.iterdir())
    ['card.json', 'weights.safetensors']

    Raises:
      BadInput: there is something else under that name.
    """
    from safetensors.numpy import save_file

    flat: dict[str, Any] = traverse_util.flatten_dict(dict(variables), sep="/")
    arrays = {name: np.ascontiguousarray(np.asarray(value)) for name, value in flat.items()}
    text = card_text(card)
    path = Path(path)
    alone = path.suffix == ".safetensors"
    if alone and path.is_dir():
        raise BadInput(f"{path} is a folder; give the name of a file")
    if not alone:
        check_free(path)
    with atomic(path) if alone else atomic_folder(path) as part:
        if not alone:
            (part / CARD).write_text(text, encoding="utf-8")
        file = part if alone else part / WEIGHTS
        save_file(arrays, file, metadata={"format": "np", "jaxseg": text})
        file.chmod(0o666 & ~_umask())  # the library makes it readable to its owner alone


def check_free(path: Path) -> None:
    """Raise if a path is taken by anything but a model of jaxseg's.

    >>> check_free(Path("no such folder"))

    Raises:
      BadInput: it is.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / CARD).is_file()):
        raise BadInput(f"{path} exists and is no model of jaxseg's; give another folder for --out")


def read(path: Path) -> tuple[Card, dict[str, Any]]:
    """Return the card and the variables, views of the file.

    >>> import tempfile
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> card = Card(unet(num_classes=2), Semantic(2), "unet", ("road", "car"), ((0, 0, 0), (255, 0, 0)))
    >>> path = Path(tempfile.mkdtemp()) / "unet.safetensors"
    >>> write(path, card, {"params": {"kernel": np.ones(2)}})
    >>> found, variables = read(path)
    >>> found == card, variables["params"]["kernel"].tolist()
    (True, [1.0, 1.0])

    Raises:
      BadInput: it is damaged.
    """
    path = Path(path)
    if path.is_dir():
        weights, where = path / WEIGHTS, str(path / CARD)
        text: str | None = (path / CARD).read_text(encoding="utf-8", errors="replace")
    else:
        weights, where = path, str(path)
        text = _inside(path)
    card = card_from_text(text or "", where=where)
    flat = readers.read(weights)
    return card, traverse_util.unflatten_dict({tuple(name.split("/")): value for name, value in flat.items()})


def verify(path: Path, variables: Any) -> float:
    """Return the largest difference between the numbers in the folder or file and ``variables``.

    >>> import tempfile
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> card = Card(unet(num_classes=2), Semantic(2), "unet", ("road", "car"), ((0, 0, 0), (255, 0, 0)))
    >>> path = Path(tempfile.mkdtemp()) / "unet"
    >>> write(path, card, {"params": {"kernel": np.ones(2)}})
    >>> verify(path, {"params": {"kernel": np.asarray([1.0, 1.5])}})
    0.5

    Raises:
      BadInput: it holds other paths or shapes.
    """
    found: dict[str, Any] = traverse_util.flatten_dict(read(path)[1], sep="/")
    wanted: dict[str, Any] = traverse_util.flatten_dict(dict(variables), sep="/")
    if {name: np.shape(value) for name, value in found.items()} != {n: np.shape(v) for n, v in wanted.items()}:
        raise BadInput(f"{path} holds other weights than those that were written")
    errors = [np.abs(np.asarray(wanted[name]) - found[name]).max(initial=0) for name in found]
    return float(max(errors, default=0))


def _inside(path: Path) -> str | None:
    """Return the card in a file of safetensors; None if there is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("jaxseg")
    except (SafetensorError, OSError):
        return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
