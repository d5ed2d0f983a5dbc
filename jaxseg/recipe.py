"""A training as a value: ``Recipe`` and ``Stage`` hold the real objects (model, task, data, optimizer).

A recipe is never edited, only rebuilt: ``override(recipe, "stages.0.model.depth", 4)``. It dumps to JSON and loads back
equal, so that every work directory records what was run in it. A recipe file is a Python file with a function
``recipe() -> Recipe``; those under ``experiments/`` come with the package and may be named without their path.
"""

import dataclasses
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxseg.constructors import find_constructor, public_name
from jaxseg.errors import BadInput, suggest
from jaxseg.override import brief, fields, one_line, override, override_text
from jaxseg.recipe_files import find_file, shipped, split, with_variant

__all__ = [
    "FORMAT",
    "Recipe",
    "Stage",
    "UnknownCode",
    "WeightSource",
    "check_format",
    "dump",
    "find_file",
    "load",
    "load_file",
    "load_task",
    "override",
    "override_text",
    "shipped",
]


@runtime_checkable
class WeightSource(Protocol):
    """Source of a stage's first weights; a frozen dataclass, so that a recipe can hold it."""

    def load(
        self, variables: Mapping[str, Any], *, model: Any = None, log: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """Return some of the model's variables, under their collections and paths.

        Args:
          variables: all of the model's, arrays or shapes.
          model: the linen module, for sources that choose rename rules by it.
          log: called with each line that the user should read.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """One training of one model.

    >>> from jaxseg.recipe_files import find_file
    >>> load_file(find_file("unet_scenes")).stages[0].name
    'main'

    Attributes:
      model: a linen module (``image -> outputs``).
      task: joins the batch's keys to the outputs' (``jaxseg.tasks``).
      data: training and validation splits with their transforms (``jaxseg.data``).
      optimizer: a description with ``build(total_steps)`` (``jaxseg.train.optim``).
      steps: optimizer updates.
      batch_size: examples per update, over all devices, processes and microbatches.
      name: of the stage's folder in the work directory.
      accumulate: microbatches per update.
      ema: decay of the moving average of the parameters per update, None for no average.
      log_every: updates between two lines of the log.
      eval_every: updates between two evaluations on the validation split.
      save_every: updates between two checkpoints.
      eval_batch_size: None takes ``batch_size``.
      keep_best: the figure whose best checkpoint is kept, highest or lowest as its metric says; None for none.
      keep_last: how many of the latest checkpoints are kept.
      precise_bn: whether each evaluation is preceded by a pass over the training images that estimates the statistics
        of batch normalisation anew (:mod:`jaxseg.train.precise_bn`); checkpoints of that step hold them.
      pictures: how many validation images are drawn at each evaluation.
      init: "previous" carries over the weights of the stage before, by path and shape; a :class:`WeightSource`, such as
        :class:`jaxseg.weights.pretrained.Pretrained`, brings some from elsewhere; None initialises the model.
      freeze: regular expressions of variables that stay as they are initialised (:mod:`jaxseg.train.freeze`):
        ``r"^backbone/"`` freezes a backbone, ``r"^backbone/.*/(mean|var)$"`` the statistics of its normalisation alone.
      patience: the stage ends after so many evaluations in a row that do not improve on ``keep_best``; None goes
        through all steps.
    """

    model: Any
    task: Any
    data: Any
    optimizer: Any
    steps: int
    batch_size: int
    name: str = "main"
    accumulate: int = 1
    ema: float | None = None
    log_every: int = 50
    eval_every: int = 500
    save_every: int = 500
    eval_batch_size: int | None = None
    keep_best: str | None = "miou"
    keep_last: int = 2
    precise_bn: bool = False
    pictures: int = 4
    init: str | WeightSource | None = None
    freeze: tuple[str, ...] = ()
    patience: int | None = None

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "log_every", "eval_every", "save_every", "keep_last"):
            _at_least(name, getattr(self, name), 1)
        if self.eval_batch_size is not None:
            _at_least("eval_batch_size", self.eval_batch_size, 1)
        _at_least("pictures", self.pictures, 0)
        if self.batch_size % self.accumulate:
            raise BadInput(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise BadInput(f"ema is {self.ema}, but must lie in [0, 1)")
        if self.init not in (None, "previous") and not isinstance(self.init, WeightSource):
            raise BadInput(f"init is {self.init!r}, but must be None, 'previous' or weights such as Pretrained(...)")
        if self.patience is not None:
            _at_least("patience", self.patience, 1)
            if self.keep_best is None:
                raise BadInput("patience counts evaluations without a better keep_best, so it needs keep_best")
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise BadInput(f"a stage cannot be called {self.name!r}: its name is a folder's (letters, digits, . _ -)")


@dataclass(frozen=True)
class Recipe:
    """Stages that run one after the other from one seed. ``name`` names the default work directory.

    >>> from jaxseg.recipe_files import find_file
    >>> load_file(find_file("unet_scenes")).name
    'unet_scenes'
    """

    stages: tuple[Stage, ...]
    seed: int = 0
    name: str = ""

    def __post_init__(self):
        if not self.stages:
            raise BadInput("a recipe needs at least one stage")
        if self.stages[0].init == "previous":
            raise BadInput("init is 'previous' in the first stage: there is none before it")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise BadInput(f"{name} is {value}, but must be at least {least}")


FORMAT = 2
"""Version of the JSON form. Version 1 (jaxseg 0.1) named classes by their modules; it is no longer read."""


class UnknownCode(BadInput):
    """A saved form names a class or function of one's own whose module is not imported.

    >>> load({"function": "my_module:my_loss"})
    Traceback (most recent call last):
        ...
    jaxseg.recipe.UnknownCode: the recipe names my_module:my_loss: import my_module first ...
    """


def dump(value: Any) -> Any:
    """Return a recipe, or any part of one, in the form that ``json`` writes; ``load`` gives an equal value back.

    Dataclasses and linen modules become ``{"type": "SGD", "fields": {...}}`` with their public name
    (:mod:`jaxseg.constructors`), a user's own ``{"type": "module:Class", ...}``, a user's functions ``{"function":
    "module:name"}``, dtypes ``{"dtype": "bfloat16"}``, tuples lists. A whole recipe also has ``"format": 2``.

    Raises:
      BadInput: something inside has no such form (an array, say, or a lambda).

    >>> from jaxseg.losses import Dice
    >>> dump(Dice(0.5))["type"]
    'Dice'
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [dump(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        form = {
            "type": _address(type(value)),
            "fields": {f.name: dump(getattr(value, f.name)) for f in fields(value)},
        }
        return {"format": FORMAT, **form} if isinstance(value, Recipe) else form
    if isinstance(value, np.generic):
        return value.item()
    dtype = _dtype_name(value)
    if dtype is not None:
        return {"dtype": dtype}
    if callable(value) and hasattr(value, "__qualname__"):
        return {"function": _address(value)}
    raise BadInput(f"a recipe cannot hold {brief(value)} ({type(value).__name__}): it has no JSON form")


def load(form: Any) -> Any:
    """Return the value that ``dump`` wrote.

    Only classes with a public name and those of modules that are already imported are built, and nothing of Python's
    own library.

    >>> from jaxseg.losses import Dice
    >>> load(dump(Dice(0.5)))
    Dice(weight=0.5)

    Raises:
      BadInput: the form is none of ``dump``'s, is of another version, or names a class or field that does not exist.
    """
    if isinstance(form, list):
        return tuple(load(item) for item in form)
    if not isinstance(form, dict):
        return form
    if form.keys() == {"dtype"}:
        import jax.numpy as jnp

        return getattr(jnp, form["dtype"])
    if form.keys() == {"function"}:
        return _find(form["function"])
    if form.keys() - {"format"} != {"type", "fields"}:
        raise BadInput(f"not a recipe: an object with the keys {', '.join(sorted(map(str, form)))}")
    kind = _find(form["type"])
    if "format" in form or kind is Recipe:
        check_format(form, "the recipe")
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise BadInput(f"not a recipe: {form['type']} is no dataclass")
    known = [f.name for f in fields(kind)]
    for name in form["fields"]:
        if name not in known:
            raise BadInput(f"{form['type']} has no field {name!r}{suggest(name, known)}")
    try:
        return kind(**{name: load(inside) for name, inside in form["fields"].items()})
    except TypeError as error:
        raise BadInput(f"{form['type']} cannot be built: {one_line(error)}") from error


LEARNING = ("losses", "extra_metrics")
"""Fields of tasks that predictions do not depend on."""


def load_task(form: Any) -> Any:
    """Return a task that ``dump`` wrote; losses and metrics of one's own whose code is not here have their defaults.

    >>> from jaxseg.tasks.semantic import Semantic
    >>> form = dump(Semantic(3))
    >>> form["fields"]["losses"] = [{"type": "my_module:MyLoss", "fields": {}}]
    >>> load_task(form) == Semantic(3)
    True

    Raises:
      UnknownCode: the task itself is of one's own, and its module is not imported.
      BadInput: see ``load``.
    """
    return load(_without_learning(form))


def _without_learning(form: Any) -> Any:
    if isinstance(form, list):
        return [_without_learning(item) for item in form]
    if not (isinstance(form, dict) and isinstance(form.get("fields"), dict)):
        return form
    kept = {}
    for name, inside in form["fields"].items():
        try:
            kept[name] = _without_learning(inside)
            if name in LEARNING:
                load(inside)
        except UnknownCode:
            del kept[name]
    return {**form, "fields": kept}


def check_format(form: Any, what: str) -> None:
    """Refuse a saved form of another version than :data:`FORMAT`.

    >>> check_format({"format": FORMAT}, "recipe.json")

    Args:
      form: the top of a recipe, a card or a checkpoint's notes, as JSON holds it.
      what: names it in the message.

    Raises:
      BadInput: its ``"format"`` is another or, as jaxseg 0.1 wrote it, absent.
    """
    found = form.get("format", 1) if isinstance(form, Mapping) else 1
    if found != FORMAT:
        version = f"a newer jaxseg (format {found})" if _is_newer(found) else f"jaxseg 0.1 (format {found!r})"
        raise BadInput(f"{what} was saved by {version}; this version of jaxseg reads format {FORMAT}")


def _is_newer(found: Any) -> bool:
    return type(found) is int and found > FORMAT


def _dtype_name(value: Any) -> str | None:
    """ "bfloat16" for ``jnp.bfloat16``, ``np.dtype("bfloat16")`` and the like; None for anything else."""
    if isinstance(value, np.dtype):
        return value.name
    described = isinstance(value, type) and (issubclass(value, np.generic) or hasattr(value, "dtype"))
    return np.dtype(getattr(value, "dtype", value)).name if described else None


def _address(value: Any) -> str:
    """Return the public name of a class of jaxseg's, or ``module:name`` of anything else."""
    name = public_name(value) if isinstance(value, type) else None
    if name is not None:
        return name
    address = f"{value.__module__}:{value.__qualname__}"
    module = sys.modules.get(value.__module__)
    if "<" in value.__qualname__ or module is None or _attribute(module, value.__qualname__) is not value:
        raise BadInput(f"a recipe cannot hold {address}: only what a module offers by name can be loaded back")
    if value.__module__.split(".")[0] == "jaxseg":
        raise BadInput(f"a recipe cannot hold {address}: it has no public name (jaxseg.constructors)")
    return address


def _attribute(module: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        module = getattr(module, part, None)
    return module


def _find(address: str) -> Any:
    """Return the class of a public name, or what ``module:name`` stands for."""
    name, colon, qualname = address.partition(":")
    if not colon:
        try:
            return find_constructor(address)
        except BadInput as error:
            raise BadInput(f"the recipe names {error}") from error
    top = name.split(".")[0]
    if top in sys.stdlib_module_names:
        raise BadInput(f"the recipe names {address}: nothing of Python's own library belongs into a recipe")
    if top == "jaxseg":
        check_format({}, f"{address} in the recipe")
    module = sys.modules.get(name)
    if module is None:
        raise UnknownCode(
            f"the recipe names {address}: import {name} first (only jaxseg's own modules are imported; on the command "
            "line --recipe FILE runs the file that has it)"
        )
    found = _attribute(module, qualname)
    if found is None:
        raise BadInput(f"the recipe names {address}, which does not exist{suggest(qualname, vars(module))}")
    return found


def load_file(path: str | Path) -> Recipe:
    """Return the recipe of a Python file (its function ``recipe()``) or of a work directory's ``recipe.json``.

    ``segformer_ade20k.py:b3`` is what ``recipe("b3")`` of that file returns: one of its ``VARIANTS``. A recipe without
    a name is given the file's.

    >>> from jaxseg.recipe_files import find_file
    >>> load_file(find_file("unet_scenes")).stages[0].name
    'main'

    Raises:
      BadInput: the file is missing, fails, has no such variant, or gives no Recipe; the message names the line.
    """
    path, variant = split(path)
    if not path.is_file():
        raise BadInput(f"there is no recipe file {str(path)!r}; {_offer(path.stem)}")
    if path.suffix == ".json":
        try:
            form = json.loads(path.read_text())
        except ValueError as error:
            raise BadInput(f"{path} is not JSON: {error}") from error
        check_format(form, str(path))
        found = load(form)
    elif path.suffix == ".py":
        found = _run_file(path, variant)
    else:
        raise BadInput(f"{str(path)!r} is no recipe: a recipe is a .py file with a function recipe()")
    if not isinstance(found, Recipe):
        raise BadInput(f"{path} gives a {type(found).__name__}, not a Recipe")
    return found if found.name else dataclasses.replace(found, name=path.stem)


def _offer(name: str) -> str:
    known = shipped()
    if not known:
        return "give the path of a .py file"
    return f"jaxseg comes with {len(known)} recipes, unet_scenes among them{suggest(name, known)}"


def _run_file(path: Path, variant: str | None = None) -> Any:
    if variant is not None:
        with_variant(path, variant)
    module_name = path.stem
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if getattr(sys.modules.get(module_name), "__recipe__", False) or module_name not in sys.modules:
        sys.modules[module_name] = module  # classes of the file's own can then be loaded back by name
    module.__dict__["__recipe__"] = True
    folder = str(path.absolute().parent)
    if folder not in sys.path:  # as for any script: a recipe may import the files beside it
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "recipe", None)):
            raise BadInput(f"{path} has no function recipe()")
        return module.recipe() if variant is None else module.recipe(variant)
    except BadInput as error:
        raise BadInput(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except Exception as error:
        raise BadInput(f"{_place(path, error)}: {_explain(error, module)}") from error


def _place(path: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _explain(error: Exception, module: Any) -> str:
    """Return the error in one line, with the nearest name where a name is misspelt."""
    text = f"{type(error).__name__}: {one_line(error)}"
    typo = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if typo:  # Python 3.13 offers a name itself, in words of its own
        kinds = [vars(module).get(typo[1]) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
        names = {f.name for kind in kinds if dataclasses.is_dataclass(kind) for f in fields(kind)}
        return f"{typo[1]} has no field {typo[2]!r}{suggest(typo[2], names)}"
    if isinstance(error, NameError) and error.name is not None:
        return f"{text}{suggest(error.name, [n for n in vars(module) if not n.startswith('_')])}"
    if isinstance(error, AttributeError) and error.name is not None and error.obj is not None:
        return f"{text}{suggest(error.name, [n for n in dir(error.obj) if not n.startswith('_')])}"
    return text
