"""Tasks by the name under which models are registered: ``@for_models("semantic")`` on a task's class."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxseg.errors import BadInput, suggest
from jaxseg.tasks.protocol import Task


@runtime_checkable
class MadeForModel(Protocol):
    """A task that can be made for a model alone, where there is no recipe: of imported weights, say."""

    @classmethod
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> Task:
        """Return the task of a model whose classes have these names."""
        ...


_tasks: dict[str, type[MadeForModel]] = {}

Kind = TypeVar("Kind", bound=type[MadeForModel])


def for_models(name: str) -> Callable[[Kind], Kind]:
    """Register a task for the models that :func:`jaxseg.registry.register` names so.

    >>> @for_models("example")
    ... class Example:
    ...     @classmethod
    ...     def for_model(cls, model, classes):
    ...         return cls()
    >>> type(tasks()["example"].for_model(None, ())).__name__
    'Example'
    """

    def enter(kind: Kind) -> Kind:
        _tasks[name] = kind
        return kind

    return enter


def tasks() -> Mapping[str, type[MadeForModel]]:
    """Return every registered task by its name, after importing all of ``jaxseg.tasks``.

    >>> tasks()["semantic"].__name__
    'Semantic'
    """
    package = importlib.import_module("jaxseg.tasks")
    for module in pkgutil.iter_modules(package.__path__, "jaxseg.tasks."):
        importlib.import_module(module.name)
    return dict(_tasks)


def task_for(name: str, model: Any, classes: tuple[str, ...]) -> Task:
    """Return the task of that name for a model.

    Args:
      name: as models are registered: "semantic", ...
      model: the linen module.
      classes: names of its classes.

    Raises:
      BadInput: no task is called so.

    >>> task_for("semantic", None, ("sky", "road")).num_classes
    2
    """
    known = tasks()
    if name not in known:
        raise BadInput(f"there is no task {name!r} that weights could be imported for{suggest(name, known)}")
    return known[name].for_model(model, classes)
