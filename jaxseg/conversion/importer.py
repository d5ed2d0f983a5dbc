"""Import weights: choose rename rules, find the heads, reinitialise what does not fit, build the trained model."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxseg import registry, viz
from jaxseg.conversion import fill, objects, pixels, smp
from jaxseg.conversion.fill import Imported, fill_model
from jaxseg.conversion.rules import OWN, backbone_rules, rules_for, rules_of
from jaxseg.conversion.smp_encoders import check_geometry
from jaxseg.conversion.sources import Located, locate
from jaxseg.data import Facts, sets
from jaxseg.errors import BadInput, suggest
from jaxseg.export.folder import Card
from jaxseg.inference.load import TrainedModel, channels_of, geometry_of
from jaxseg.inference.load import load as load_saved
from jaxseg.layers.standardize import Standardize
from jaxseg.override import conform_argument
from jaxseg.recipe import Recipe
from jaxseg.tasks.table import task_for
from jaxseg.types import Rules
from jaxseg.weights.readers import darknet, read


def import_weights(
    source: str | os.PathLike[str],
    name: str | None = None,
    *,
    implementation: str | None = None,
    fields: Mapping[str, Any] | None = None,
    data: str | None = None,
    licence: str = "",
    classes: tuple[str, ...] = (),
    prefix: str = "",
    on_bytes: Callable[[int, int | None], None] | None = None,
) -> TrainedModel:
    """Return a registered model with weights from any source.

    What was decided on the way (heads that were reinitialised, statistics of pixels, inflated kernels) is listed in
    ``run.card.origin["report"]``.

    Args:
      source: a work directory, checkpoint, folder or file, or a name such as ``torchvision:TAG``, see
        :mod:`jaxseg.weights.hub`.
      name: of the model; a model of jaxseg's or a folder that segmentation-models-pytorch saved names itself.
      implementation: whose names the file has; None takes what fits.
      fields: of the model's builder; a ``num_classes`` that is not the file's reinitialises the heads.
      data: the data set whose classes and palette the model has.
      licence: of the weights.
      classes: names of the model's classes, where no data set has them.
      prefix: of the names in a file of others; "" takes off the one, if any, without which they fit best.
      on_bytes: called with the bytes that have been downloaded and, where known, their total.

    Raises:
      BadInput: the file cannot be read, or does not fit.
      FailedRun: the download failed.

    >>> import tempfile
    >>> from jaxseg.export import folder
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model = unet(num_classes=2, depth=1, width=2)
    >>> card = Card(model, Semantic(2), "tiny", ("sky", "ground"), ((0, 0, 255), (0, 255, 0)))
    >>> shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
    >>> variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    >>> with tempfile.TemporaryDirectory() as there:
    ...     file = Path(there, "tiny.safetensors")
    ...     folder.write(file, card, variables)
    ...     run = import_weights(file, fields={"num_classes": 5})
    >>> run.model.num_classes, run.card.origin["report"]
    (5, ['classifier: the file has no weights of this shape, 2 arrays start afresh'])
    """
    from jaxseg import __version__

    if name is not None:
        registry.find(name)
    if classes and data is not None:
        raise BadInput(f"the classes are those of {data!r} or those that are given: name one of both")
    facts = None if data is None else sets.facts(data)
    found = locate(source, name or "", on_bytes=on_bytes)
    fields = {} if fields is None else dict(fields)
    if found.kind == "weights":
        name, task, imported = _third_party(found, name, implementation, fields, len(classes), prefix)
        geometry = pixels.GEOMETRY.get(imported.implementation, ())
        named = classes or pixels.read_classes(found.path)
        if not named and task in objects.TASKS and not imported.reinitialized:
            named = objects.outputs_named(imported.model, task)
    else:
        before = load_saved(found.path)
        geometry = ()
        name, task, imported = _own(before, found, name, fields)
        named = classes or (before.facts.things if task in objects.TASKS else before.facts.classes)
        plain = task in registry.WITHOUT_CLASSES
        same = facts is None and not classes and not plain and len(named) == imported.model.num_classes
        facts = before.facts if same else facts
    if task in registry.WITHOUT_CLASSES:
        if classes or facts is not None:
            raise BadInput(f"{name!r} has no classes: give neither their names nor a data set that has them")
        made = task_for(task, imported.model, ())
        of_classes: dict[str, Any] = {"classes": (), "palette": ()}
    elif classes and len(classes) != (count := objects.outputs_of(imported.model, task)):
        raise BadInput(f"{len(classes)} names of classes for a model of {count}: give one each")
    elif task in objects.TASKS:
        made, of_classes = objects.described(imported.model, task, named, facts, data)
    else:
        count = imported.model.num_classes
        if facts is not None and facts.num_classes != count:
            raise BadInput(f"{data!r} has {facts.num_classes} classes, the model {count}")
        classes, palette = _classes(facts, named, count)
        made, of_classes = task_for(task, imported.model, classes), {"classes": classes, "palette": palette}
    card = Card(
        model=imported.model,
        task=made,
        name=name,
        **of_classes,
        licence=licence,
        origin={"file": found.name, "sha256": imported.sha256, **_encoder(found), **imported.origin},
        version=__version__,
        geometry=geometry,
    )
    return TrainedModel(imported.model, imported.variables, card.task, None, 0, found.path, 0, False, card, geometry)


def into_recipe(found: Located, recipe: Recipe) -> TrainedModel:
    """Return the last stage of a recipe with the weights of a third-party file; no head is reinitialised.

    Raises:
      BadInput: they do not fit.

    >>> import tempfile
    >>> from jaxseg.recipe import load_file
    >>> from jaxseg.recipe_files import find_file
    >>> from jaxseg.weights.names import restore
    >>> model = registry.create_model("espnet_c", num_classes=3, p=0, q=1, widths=(6, 10, 15))
    >>> shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))
    >>> variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    >>> recipe = load_file(find_file("unet_scenes"))
    >>> recipe = replace(recipe, stages=(replace(recipe.stages[-1], model=model),))
    >>> with tempfile.TemporaryDirectory() as there:
    ...     np.savez(Path(there, "weights.npz"), **restore(variables, rules_of(model)["sacmehta"]))
    ...     into_recipe(locate(there), recipe).name
    'unet_scenes'
    """
    stage = recipe.stages[-1]
    imported = into_model(found.path, stage.model)
    geometry, last = geometry_of(stage.data.val.transforms), len(recipe.stages) - 1
    return TrainedModel(
        stage.model, imported.variables, stage.task, recipe, last, found.path, 0, False, geometry=geometry
    )


def from_file(
    path: str | Path,
    name: str,
    *,
    implementation: str | None = None,
    fields: Mapping[str, Any] | None = None,
    num_classes: int = 0,
    prefix: str = "",
) -> Imported:
    """Build the registered model ``name`` and fill it from a file of any kind that :mod:`jaxseg.weights.readers` knows.

    Where ``fields`` give a number of classes that is not the file's, the heads, and nothing else, are reinitialised; so
    is an auxiliary head that the file does not have, and everything but the backbone where the file has only that. The
    statistics of pixels are those that the folder states, unless ``fields`` give others.

    Args:
      path: a file or folder.
      name: of the registry.
      implementation: whose names the file has; None takes the rules that fit best.
      fields: of the model's builder.
      num_classes: that the file has, where its names tell; 0 takes what the folder states, or the model's default.
      prefix: of the names in the file; "" takes off the one, if any, without which they fit best.

    Raises:
      BadInput: no such model, field or implementation; a file that cannot be read, or whose weights do not fit.

    >>> import tempfile
    >>> from jaxseg.weights.names import restore
    >>> fields = {"num_classes": 3, "p": 0, "q": 1, "widths": (6, 10, 15)}
    >>> model, rules = registry.create_model("espnet_c", **fields), registry.find("espnet_c").names["sacmehta"]
    >>> shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))
    >>> state = restore(jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes), rules)
    >>> with tempfile.TemporaryDirectory() as there:
    ...     np.savez(Path(there, "weights.npz"), **state)
    ...     from_file(there, "espnet_c", fields=fields).implementation
    'sacmehta'
    """
    entry = registry.find(name)
    path = Path(path)
    given = _conformed(name, fields or {})
    stated = {**_stated(path), **({"num_classes": num_classes} if num_classes else {})}
    defaults = {key: value for key, value in stated.items() if key in entry.fields}
    if "conventions" in entry.fields and implementation is None:
        told = objects.conventions_of(read(path), entry.names)
        asked = given.get("conventions", told)
        if told and asked != told:
            raise BadInput(f"{path} holds weights for the geometry of {told}: not conventions={asked!r}")
        defaults |= {"conventions": told} if told else {}
    elif "conventions" in entry.fields:
        defaults["conventions"] = implementation
    model = registry.create_model(name, **{**defaults, **given})
    partial = {} if implementation else backbone_rules(model)
    known = rules_for(entry, model)
    if not entry.names and not partial:
        others = [other for other, known in registry.entries().items() if known.names]
        raise BadInput(f"no rules bring weights of others into {name!r}; there are some for {', '.join(others)}")
    if implementation is not None and implementation not in entry.names:
        raise BadInput(f"{name!r} has no rules for {implementation!r}{suggest(implementation, entry.names)}")
    rules = {implementation: known[implementation]} if implementation else objects.fitting(model, known)
    spare = "num_classes" in given
    made = into_model(path, model, rules, spare_heads=spare, partial=partial, fields=given, prefix=prefix)
    of_cfg = path.suffix == darknet.SUFFIX and "anchors" in defaults and "anchors" not in given
    corrected = darknet.correction(path) if of_cfg else ""
    return replace(made, notes=(*made.notes, corrected)) if corrected else made


def into_model(
    path: str | Path,
    model: Any,
    rules: Mapping[str, Rules] | None = None,
    *,
    spare_heads: bool = False,
    partial: Mapping[str, Rules] | None = None,
    fields: Mapping[str, Any] | None = None,
    prefix: str = "",
) -> Imported:
    """Fill a model from a file.

    Args:
      path: a file or folder.
      model: a linen module.
      rules: by implementation; None takes those of every registered model of the same class.
      spare_heads: reinitialise heads for another number of classes than the file's.
      partial: more rules, which fill the backbone alone; the rest is then reinitialised.
      fields: that the user gave; statistics of pixels among them are kept. None keeps the model's in any case.
      prefix: see ``from_file``.

    Raises:
      BadInput: see ``from_file``.

    >>> import tempfile
    >>> from jaxseg.models.semantic.unet import unet
    >>> model = unet(num_classes=2, depth=1, width=1)
    >>> shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
    >>> variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    >>> with tempfile.TemporaryDirectory() as there:
    ...     np.savez(Path(there, "weights.npz"), **fill.by_path(variables))
    ...     into_model(there, model, OWN).implementation
    'jaxseg'
    """
    path, note = Path(path), ""
    if fields is not None:
        model, note = _with_statistics(path, model, fields)
    rules = rules_of(model) if rules is None else rules
    made = fill_model(
        read(path), model, rules, spare_heads=spare_heads, partial=partial or {}, what=str(path), prefix=prefix
    )
    if fields is not None and made.implementation in pixels.OF_PROGRAMS and not _states(path, fields):
        chosen = pixels.OF_PROGRAMS[made.implementation]
        made = replace(made, model=pixels.with_statistics(made.model, chosen))
        note = f"statistics of pixels: {pixels.spell(chosen)} (as {made.implementation} has them)"
    sha256 = fill.digest(path)
    variables, run = objects.as_run(made.variables, sha256)
    notes = (*made.notes, *((note,) if note else ()), *run)
    return replace(made, variables=variables, sha256=sha256, notes=notes)


def _third_party(
    found: Located,
    name: str | None,
    implementation: str | None,
    fields: Mapping[str, Any],
    num_classes: int,
    prefix: str,
) -> tuple[str, str, Imported]:
    """Name of the model, its task, and the model filled from a file of another framework."""
    if name is not None:
        imported = from_file(
            found.path, name, implementation=implementation, fields=fields, num_classes=num_classes, prefix=prefix
        )
        check_geometry(found.source, imported.model)
        return name, registry.find(name).task, imported
    config = smp.config_of(found.path)
    if config is None:
        raise BadInput(f"{found.path} does not say which network it is of: name a model (jaxseg list)")
    for field in fields:
        if field not in ("num_classes", "standardize"):
            raise BadInput(f"the network's own config.json says all but num_classes; {field!r} needs a model's name")
    saved = smp.saved(config, num_classes=fields.get("num_classes"))
    rules, spare = {"smp": saved.rules}, "num_classes" in fields
    made = into_model(found.path, saved.model, rules, spare_heads=spare, fields=fields, prefix=prefix)
    return saved.name, "semantic", made


def _own(
    before: TrainedModel, found: Located, name: str | None, fields: Mapping[str, Any]
) -> tuple[str, str, Imported]:
    """Return the same for a model of jaxseg's: its weights in another registered model, or in one of other classes."""
    if name is not None:
        given = _conformed(name, fields)
        plain = registry.find(name).task in registry.WITHOUT_CLASSES
        known = {} if plain else {"num_classes": before.model.num_classes}
        if "conventions" in registry.find(name).fields and hasattr(before.model, "conventions"):
            known["conventions"] = before.model.conventions
        model = registry.create_model(name, **{**known, **given})
        task = registry.find(name).task
    else:
        wrong = [field for field in fields if field != "num_classes"]
        if wrong:
            raise BadInput(f"{found.source} is a model already; {wrong[0]!r} needs a model's name")
        model, name = before.model.clone(**fields), before.name
        task = next((e.task for e in registry.entries().values() if type(e.build()) is type(model)), "semantic")
    spare = "num_classes" in fields
    made = fill_model(fill.by_path(before.variables), model, OWN, spare_heads=spare, partial={}, what=found.source)
    return name, task, made


