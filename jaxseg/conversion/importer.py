"""Weights of others in a model of ours: which rules fit a file, which leaves are heads, what starts afresh."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxseg import registry, viz
from jaxseg.conversion import smp
from jaxseg.data import sets
from jaxseg.errors import BadInput, suggest
from jaxseg.export import folder
from jaxseg.export.folder import Card
from jaxseg.inference.load import TrainedModel, geometry_of
from jaxseg.recipe import Recipe
from jaxseg.tasks.semantic import Semantic
from jaxseg.types import Rules
from jaxseg.weights import hub, names
from jaxseg.weights.readers import read, weights_in


def import_weights(
    source: str | os.PathLike[str],
    name: str | None = None,
    *,
    implementation: str | None = None,
    fields: Mapping[str, Any] | None = None,
    data: str | None = None,
    licence: str = "",
    on_bytes: Callable[[int, int | None], None] | None = None,
) -> TrainedModel:
    """A registered semantic model with weights of others.

    Args:
      source: a file, or a name such as ``torchvision:TAG``, see :mod:`jaxseg.weights.hub`.
      name: of the model; a folder that segmentation-models-pytorch saved says it itself.
      implementation: whose names the file has; None takes what fits.
      fields: of the model's builder; a ``num_classes`` that is not the file's starts the heads afresh.
      data: the data set whose classes and palette the model has.
      licence: of the weights.
      on_bytes: told of the download's progress.

    Raises:
      BadInput: the file cannot be read, or does not fit.
      FailedRun: the download failed.
    """
    from jaxseg import __version__

    if name is not None and registry.find(name).task != "semantic":
        raise BadInput(f"{name!r} is of task {registry.find(name).task}; weights come into semantic models so far")
    facts = None if data is None else sets.find(data).FACTS
    path = hub.fetch(os.fspath(source), name or "", on_bytes=on_bytes)
    config = smp.config_of(path)
    if name is None:
        name, found = _as_saved(path, config, fields or {})
    else:
        found = from_file(path, name, implementation=implementation, fields=fields)
    count = found.model.num_classes
    if facts is not None and facts.num_classes != count:
        raise BadInput(f"{data!r} has {facts.num_classes} classes, the model {count}")
    classes = tuple(f"class {k}" for k in range(count)) if facts is None else facts.classes
    origin = {"file": path.name if path == Path(source) else str(source), "sha256": found.sha256}
    if config is not None:
        origin["encoder"] = config.get("encoder_name", "")
    card = Card(
        model=found.model,
        task=Semantic(count, classes=classes),
        name=name,
        classes=classes,
        palette=viz.distinct_palette(count) if facts is None else facts.palette,
        licence=licence,
        origin={
            **origin,
            "implementation": found.implementation,
            "reinitialized": list(found.reinitialized),
            "summary": found.summary,
        },
        version=__version__,
    )
    return TrainedModel(found.model, found.variables, card.task, None, 0, path, 0, False, card)


def _as_saved(path: Path, config: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> tuple[str, "Imported"]:
    """The network that a folder of segmentation-models-pytorch says it is, and its weights."""
    if config is None:
        raise BadInput(f"{path} does not say which network it is of: name a model (jaxseg list)")
    for field in fields:
        if field != "num_classes":
            raise BadInput(f"the network's own config.json says all but num_classes; {field!r} needs a model's name")
    saved = smp.saved(config, num_classes=fields.get("num_classes"))
    return saved.name, into_model(path, saved.model, {"smp": saved.rules}, spare_heads="num_classes" in fields)


def is_third_party(path: Path) -> bool:
    """Whether a path is a file of weights that is not a model of ours."""
    return path.is_file() and not folder.is_model(path)


def run_of_file(path: Path, recipe: Recipe) -> TrainedModel:
    """The last stage of a recipe with the weights of a file of another framework.

    Raises:
      BadInput: they do not fit; see ``into_model``.
    """
    stage = recipe.stages[-1]
    found = into_model(path, stage.model)
    geometry = geometry_of(stage.data.val.transforms)
    index = len(recipe.stages) - 1
    return TrainedModel(stage.model, found.variables, stage.task, recipe, index, path, 0, False, geometry=geometry)


@dataclass(frozen=True)
class Imported:
    """A model with weights from a file.

    Attributes:
      model: the linen module.
      variables: NumPy arrays in the model's structure.
      implementation: whose rules fitted.
      reinitialized: paths that the file has no numbers for; they are drawn anew.
      sha256: of the file, or of the one that a folder holds.
    """

    model: Any
    variables: dict[str, Any]
    implementation: str
    reinitialized: tuple[str, ...]
    sha256: str

    @property
    def summary(self) -> str:
        """What was started afresh, for the user; "" if nothing was."""
        parts = dict.fromkeys(path.split("/")[0] for path in self.reinitialized)
        if not parts:
            return ""
        return (
            f"{', '.join(parts)}: the file has no weights of this shape, {len(self.reinitialized)} arrays start afresh"
        )


def from_file(
    path: str | Path, name: str, *, implementation: str | None = None, fields: Mapping[str, Any] | None = None
) -> Imported:
    """Build the registered model ``name`` and fill it from a file of any kind that :mod:`jaxseg.weights.readers` knows.

    Where ``fields`` give a number of classes that is not the file's, the heads, and nothing else, start afresh. So does
    an auxiliary head that the file does not have.

    Args:
      path: a file or folder.
      name: of the registry.
      implementation: whose names the file has; None takes the rules that fit best.
      fields: of the model's builder.

    Raises:
      BadInput: no such model, field or implementation; a file that cannot be read, or whose weights do not fit.
    """
    entry, fields = registry.find(name), dict(fields or {})
    if not entry.names:
        others = [other for other, known in registry.entries().items() if known.names]
        raise BadInput(f"no rules bring weights of others into {name!r}; there are some for {', '.join(others)}")
    if implementation is not None and implementation not in entry.names:
        raise BadInput(f"{name!r} has no rules for {implementation!r}{suggest(implementation, entry.names)}")
    rules = entry.names if implementation is None else {implementation: entry.names[implementation]}
    said, config = "num_classes" in fields, smp.config_of(Path(path))
    if config is not None and "num_classes" in entry.fields:
        fields = {"num_classes": smp.classes_of(config), **fields}
    model = registry.create_model(name, **fields)
    return into_model(path, model, rules, spare_heads=said)


def into_model(
    path: str | Path, model: Any, rules: Mapping[str, Rules] | None = None, *, spare_heads: bool = False
) -> Imported:
    """Fill a model from a file.

    Args:
      path: a file or folder.
      model: a linen module.
      rules: by implementation; None takes those of every registered model of the same class.
      spare_heads: whether heads for another number of classes than the file's start afresh.

    Raises:
      BadInput: see ``from_file``.
    """
    rules = rules_of(model) if rules is None else rules
    source = read(path)
    shapes = _shapes(model)
    source = _two_classes(source, shapes, rules, model)
    implementation = max(rules, key=lambda known: _fitting(source, shapes, rules[known]))
    chosen = rules[implementation]
    heads = _heads(model, shapes)
    if not spare_heads:
        _check_classes(source, shapes, chosen, heads, model)
    keep = {path for path in shapes if path.split("/")[0].startswith("aux")}
    filled = {names.rename(name, chosen) for name in source}
    keep = (keep if not keep & filled else set()) | (heads if spare_heads else set())
    zeros = {path: np.zeros(shapes[path][1].shape, shapes[path][1].dtype) for path in keep}
    target = {(collection, *path.split("/")): zeros.get(path, leaf) for path, (collection, leaf) in shapes.items()}
    try:
        variables, reinitialized = names.convert_keeping(
            source, traverse_util.unflatten_dict(target), chosen, keep=keep
        )
    except BadInput as error:
        raise BadInput(f"{path} as weights of {implementation}: {error}") from error
    if reinitialized:
        flat = traverse_util.flatten_dict(variables)
        drawn = _draw(model, [(shapes[name][0], *name.split("/")) for name in reinitialized])
        variables = traverse_util.unflatten_dict({**flat, **drawn})
    return Imported(model, variables, implementation, reinitialized, _digest(Path(path)))


def _two_classes(
    source: dict[str, np.ndarray], shapes: Mapping[str, Any], rules: Mapping[str, Rules], model: Any
) -> dict[str, np.ndarray]:
    """A classifier of one output z as one of two, 0 and z: the sigmoid of z is their softmax."""
    heads = _heads(model, shapes) if getattr(model, "num_classes", 0) == 2 else set()
    single = {}
    for name, value in source.items():
        leads = {names.rename(name, known) for known in rules.values()}
        if leads & heads and value.ndim and len(value) == 1:
            single[name] = np.concatenate([np.zeros_like(value), value])
    return {**source, **single}


def rules_of(model: Any, origin: Mapping[str, Any] | None = None) -> dict[str, Rules]:
    """The rules of every registered model that is made of the same classes, by implementation; or of an encoder and a
    decoder of segmentation-models-pytorch that nothing is registered of.

    Args:
      model: a linen module.
      origin: of its card. The names that imported weights had come first, those of their encoder among them.

    Raises:
      BadInput: there are none.
    """
    found: dict[str, Rules] = {}
    for entry in registry.entries().values():
        if entry.names and _classes_in(entry.build()) == _classes_in(model):
            found |= {name: rules for name, rules in entry.names.items() if name not in found}
    origin = origin or {}
    if not found or origin.get("encoder"):
        found |= smp.rules_of(model, origin.get("encoder", ""))
    first = origin.get("implementation")
    found = {name: found[name] for name in sorted(found, key=lambda name: name != first)}
    if not found:
        raise BadInput(f"no rules bring weights of others into a {type(model).__name__}, or its own out")
    return found


def _classes_in(model: Any) -> tuple[type, ...]:
    """The class of a module and of those that it is given, such as a backbone and a decoder."""
    given = (getattr(model, field.name, None) for field in fields_of(model))
    return (type(model), *(type(value) for value in given if isinstance(value, nn.Module)))


def _shapes(model: Any) -> dict[str, tuple[str, Any]]:
    """Path without its collection -> (collection, shape and dtype)."""
    found = jax.eval_shape(model.init, jax.random.key(0), _image(model))
    return {"/".join(key[1:]): (key[0], leaf) for key, leaf in traverse_util.flatten_dict(dict(found)).items()}


def _image(model: Any) -> jax.ShapeDtypeStruct:
    size = model.input_size(4, 4) if hasattr(model, "input_size") else (64, 64)
    return jax.ShapeDtypeStruct((1, *size, 3), np.uint8)


def _heads(model: Any, shapes: Mapping[str, Any]) -> set[str]:
    """The leaves whose shape depends on the number of classes."""
    if not hasattr(model, "num_classes"):
        return set()
    other = _shapes(model.clone(num_classes=model.num_classes + 1))
    return {path for path, (_, leaf) in shapes.items() if other[path][1].shape != leaf.shape}


def _fitting(source: Mapping[str, Any], shapes: Mapping[str, Any], rules: Rules) -> int:
    """How many names of the file lead to a leaf, less those that lead nowhere."""
    paths = [names.rename(name, rules) for name in source]
    return sum((path in shapes) - (path == "") for path in paths)


def _check_classes(source: Any, shapes: Any, rules: Rules, heads: set[str], model: Any) -> None:
    """Refuse a file whose heads are of another number of classes, and say which.

    Raises:
      BadInput: so it is.
    """
    for name, value in source.items():
        path = names.rename(name, rules)
        if path not in heads or not path.endswith("/bias"):
            continue
        here = shapes[path][1].shape[0]
        there = np.shape(value)[0] * model.num_classes // here
        if np.ndim(value) == 1 and there != model.num_classes:
            raise BadInput(
                f"the file's heads are of {there} classes, the model's of {model.num_classes}: num_classes={there} "
                f"takes them as they are, num_classes={model.num_classes} (said outright) starts the heads afresh"
            )


def _draw(model: Any, keys: list[tuple[str, ...]]) -> dict[tuple[str, ...], np.ndarray]:
    """What the model's own initialisers give to some of its leaves."""
    image = _image(model)

    def draw(key: jax.Array) -> list[Any]:
        found = traverse_util.flatten_dict(dict(model.init(key, jnp.zeros(image.shape, image.dtype))))
        return [found[name] for name in keys]

    return dict(zip(keys, jax.device_get(jax.jit(draw)(jax.random.key(0))), strict=True))


def _digest(path: Path) -> str:
    path = weights_in(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
