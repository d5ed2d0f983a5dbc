"""Predictions of a split, saved while it is evaluated: ``jaxseg evaluate --save-predictions``."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxseg.data import Data, Facts, Source
from jaxseg.data.coco_results import ResultFiles
from jaxseg.data.sets import image_ids
from jaxseg.data.transforms.frame import Frame
from jaxseg.errors import BadInput
from jaxseg.inference.geometry import put_back
from jaxseg.metrics import CocoMasks, MaskAPr
from jaxseg.ops.paste import PasteRule
from jaxseg.tasks.protocol import Metric
from jaxseg.types import PREDICTIONS, Figure, bare_key

NEEDED = ("index", "size", "original_size", "extent")
"""Keys of a batch that bring a prediction back to the image as it was read."""


@dataclass(frozen=True, eq=False)
class SavedPredictions:
    """A metric without figures that writes what it observes, each row in the pixels of its image as it was read.

    Predictions with a value for each class and pixel are left out.

    Attributes:
      files: takes the predictions.
      image_id: the id of an image by its number in the split.

    >>> SavedPredictions(ResultFiles(Path("out"), Facts("pets", "", (), (), {})), int).figures()
    ()
    """

    files: ResultFiles
    image_id: Callable[[int], int]

    def init(self) -> None:
        """Return nothing: the state is on the disk."""

    def observe(self, predictions: Any, batch: Any) -> dict[str, Any]:
        """Return the predictions, and where each image lies on its canvas."""
        rows = {key: PREDICTIONS.get(bare_key(key)) for key in predictions}
        kept = {key: predictions[key] for key, row in rows.items() if row is None or "k" not in row.letters}
        height, width = batch["image"].shape[1:3]
        return {
            "found": kept,
            "frame": {key: batch[key] for key in NEEDED},
            "canvas": jnp.broadcast_to(jnp.asarray([height, width], jnp.int32), (batch["image"].shape[0], 2)),
            "real": batch["real"],
        }

    def fold(self, state: None, observation: Any) -> None:
        """Write the real rows."""
        for row in np.flatnonzero(observation["real"]).tolist():
            frame = {key: np.asarray(value)[row] for key, value in observation["frame"].items()}
            height, width = (int(side) for side in frame["original_size"])
            x0, y0, x1, y1 = (float(v) for v in frame["extent"])
            canvas = tuple(int(side) for side in np.asarray(observation["canvas"])[row])
            where = Frame((canvas[0], canvas[1]), ((y1 - y0) / height, (x1 - x0) / width), (y0, x0))
            found = {
                key: put_back(key, np.asarray(value)[row : row + 1], where, (height, width))[0]
                for key, value in observation["found"].items()
            }
            self.files.add(found, (height, width), image_id=self.image_id(int(frame["index"])))

    def result(self, state: None) -> dict[str, float]:
        """Return no figure."""
        return {}

    def figures(self) -> tuple[Figure, ...]:
        """Describe no figure."""
        return ()


@dataclass(frozen=True, eq=False)
class Saving:
    """A task with one more metric, which saves its predictions.

    Attributes:
      task: any task.
      saved: the metric.

    >>> from jaxseg.tasks.semantic import Semantic
    >>> saved = SavedPredictions(ResultFiles(Path("out"), Facts("pets", "", (), (), {})), int)
    >>> list(Saving(Semantic(2), saved).metrics())[-1]
    'saved predictions'
    """

    task: Any
    saved: SavedPredictions

    def inputs(self, batch: Any, *, train: bool) -> dict[str, Any]:
        """Return the task's inputs."""
        return self.task.inputs(batch, train=train)

    def loss(self, outputs: Any, batch: Any) -> Any:
        """Return the task's loss."""
        return self.task.loss(outputs, batch)

    def predict(self, outputs: Any, batch: Any) -> dict[str, Any]:
        """Return the task's predictions."""
        return self.task.predict(outputs, batch)

    def metrics(self) -> dict[str, Metric]:
        """Return the task's metrics and the one that saves."""
        return {**self.task.metrics(), "saved predictions": self.saved}


def saved_predictions(
    data: Data, facts: Facts, task: Any, folder: Path, split: str, data_dir: Path | None
) -> tuple[Data, SavedPredictions]:
    """Return the data with all keys that saving needs, and the metric that saves.

    Args:
      data: as it is evaluated.
      facts: of its data set.
      task: whose predictions are saved.
      folder: for the predictions.
      split: what is evaluated.
      data_dir: where prepared data lie.

    >>> from jaxseg.data import Source
    >>> from jaxseg.tasks.semantic import Semantic
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> data = Data(train=Source("scenes", "train", (), tiny), val=Source("scenes", "val", (), tiny))
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved_predictions(data, data.facts(), Semantic(7), Path("out"), "val", Path(folder))[0].keys
    ('image', 'label', 'index', 'size', 'original_size', 'extent')
    """
    source = data.eval_source(split)
    ids = None
    if isinstance(source, Source):
        with contextlib.suppress(BadInput):  # the data set has no such numbers
            ids = image_ids(source.dataset, source.split, data_dir=data_dir, options=source.options)
    keys = (*data.keys, *(key for key in NEEDED if key not in data.keys))
    number = (lambda index: index) if ids is None else (lambda index: int(ids[index]))
    return replace(data, keys=keys), SavedPredictions(ResultFiles(folder, facts, rule=paste_rule(task)), number)


def paste_rule(task: Any) -> PasteRule:
    """Return how the task's metrics paste masks: files then hold what is judged.

    >>> from jaxseg.tasks.instance import Instance
    >>> paste_rule(Instance(2, paste="detectron2"))
    'detectron2'
    """
    for metric in task.metrics().values():
        if isinstance(metric, CocoMasks | MaskAPr):
            return metric.paste
    return "torchvision"
