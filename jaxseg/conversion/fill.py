"""Fill a model from a flat dict of arrays: the rules that fit best, the heads, what is reinitialised."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxseg.backbones.classifiers import BEYOND
from jaxseg.errors import BadInput
from jaxseg.inference.load import example_image
from jaxseg.types import Rules
from jaxseg.weights import names
from jaxseg.weights.prefixes import fitting_prefix, without_prefix
from jaxseg.weights.readers import weights_in


@dataclass(frozen=True)
class Imported:
    """A model with weights from a file.

    Attributes:
      model: the linen module.
      variables: NumPy arrays in the model's structure.
      implementation: whose rules fitted.
      reinitialized: paths that the file has no numbers for; they are drawn by the model's initialisers.
      notes: what else was decided, one line each.
      sha256: of the file, or of the one that a folder holds; "" where it is none.

    >>> Imported(None, {}, "torchvision", ("head/kernel",)).report
    ('head: the file has no weights of this shape, 1 arrays start afresh',)
    """

    model: Any
    variables: dict[str, Any]
    implementation: str
    reinitialized: tuple[str, ...]
    notes: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def summary(self) -> str:
        """One line on what was reinitialised; "" if nothing was."""
        parts = dict.fromkeys(path.split("/")[0] for path in self.reinitialized)
        if not parts:
            return ""
        return (
            f"{', '.join(parts)}: the file has no weights of this shape, {len(self.reinitialized)} arrays start afresh"
        )

    @property
    def report(self) -> tuple[str, ...]:
        """All that was decided and the user should know, one line each."""
        return (self.summary, *self.notes) if self.summary else self.notes

    @property
    def origin(self) -> dict[str, Any]:
        """The same as JSON, for the card."""
        return {
            "implementation": self.implementation,
            "reinitialized": list(self.reinitialized),
            "summary": self.summary,
            "report": list(self.report),
        }


def fill_model(
    source: Mapping[str, np.ndarray],
    model: Any,
    rules: Mapping[str, Rules],
    *,
    spare_heads: bool,
    partial: Mapping[str, Rules],
    what: str,
    prefix: str = "",
    draw: bool = True,
) -> Imported:
    """Fill a model from arrays by name.

    Kernels of the first convolution for RGB are inflated to another number of channels.

    Args:
      source: the arrays.
      model: a linen module.
      rules: by implementation; those that fit best are taken.
      spare_heads: reinitialise heads for another number of classes than the source's.
      partial: rules that fill the backbone alone; the rest is then reinitialised.
      what: names the source in messages.
      prefix: of the names; "" takes off the one, if any, without which they fit best.
      draw: draw what is reinitialised; False leaves zeros there.

    Raises:
      BadInput: the weights do not fit.

    >>> from jaxseg.conversion.rules import OWN
    >>> from jaxseg.models.semantic.unet import unet
    >>> model, image = unet(num_classes=2, depth=1, width=1), jnp.zeros((1, 8, 8, 3), jnp.uint8)
    >>> source = by_path(model.init(jax.random.key(0), image))
    >>> made = fill_model(source, model.clone(num_classes=5), OWN, spare_heads=True, partial={}, what="mine")
    >>> made.report
    ('classifier: the file has no weights of this shape, 2 arrays start afresh',)
    """
    shapes = _shapes(model)
    heads = _heads(model, shapes)
    everything = {**rules, **partial}
    under: tuple[str, ...] = ()
    if "jaxseg" not in rules:
        named = everything.values()
        found = without_prefix(source, prefix) if prefix else fitting_prefix(source, shapes, named)
        source, under = _two_classes(found.source, heads, rules, model), found.notes
    implementation = max(everything, key=lambda known: _fitting(source, shapes, everything[known]))
    chosen = everything[implementation]
    if not spare_heads:
        _check_classes(source, shapes, chosen, heads, model)
    if implementation in rules:
        keep = {path for path in shapes if path.split("/")[0].startswith(("aux", "image_classifier"))}
        filled = {names.rename(name, chosen) for name in source}
        keep = (keep if not keep & filled else set()) | (heads if spare_heads else set())
    else:
        keep = {path for path in shapes if not path.startswith("backbone/") or path.split("/")[1] in BEYOND}
    zeros = {path: np.zeros(shapes[path][1].shape, shapes[path][1].dtype) for path in keep}
    target = {(collection, *path.split("/")): zeros.get(path, leaf) for path, (collection, leaf) in shapes.items()}
    try:
        made = names.convert_keeping(source, traverse_util.unflatten_dict(target), chosen, keep=keep)
    except BadInput as error:
        raise BadInput(f"{what} as weights of {implementation}: {error}") from error
    variables = made.variables
    if made.kept and draw:
        flat = traverse_util.flatten_dict(variables)
        drawn = _draw(model, [(shapes[name][0], *name.split("/")) for name in made.kept])
        variables = traverse_util.unflatten_dict({**flat, **drawn})
    notes = under + tuple(
        f"{path}: inflated from RGB to in_channels={shapes[path][1].shape[-2]}" for path in made.inflated
    )
    return Imported(model, variables, implementation, made.kept, notes)


def by_path(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return a model's variables as a flat dict by path, without their collections.

    >>> by_path({"params": {"head": {"bias": np.zeros(2)}}})
    {'head/bias': array([0., 0.])}
    """
    flat = traverse_util.flatten_dict(dict(variables))
    return {"/".join(key[1:]): np.asarray(leaf) for key, leaf in flat.items()}


