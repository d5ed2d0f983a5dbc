"""Visualise a training: its curves, and predictions for a few fixed validation images."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jaxseg import viz
from jaxseg.files import atomic
from jaxseg.forward import forward


def samples(folder: Path, step: int, *, stage: Any, variables: Any, data_dir: Any) -> tuple[str, ...]:
    """Draw predictions for a few images spread over the validation split, as ``step_XXXXXXXX.png``.

    >>> import tempfile
    >>> from types import SimpleNamespace
    >>> from jaxseg.data.facts import Facts
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> class Data:
    ...     def eval_batches(self, **options):
    ...         return [{"image": np.zeros((1, 8, 8, 3), np.uint8), "label": np.zeros((1, 8, 8), np.int32)}]
    ...     def facts(self, data_dir=None):
    ...         return Facts("toy", "all black", ("a", "b"), ((0, 0, 0), (255, 0, 0)), {"val": 1})
    >>> model, folder = unet(num_classes=2, depth=1, width=1), Path(tempfile.mkdtemp())
    >>> variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.uint8))
    >>> stage = SimpleNamespace(model=model, task=Semantic(2), data=Data(), pictures=1)
    >>> samples(folder, 100, stage=stage, variables=variables, data_dir=None)
    ()
    >>> [path.name for path in folder.iterdir()]
    ['step_00000100.png']

    Args:
      folder: for the images.
      step: in the file names.
      stage: gives model, task, data and the number of ``pictures``.
      variables: of the model.
      data_dir: of prepared data sets.

    Returns:
      The predicted keys that no painter draws (:func:`jaxseg.viz.painter.unpainted`).
    """
    facts, sheets, found = stage.data.facts(data_dir), [], {}
    for batch in _examples(stage.data, stage.pictures, None if data_dir is None else str(data_dir)):
        found = jax.device_get(_predict(stage.model, stage.task)(variables, batch))
        sheets += viz.compare(batch, found, facts).values()
    if sheets:
        with atomic(folder / f"step_{step:08}.png") as part:
            Image.fromarray(viz.stack(sheets, title=f"step {step}")).save(part, format="PNG")
    return viz.unpainted(found)


def curves(workdir: Path, *, title: str) -> None:
    """Draw ``metrics.jsonl`` as ``curves.png``.

    >>> import tempfile
    >>> workdir = Path(tempfile.mkdtemp())
    >>> row = '{"kind": "train", "stage": "0-main", "step": 10, "loss": 0.5}'
    >>> _ = (workdir / "metrics.jsonl").write_text(row)
    >>> curves(workdir, title="unet")
    >>> (workdir / "curves.png").is_file()
    True
    """
    viz.curves(workdir / "metrics.jsonl", workdir / "curves.png", title=title)


def cut(folder: Path, step: int) -> None:
    """Remove the samples of later steps.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for step in (10, 20):
    ...     (folder / f"step_{step:08d}.png").touch()
    >>> cut(folder, 10)
    >>> [path.name for path in folder.iterdir()]
    ['step_00000010.png']
    """
    for path in folder.glob("step_*.png"):
        if int(path.stem.removeprefix("step_")) > step:
            path.unlink()


@lru_cache(maxsize=2)
def _examples(data: Any, number: int, data_dir: str | None) -> tuple[Any, ...]:
    """Return one batch of images, or one of each where their sizes differ."""
    rows = tuple(data.eval_batches(batch_size=1, limit=number, data_dir=data_dir))
    if len({row["image"].shape for row in rows}) > 1:
        return rows
    return ({key: np.concatenate([row[key] for row in rows]) for key in rows[0]},)


@lru_cache(maxsize=2)
def _predict(model: Any, task: Any) -> Any:
    return jax.jit(forward(model, task))
