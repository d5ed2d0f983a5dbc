"""Initialise a stage from any source: ``Stage(init=WeightsFrom("timm:resnet34.a1_in1k"))``.

What :func:`jaxseg.inference.load.load` takes is taken here too: a work directory or checkpoint of one's own, a folder
that ``jaxseg.save`` wrote, a file of third-party weights, ``hf:``, ``timm:``, ``smp:``, ``torchvision:``. The model is
the stage's: rename rules are chosen by it, heads of other classes and parts that the source does not have start afresh,
and all of it is logged.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flax import traverse_util

from jaxseg.errors import BadInput
from jaxseg.layers.dense_heads import DenseHeads
from jaxseg.weights.hub import is_name


@dataclass(frozen=True)
class WeightsFrom:
    """Weights from any source, for as much of a model as they are for.

    >>> str(WeightsFrom("torchvision:IMAGENET1K_V1", "unet_resnet34"))
    'torchvision:IMAGENET1K_V1'

    Attributes:
      source: a path, absolute or relative to where the training is started, or a name, see :mod:`jaxseg.weights.hub`.
      architecture: the registered model, or backbone, whose weights a name such as ``torchvision:IMAGENET1K_V1`` means;
        "" for what the model itself tells.
      fresh: regular expressions of variables that start afresh although the source has them.
    """

    source: str
    architecture: str = ""
    fresh: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the source."""
        return self.source

    def load(
        self, variables: Mapping[str, Any], *, model: Any = None, log: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """Return those of the variables that the source has, by collection and path.

        Args:
          variables: of the model, arrays or shapes.
          model: the linen module, by which rename rules are chosen.
          log: called with each line on what starts afresh or was decided.

        Raises:
          BadInput: there is no such source, it cannot be read, or its weights are not this model's nor its backbone's.
          FailedRun: the download failed.

        >>> import tempfile
        >>> from jaxseg.models.semantic.unet import unet
        >>> from jaxseg.train.checkpoint import Checkpoints
        >>> model, image = unet(num_classes=2, depth=1, width=1), jnp.zeros((1, 8, 8, 3), jnp.uint8)
        >>> shapes = jax.eval_shape(model.init, jax.random.key(0), image)
        >>> old = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
        >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()) / "checkpoints", keep=1)
        >>> checkpoints.save(3, {"params": old["params"], "model_state": {"batch_stats": old["batch_stats"]}}, notes={})
        >>> checkpoints.close()
        >>> start = WeightsFrom(str(checkpoints.folder))
        >>> found = start.load(shapes, model=model.clone(num_classes=5), log=print)  # doctest: +ELLIPSIS
        classifier: ... has no weights of this shape, 2 arrays start afresh
        >>> "classifier" in found["params"]
        False
        """
        from jaxseg.conversion.sources import locate

        if isinstance(model, DenseHeads):  # its heads have no weights: all are the network's, or of such a network
            inner = {name: tree["network"] for name, tree in variables.items()}
            found = self.load(inner, model=model.network, log=log)
            return {name: {"network": tree} for name, tree in found.items()}
        if model is None:
            raise BadInput(f"weights from {self.source} need the model that they are for: load(variables, model=...)")
        located = locate(self.source, self.architecture or _architecture(self.source, model))
        made = _own(located, model) if located.kind in ("training", "model") else _third_party(located, model)
        paths = {"/".join(key[1:]) for key in traverse_util.flatten_dict(dict(variables))}
        chosen = {path for path in paths if any(re.search(pattern, path) for pattern in self.fresh)}
        if self.fresh and not chosen:
            raise BadInput(f"no variable is called as in fresh, {', '.join(self.fresh)}")
        afresh = set(made.reinitialized) | chosen
        if log is not None:
            for line in _lines(made, self.source):
                log(line)
            if chosen:
                log(f"{', '.join(sorted(chosen))}: start afresh, as asked for")
        wanted = {key for key in traverse_util.flatten_dict(dict(variables)) if "/".join(key[1:]) not in afresh}
        flat = traverse_util.flatten_dict(made.variables)
        return traverse_util.unflatten_dict({key: flat[key] for key in flat if key in wanted})


def _architecture(source: str, model: Any) -> str:
    """Return the model whose weights a source by name means, where only the model tells; "" for other sources."""
    from jaxseg.conversion.architecture import architecture_of

    return architecture_of(model, source) if source.startswith("torchvision:") and is_name(source) else ""


def _own(located: Any, model: Any) -> Any:
    """Fill a model from a training or a saved model: whole, or its backbone alone where the rest is another network."""
    from jaxseg.conversion import fill
    from jaxseg.conversion.rules import OWN

    source = fill.by_path(_variables(located.path))
    if source and all(path.startswith("network/") for path in source):  # of DenseHeads
        source = {path.removeprefix("network/"): value for path, value in source.items()}
    what = str(located.source)
    try:
        return fill.fill_model(source, model, OWN, spare_heads=True, partial={}, what=what, draw=False)
    except BadInput:
        backbone = {path: value for path, value in source.items() if path.startswith("backbone/")}
        if not backbone or getattr(model, "backbone", None) is None:
            raise
        partial = {"jaxseg (backbone)": OWN["jaxseg"]}
        return fill.fill_model(backbone, model, {}, spare_heads=True, partial=partial, what=what, draw=False)


def _variables(path: Path) -> Any:
    """Return the variables of a saved model or of the best checkpoint; its recipe's own code is not needed."""
    from jaxseg.export import folder
    from jaxseg.inference.load import find_checkpoint
    from jaxseg.train import checkpoint

    if folder.is_model(path):
        return folder.read(path)[1]
    return checkpoint.read(*find_checkpoint(path)).variables


def _third_party(located: Any, model: Any) -> Any:
    """Fill a model from another framework's file."""
    from jaxseg.conversion import fill, objects, pixels, smp
    from jaxseg.conversion.rules import backbone_rules, rules_of
    from jaxseg.weights.readers import read

    config = smp.config_of(located.path)
    partial = backbone_rules(model)
    try:
        rules = rules_of(model, {} if config is None else {"encoder": config.get("encoder_name", "")})
    except BadInput:
        if not partial:
            raise
        rules = {}
    source, what = read(located.path), str(located.source)
    made = fill.fill_model(source, model, rules, spare_heads=True, partial=partial, what=what, draw=False)
    variables, notes = objects.as_run(made.variables, fill.digest(located.path))
    own, stated = pixels.statistics_of(model), None
    if own is not None and located.path.is_dir():
        stated = pixels.read_statistics(located.path)
    if own is not None and stated is not None and stated[0] != own and stated[0].fits(own.channels):
        notes = (*notes, f"the weights are for pixels of {pixels.spell(stated[0])}; the model has {pixels.spell(own)}")
    return replace(made, variables=variables, notes=(*made.notes, *notes))


def _lines(made: Any, source: str) -> tuple[str, ...]:
    """Return what the user should know, the count of arrays by the part of the model that starts afresh."""
    if not made.reinitialized:
        return made.notes
    parts = dict.fromkeys(path.split("/")[0] for path in made.reinitialized)
    count = len(made.reinitialized)
    line = f"{', '.join(parts)}: {source} has no weights of this shape, {count} arrays start afresh"
    return (line, *made.notes)
