"""A trained model in hand: ``load`` a work directory or a checkpoint, ``predict`` images of any size, in windows where
they are large (:mod:`jaxseg.windows`)."""

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.data import Facts
from jaxseg.export import folder as folder_form
from jaxseg.export.folder import Card
from jaxseg.ops.crf import DenseCRF
from jaxseg.recipe import Recipe
from jaxseg.recipe import dump as dump_form
from jaxseg.recipe import load as load_form
from jaxseg.train import checkpoint
from jaxseg.train.optim import path_of
from jaxseg.types import BadInput
from jaxseg.weights import hub
from jaxseg.windows import plan


@dataclass(frozen=True)
class Run:
    """A model with its variables and what it was trained for.

    Attributes:
      model: the linen module.
      variables: its collections; the moving averages where the run kept them.
      task: what its outputs mean.
      recipe: what was run; None for imported weights, and where the recipe's own code is not at hand.
      stage: the number of the recipe's stage that model, task and data are of.
      checkpoint: the folder that the variables come from.
      step: how many updates they have seen.
      averaged: whether they are moving averages.
      card: what a model's folder says of it; None for checkpoints of a training.
    """

    model: Any
    variables: Any
    task: Any
    recipe: Recipe | None
    stage: int
    checkpoint: Path
    step: int
    averaged: bool
    card: Card | None = None

    @property
    def name(self) -> str:
        """The recipe's name, or that of the registered model whose weights were imported."""
        return self.card.name if self.recipe is None and self.card is not None else self._trained.name

    @property
    def data(self) -> Any:
        """What the stage was trained and evaluated on."""
        return self._trained.stages[self.stage].data

    @property
    def facts(self) -> Facts:
        """Class names and palette, and what else is known of the data set."""
        if self.card is None:
            return self.data.facts()
        return Facts(self.card.name, "", self.card.classes, self.card.palette, {}, licence=self.card.licence)

    @property
    def _trained(self) -> Recipe:
        if self.recipe is None:
            raise BadInput(f"{self.checkpoint} has no recipe here: name one, jaxseg evaluate RECIPE.py --weights ...")
        return self.recipe


def load(path: str | os.PathLike[str], *, best: bool = True, recipe: Recipe | None = None) -> Run:
    """The run in a work directory, exactly the checkpoint in a checkpoint's own folder, or a model that was handed on.

    Of a work directory the last stage that has a checkpoint counts, and of it the best checkpoint where one was kept.

    Args:
      path: a work directory, a folder of checkpoints, one checkpoint, what ``jaxseg import`` and ``jaxseg export
        --format safetensors`` write, or such a folder on the Hugging Face hub: ``hf:ORG/REPO[@REVISION]``.
      best: False takes the latest checkpoint of a work directory.
      recipe: takes model, task and data from the last stage of this recipe instead of from the checkpoint's own.

    Raises:
      BadInput: there is no checkpoint, or it is damaged, or of another model.
    """
    if os.fspath(path).startswith("hf:"):
        path = hub.fetch(os.fspath(path), "")
    if folder_form.is_model(Path(path)):
        return _handed_on(Path(path), recipe)
    folder, step = find_checkpoint(Path(path), best=best)
    saved = checkpoint.read(folder, step)
    run = load_form(saved.notes["recipe"]) if recipe is None else recipe
    index = saved.notes["stage"] if recipe is None else len(run.stages) - 1
    stage, place = run.stages[index], folder / str(saved.step)
    check_variables(stage.model, saved.variables, what=str(place))
    return Run(
        model=stage.model,
        variables=saved.variables,
        task=stage.task,
        recipe=run,
        stage=index,
        checkpoint=place,
        step=saved.step,
        averaged=bool(saved.state.get("ema")),
    )


def save(
    run: Run, path: str | os.PathLike[str], *, licence: str = "", metrics: Mapping[str, float] | None = None
) -> None:
    """Hand a model on: a folder that ``load`` reads without any code of the recipe's, or one .safetensors file.

    Args:
      run: what is saved.
      path: the folder, or a file whose name ends in .safetensors.
      licence: of the weights.
      metrics: measured figures to be noted.

    Raises:
      BadInput: there is something else under that name.
    """
    folder_form.write(Path(path), card_of(run, licence=licence, metrics=metrics), jax.device_get(run.variables))


