"""Pictures that a run leaves behind: the curves, and the same few validation images at each evaluation."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jaxseg import viz
from jaxseg.forward import forward


def samples(folder: Path, step: int, *, stage: Any, variables: Any, data_dir: Any) -> None:
    """Draw what a network makes of a few images spread over the validation split, as ``step_XXXXXXXX.png``.

    Drawn is every map of classes that the task predicts under the key of its truth; a task without one leaves none.
    """
    batch = _examples(stage.data, stage.pictures, None if data_dir is None else str(data_dir))
    found = jax.device_get(_predict(stage.model, stage.task)(variables, batch))
    facts = stage.data.facts()
    real = np.asarray(batch["real"], bool)
    for name, prediction in found.items():
        if name in batch and prediction.ndim == 3 and np.issubdtype(prediction.dtype, np.integer):
            sheet = viz.panel(
                batch["image"][real],
                batch[name][real],
                prediction[real],
                facts.palette,
                classes=facts.classes,
                title=f"step {step}",
            )
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sheet).save(folder / f"step_{step:08}.png")


def curves(workdir: Path, *, title: str) -> None:
    """Draw ``metrics.jsonl`` as ``curves.png``."""
    viz.curves(workdir / "metrics.jsonl", workdir / "curves.png", title=title)


def cut(folder: Path, step: int) -> None:
    """Remove the samples of later steps."""
    for path in folder.glob("step_*.png"):
        if int(path.stem.removeprefix("step_")) > step:
            path.unlink()


@lru_cache(maxsize=2)
def _examples(data: Any, number: int, data_dir: str | None) -> Any:
    return next(iter(data.eval_batches(batch_size=number, limit=number, data_dir=data_dir)))


@lru_cache(maxsize=2)
def _predict(model: Any, task: Any) -> Any:
    return jax.jit(forward(model, task))