def digest(path: Path) -> str:
    """Return the sha256 of a file of weights, or of that in a folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "weights.npz").write_bytes(b"")
    ...     digest(Path(folder))[:8]
    'e3b0c442'
    """
    with weights_in(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _two_classes(
    source: Mapping[str, np.ndarray], heads: set[str], rules: Mapping[str, Rules], model: Any
) -> dict[str, np.ndarray]:
    """Return a classifier of one output z as one of two, 0 and z: the sigmoid of z is their softmax."""
    labels = getattr(model, "num_classes", 0) == 2 and not hasattr(model, "conventions")
    heads = heads if labels else set()
    single = {}
    for name, value in source.items():
        leads = {names.rename(name, known) for known in rules.values()}
        if leads & heads and value.ndim and len(value) == 1:
            single[name] = np.concatenate([np.zeros_like(value), value])
    return {**source, **single}


def _shapes(model: Any) -> dict[str, tuple[str, Any]]:
    """Path without its collection -> (collection, shape and dtype)."""
    found = jax.eval_shape(model.init, jax.random.key(0), example_image(model))
    return {"/".join(key[1:]): (key[0], leaf) for key, leaf in traverse_util.flatten_dict(dict(found)).items()}


def _heads(model: Any, shapes: Mapping[str, Any]) -> set[str]:
    """Return the leaves whose shape depends on the number of classes."""
    if not hasattr(model, "num_classes"):
        return set()
    other = _shapes(model.clone(num_classes=model.num_classes + 1))
    return {path for path, (_, leaf) in shapes.items() if other[path][1].shape != leaf.shape}


def _fitting(source: Mapping[str, Any], shapes: Mapping[str, Any], rules: Rules) -> int:
    """Count the names of the file that lead to a leaf, less those that lead nowhere."""
    paths = [names.rename(name, rules) for name in source]
    return sum((path in shapes) - (path == "") for path in paths)


def _check_classes(source: Any, shapes: Any, rules: Rules, heads: set[str], model: Any) -> None:
    """Refuse a file whose heads are of another number of classes, and name both numbers."""
    more = _shapes(model.clone(num_classes=model.num_classes + 1)) if heads else {}
    step = {path: more[path][1].shape[-1] - shapes[path][1].shape[-1] for path in heads}
    for name, value in source.items():
        path = names.rename(name, rules)
        if path not in heads or not path.endswith("/bias"):
            continue
        here = shapes[path][1].shape[0]
        there = model.num_classes + (np.shape(value)[0] - here) // step[path] if np.ndim(value) == 1 else 0
        if np.ndim(value) == 1 and there != model.num_classes:
            raise BadInput(
                f"the file's heads are of {there} classes, the model's of {model.num_classes}: num_classes={there} "
                f"takes them as they are, num_classes={model.num_classes} (said outright) starts the heads afresh"
            )


def _draw(model: Any, keys: list[tuple[str, ...]]) -> dict[tuple[str, ...], np.ndarray]:
    """Draw some leaves by the model's own initialisers."""
    image = example_image(model)

    def draw(key: jax.Array) -> list[Any]:
        found = traverse_util.flatten_dict(dict(model.init(key, jnp.zeros(image.shape, image.dtype))))
        return [found[name] for name in keys]

    return dict(zip(keys, jax.device_get(jax.jit(draw)(jax.random.key(0))), strict=True))