def card_of(run: Run, *, licence: str = "", metrics: Mapping[str, float] | None = None) -> Card:
    """What is known of a run's model, as it is written beside its weights."""
    from jaxseg import __version__

    if run.card is not None:
        noted = {**run.card.metrics, **(metrics or {})}
        return replace(run.card, licence=licence or run.card.licence, metrics=noted, version=__version__)
    return Card(
        model=run.model,
        task=run.task,
        name=run.name,
        classes=run.facts.classes,
        palette=run.facts.palette,
        licence=licence,
        step=run.step,
        averaged=run.averaged,
        recipe=dump_form(run.recipe),
        stage=run.stage,
        metrics=dict(metrics or {}),
        version=__version__,
    )


def _handed_on(path: Path, recipe: Recipe | None) -> Run:
    card, variables = folder_form.read(path)
    model, task, stage = card.model, card.task, card.stage
    if recipe is not None:
        stage = len(recipe.stages) - 1
        model, task = recipe.stages[stage].model, recipe.stages[stage].task
    elif card.recipe is not None:
        with contextlib.suppress(BadInput):  # the model loads without the code of its recipe
            recipe = load_form(card.recipe)
    check_variables(model, variables, what=str(path))
    return Run(model, variables, task, recipe, stage, path, card.step, card.averaged, card)


def find_checkpoint(path: Path, *, best: bool = True) -> tuple[Path, int]:
    """The folder of checkpoints and the step that ``path`` stands for; see ``load``.

    Raises:
      BadInput: there is none.
    """
    if not path.exists():
        raise BadInput(f"there is no work directory or checkpoint {str(path)!r}")
    if path.name.isdigit() and checkpoint.latest_step(path.parent) is not None and path.is_dir():
        return path.parent, int(path.name)
    stages = sorted((path / "stages").glob("*-*"), key=lambda stage: int(stage.name.split("-")[0]), reverse=True)
    kinds = ("best", "checkpoints") if best else ("checkpoints",)
    for folder in (path, *(stage / kind for stage in stages for kind in kinds)):
        step = checkpoint.latest_step(folder)
        if step is not None:
            return folder, step
    raise BadInput(
        f"{str(path)!r} holds no checkpoint: it is neither a work directory of jaxseg train nor a checkpoint"
    )


def check_variables(model: Any, variables: Any, *, what: str) -> None:
    """Refuse variables that are not the model's.

    Raises:
      BadInput: paths or shapes differ; the first that do are named.
    """
    image = jax.ShapeDtypeStruct((1, *smallest_size(model), 3), np.uint8)
    wanted = _shapes(jax.eval_shape(model.init, jax.random.key(0), image))
    found = _shapes(variables)
    faults = [f"{path} {wanted[path]} is missing" for path in wanted if path not in found]
    faults += [f"{path} {found[path]} has no place" for path in found if path not in wanted]
    faults += [f"{p} is {found[p]}, not {wanted[p]}" for p in wanted if p in found and found[p] != wanted[p]]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise BadInput(f"{what} is a checkpoint of another model: {'; '.join(faults[:3])}{more}")


def smallest_size(model: Any) -> tuple[int, int]:
    """Height and width of a small image that the model takes."""
    return model.input_size(4, 4) if hasattr(model, "input_size") else (64, 64)


# ---------------------------------------------------------------------------------------------------------------------


def predict(
    run: Run,
    image: Any,
    *,
    tile: int = 1024,
    margin: int | None = None,
    keys: tuple[str, ...] = ("label", "probability"),
    crf: DenseCRF | None = None,
    on_tile: Callable[[], None] | None = None,
) -> dict[str, np.ndarray]:
    """What the task says of an image of any size.

    Args:
      run: see ``load``.
      image: uint8 RGB [h w 3], or several of one size [b h w 3].
      tile: an image of more rows or columns is cut into windows of at most so many (see :mod:`jaxseg.windows`).
      margin: pixels around a window's own that it sees but does not decide, rounded up to a multiple of 32; None
        takes a quarter of the tile, at most 128.
      keys: which of the task's predictions to return; a large image's probabilities take much memory.
      crf: refines the probabilities over the whole image, windows or not, and the label with them.
      on_tile: called after each window.

    Returns:
      The predictions by name, each at the image's size: ``label`` i32[h w], ``probability`` f32[h w k].

    Raises:
      BadInput: no uint8 RGB image, or the tile is too small.
    """
    forward = _forward(run.model, run.task, keys if crf is None else ("probability",))
    whole = _in_windows(run.model, image, lambda _, pixels: forward(run.variables, pixels), tile, margin, on_tile)
    return whole if crf is None else _refined(crf, whole["probability"], np.asarray(image), keys)