def _conformed(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a registered model's builder as their types want them: statistics may be given by name."""
    build = registry.find(name).build
    return {field: conform_argument(build, field, value) for field, value in fields.items()}


def _stated(path: Path) -> dict[str, Any]:
    """Fields that the files beside the weights state."""
    if path.suffix == darknet.SUFFIX and path.is_file():
        return darknet.stated(path)
    config = smp.config_of(path)
    if config is not None:
        return {"num_classes": smp.classes_of(config), "in_channels": smp.channels_of(config)}
    classes = pixels.read_classes(path)
    return {"num_classes": len(classes)} if classes else {}


def _states(path: Path, fields: Mapping[str, Any]) -> bool:
    """True if the user or the folder states the statistics of pixels."""
    return "standardize" in fields or (path.is_dir() and pixels.read_statistics(path) is not None)


def _with_statistics(path: Path, model: Any, fields: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the model with the statistics of pixels that it should have, and where they come from."""
    given = fields.get("standardize")
    own = pixels.statistics_of(model)
    if own is None:
        return model, ""
    if given is not None:
        chosen, why = Standardize.parse(given), "as given"
    else:
        found = pixels.read_statistics(path) if path.is_dir() else None
        chosen, why = (own, "assumed, as the source states none") if found is None else found
    if not chosen.fits(channels_of(model)):
        chosen, why = own, f"assumed; those of {why} are of {chosen.channels} channels"
    return pixels.with_statistics(model, chosen), f"statistics of pixels: {pixels.spell(chosen)} ({why})"


def _classes(facts: Facts | None, named: tuple[str, ...], count: int) -> tuple[tuple[str, ...], Any]:
    """Return names and palette."""
    if facts is not None:
        return facts.classes, facts.palette
    classes = named if len(named) == count else tuple(f"class {k}" for k in range(count))
    return classes, viz.distinct_palette(count)


def _encoder(found: Located) -> dict[str, str]:
    config = smp.config_of(found.path)
    return {} if config is None else {"encoder": config.get("encoder_name", "")}