def predict_samples(
    run: Run,
    image: Any,
    *,
    samples: int,
    seed: int = 0,
    tile: int = 1024,
    margin: int | None = None,
    keys: tuple[str, ...] = ("label", "probability", "variance"),
    on_tile: Callable[[], None] | None = None,
) -> dict[str, np.ndarray]:
    """What a Bayesian network says of an image, and how sure it is: the mean of ``samples`` passes with dropout.

    Args and errors as :func:`predict`, and:
      samples: passes; see :func:`jaxseg.models.semantic.bayesian_segnet.monte_carlo`.
      seed: of dropout's masks.

    Returns:
      ``label`` and ``probability`` of the mean softmax, and ``variance`` f32[h w], that of the softmax over the
      samples, averaged over the classes.

    Raises:
      BadInput: also, the network has no dropout to sample from.
    """
    if not can_sample(run.model):
        raise BadInput(
            f"{type(run.model).__name__} has no dropout to sample from; "
            "bayesian_segnet_vgg16 and bayesian_segnet_basic have"
        )
    forward, key = _sampled(run.model, run.task, keys, samples), jax.random.key(seed)

    def of_window(i: int, pixels: np.ndarray) -> Any:
        return forward(jax.random.fold_in(key, i), run.variables, pixels)

    return _in_windows(run.model, image, of_window, tile, margin, on_tile)


def can_sample(model: Any) -> bool:
    """Whether the network drops values when it is asked to in evaluation."""
    return "sample" in inspect.signature(type(model).__call__).parameters and bool(model.dropout)


def _in_windows(
    model: Any,
    image: Any,
    of_window: Callable[[int, np.ndarray], Any],
    tile: int,
    margin: int | None,
    on_tile: Callable[[], None] | None,
) -> dict[str, np.ndarray]:
    """The predictions of every window, put together; ``of_window`` is given its number and its pixels."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3 or 0 in image.shape:
        raise BadInput(f"predict takes uint8 RGB [h w 3] or [b h w 3], not {image.dtype}{list(image.shape)}")
    batch = image if image.ndim == 4 else image[None]
    windows = plan(model, batch.shape[1], batch.shape[2], tile=tile, margin=margin)
    whole: dict[str, np.ndarray] = {}
    for i, window in enumerate(windows):
        found = jax.device_get(of_window(i, window.cut(batch)))
        for name, value in found.items():
            if name not in whole:
                whole[name] = np.zeros((*batch.shape[:3], *value.shape[3:]), value.dtype)
            whole[name][:, window.rows, window.columns] = value[:, window.inner_rows, window.inner_columns]
        if on_tile is not None:
            on_tile()
    return whole if image.ndim == 4 else {name: value[0] for name, value in whole.items()}


@functools.lru_cache(maxsize=8)
def _forward(model: Any, task: Any, keys: tuple[str, ...]) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """The compiled step from variables and images to the predictions asked for."""

    def forward(variables: Any, image: jax.Array) -> dict[str, jax.Array]:
        batch = {"image": image}
        found = task.predict(model.apply(variables, **task.inputs(batch, train=False), train=False), batch)
        return {name: found[name] for name in keys if name in found}

    return jax.jit(forward)


@functools.lru_cache(maxsize=8)
def _sampled(model: Any, task: Any, keys: tuple[str, ...], samples: int) -> Callable[[Any, Any, Any], Any]:
    """The compiled step from a key, variables and images to the predictions asked for."""
    from jaxseg.models.semantic.bayesian_segnet import monte_carlo

    def forward(key: jax.Array, variables: Any, image: jax.Array) -> dict[str, jax.Array]:
        seen = monte_carlo(key, model, variables, image, samples=samples)
        found = task.predict({"logits": jnp.log(seen["probability"])}, {"image": image})
        found["variance"] = seen["variance"].mean(axis=-1)
        return {name: found[name] for name in keys}

    return jax.jit(forward)


def _refined(crf: DenseCRF, probability: np.ndarray, image: np.ndarray, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What is left of the probabilities of one image or several after the CRF, and the labels that follow."""
    refine = _compiled(crf)
    pairs = zip(probability, image, strict=True) if image.ndim == 4 else [(probability, image)]
    refined = np.stack([np.asarray(refine(*pair)) for pair in pairs]).reshape(probability.shape)
    found = {"label": refined.argmax(-1).astype(np.int32), "probability": refined}
    return {name: found[name] for name in keys if name in found}


@functools.lru_cache(maxsize=8)
def _compiled(crf: DenseCRF) -> Callable[[Any, Any], jax.Array]:
    return jax.jit(crf)


def _shapes(tree: Any) -> dict[str, str]:
    """Dtype and shape of each leaf by its path, parameters first."""
    leaves = sorted(jax.tree_util.tree_leaves_with_path(tree), key=lambda item: path_of(item[0]) < "params")
    return {path_of(path): f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}" for path, leaf in leaves}
