"""R-CNN's second and third stage: support vector machines on fc7, box regressors on pool5 (Girshick et al. 2014).

``Stage(model=rcnn_alexnet(scorer="svm"), init=RegionSVMs(), steps=1, ...)`` after a stage that fine-tuned the network:
features of all proposals of the training images are computed once and kept in the stage's folder; the machines are
liblinear's, through scikit-learn, with hard negative mining (section 2.3); boxes are regressed by ridge regression of
whitened codes (appendix C). Everything linear, scaling and whitening too, ends in two matrices of the network.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.data.transforms.objects import overlaps
from jaxseg.errors import BadInput
from jaxseg.files import atomic
from jaxseg.ops import codings


@dataclass(frozen=True)
class RegionSVMs:
    """Fit R-CNN's machines and regressors on what the stage before learnt.

    Attributes:
      cost: C of the machines.
      bias: of liblinear: the constant feature.
      positive_weight: of the hinge loss of objects, over that of background.
      low: overlap below which a proposal is background of a class.
      norm: to which features are scaled on average.
      retrain: new hard negatives after which a machine is trained again.
      hard: margin above which a negative is hard.
      easy: margin below which it is let go after training.
      ridge: of the regression.
      near: overlap above which a proposal is regressed to an object.

    >>> str(RegionSVMs())
    'support vector machines'
    """

    cost: float = 1e-3
    bias: float = 10.0
    positive_weight: float = 2.0
    low: float = 0.3
    norm: float = 20.0
    retrain: int = 2000
    hard: float = -1.0001
    easy: float = -1.2
    ridge: float = 1000.0
    near: float = 0.6

    def __str__(self) -> str:
        """Return what fills the weights."""
        return "support vector machines"

    def load(
        self, variables: Mapping[str, Any], *, model: Any = None, log: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """Refuse: without a stage before there are no features.

        Raises:
          BadInput: always.
        """
        del variables, model, log
        raise BadInput("RegionSVMs is for a stage after the one that fine-tuned the network")

    def fit(
        self,
        variables: Mapping[str, Any],
        *,
        stage: Any,
        data_dir: Any = None,
        folder: Path,
        log: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Return ``margins`` and ``codes`` of the network.

        Args:
          variables: of the network, fine-tuned.
          stage: with model and data.
          data_dir: where prepared data lie.
          folder: for the features.
          log: called with each line that the user should read.

        Raises:
          BadInput: scikit-learn is not installed, the model is no R-CNN with machines, or batches hold no proposals.
        """
        tell = log or (lambda line: None)
        _classifier()  # a missing library shows before the features
        model, classes = stage.model, stage.model.num_classes
        if "margins" not in variables["params"]:
            raise BadInput("RegionSVMs fits R-CNN with scorer='svm'")
        images = _computed(model, variables, stage.data, folder, data_dir)
        scale = self.norm / max(_mean_norm(images, "fc7"), 1e-12)
        margins = [self.machine(images, k, scale) for k in range(classes)]
        tell(f"support vector machines of {classes} classes on {len(images)} images, features in {folder}")
        scale5 = self.norm / max(_mean_norm(images, "pool5"), 1e-12)
        codes = [self.regressor(images, k, scale5) for k in range(classes)]
        shapes = variables["params"]
        kernel = np.stack([w for w, _ in margins], -1).reshape(shapes["margins"]["kernel"].shape)
        code_kernel = np.concatenate([w for w, _ in codes], -1).reshape(shapes["codes"]["kernel"].shape)
        return {
            "params": {
                "margins": _layer(kernel, np.asarray([b for _, b in margins])),
                "codes": _layer(code_kernel, np.concatenate([b for _, b in codes])),
            }
        }

    def machine(self, images: list[Path], k: int, scale: float) -> tuple[np.ndarray, float]:
        """Return weights [f] and bias of the machine of a class, for features as they are."""
        positives = [found["fc7"][found["label"] == k] for found in map(np.load, images)]
        objects = np.concatenate(positives).astype(np.float64) * scale
        w, b = np.zeros(objects.shape[1]), 0.0
        if not len(objects):
            return w, -10.0
        kept, new = np.zeros((0, objects.shape[1])), 0
        for path in images:
            found = np.load(path)
            negative = (found["label"] == PROPOSAL) & (found["overlap"][:, k] < self.low)
            features = found["fc7"][negative].astype(np.float64) * scale
            hard = features[features @ w + b > self.hard]
            kept, new = np.concatenate([kept, hard]), new + len(hard)
            if new >= self.retrain or (path is images[-1] and len(kept)):
                w, b = self._trained(objects, kept)
                kept, new = kept[kept @ w + b >= self.easy], 0
        return w * scale, b

    def regressor(self, images: list[Path], k: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Return weights [d 4] and biases [4] that take pool5 as it is to codes of a class's boxes."""
        rows, targets = [], []
        for path in images:
            found = np.load(path)
            chosen = (found["label"] == PROPOSAL) & (found["overlap"][:, k] > self.near)
            rows.append(found["pool5"][chosen].astype(np.float64) * scale)
            targets.append(found["codes"][chosen, k])
        x, t = np.concatenate(rows), np.concatenate(targets).astype(np.float64)
        if not len(x):
            return np.zeros((x.shape[1], 4)), np.zeros(4)
        weights, bias = ridge(x, t, self.ridge)
        return weights * scale, bias

    def _trained(self, objects: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, float]:
        machine = _classifier()(
            loss="hinge",
            C=self.cost,
            intercept_scaling=self.bias,
            class_weight={1: self.positive_weight, 0: 1.0},
            dual=True,
            max_iter=10_000,
            random_state=0,
        )
        which = np.repeat([1, 0], [len(objects), len(background)])
        machine.fit(np.concatenate([objects, background]), which)
        return machine.coef_[0], float(machine.intercept_[0])


PROPOSAL = -1
"""Label of a proposal; an object's own box has its class."""


def ridge(x: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [d 4] and biases [4] of ridge regression of targets that are centred and whitened first.

    Args:
      x: features [n d]; a constant one is added, and shrunk as the others.
      targets: [n 4].
      strength: of the penalty.

    >>> weights, bias = ridge(np.asarray([[0.0], [1.0], [2.0]]), np.asarray([[0.0], [2.0], [4.0]]), 1e-9)
    >>> weights.round(3).tolist(), bias.round(3).tolist()
    ([[2.0]], [0.0])
    """
    mean = targets.mean(0)
    centred = targets - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(targets))
    values = np.maximum(values, 0)
    whiten = vectors @ np.diag(1 / np.sqrt(values + 0.001)) @ vectors.T
    colour = vectors @ np.diag(np.sqrt(values + 0.001)) @ vectors.T
    wide = np.concatenate([x, np.ones((len(x), 1))], 1)
    y = centred @ whiten
    if len(wide) < wide.shape[1]:
        weights = wide.T @ np.linalg.solve(wide @ wide.T + strength * np.eye(len(wide)), y)
    else:
        weights = np.linalg.solve(wide.T @ wide + strength * np.eye(wide.shape[1]), wide.T @ y)
    weights = weights @ colour
    return weights[:-1], weights[-1] + mean


def _computed(model: Any, variables: Mapping[str, Any], data: Any, folder: Path, data_dir: Any) -> list[Path]:
    """Return a file for each training image, with features, overlaps and codes; those that are there are kept.

    Raises:
      BadInput: batches hold no proposals.
    """
    folder.mkdir(parents=True, exist_ok=True)

    @jax.jit
    def seen(variables: Any, image: Any, boxes: Any) -> Any:
        return model.apply(variables, image, boxes, method="features")

    files = []
    for i, batch in enumerate(data.eval_batches(batch_size=1, split="train", data_dir=data_dir)):
        if "proposals" not in batch:
            raise BadInput("RegionSVMs needs 'proposals' among the keys of the data")
        path = folder / f"{i:06}.npz"
        files.append(path)
        if not path.is_file():
            boxes, label, there, truth = _boxes(batch)
            pool5, fc7 = (np.asarray(part[0])[there] for part in seen(variables, batch["image"], boxes[None]))
            best, codes = _pairs(boxes[there], truth, model.num_classes)
            with atomic(path) as place, place.open("wb") as file:
                np.savez(file, pool5=pool5, fc7=fc7, label=label[there], overlap=best, codes=codes)
    return files


def _boxes(batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[Any, Any]]:
    """Return the objects' boxes and the proposals of an image, their labels, which are there, and the objects."""
    objects, proposals = batch["boxes"][0], batch["proposals"][0]
    valid, classes = batch["valid"][0], batch["classes"][0]
    boxes = np.concatenate([objects, proposals]).astype(np.float32)
    label = np.concatenate([classes, np.full(len(proposals), PROPOSAL)])
    there = np.concatenate([valid, batch["proposal_valid"][0]])
    return boxes, label, there, (objects[valid], classes[valid])


def _pairs(boxes: np.ndarray, truth: tuple[np.ndarray, np.ndarray], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest overlap of each box with an object of each class [p k], and the code towards it [p k 4]."""
    objects, names = truth
    best, codes = np.zeros((len(boxes), classes), np.float32), np.zeros((len(boxes), classes, 4), np.float32)
    for k in range(classes):
        mine = objects[names == k]
        if len(mine):
            shared = overlaps(boxes, mine)
            best[:, k] = shared.max(1)
            towards = mine[shared.argmax(1)].astype(np.float32)
            codes[:, k] = codings.encode(jnp.asarray(towards), jnp.asarray(boxes), coding=codings.CORNERS)
    return best, codes


def _mean_norm(images: list[Path], name: str) -> float:
    norms = [np.linalg.norm(np.load(path)[name], axis=1) for path in images]
    return float(np.concatenate(norms).mean())


def _layer(kernel: np.ndarray, bias: np.ndarray) -> dict[str, Any]:
    return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}


def _classifier() -> Any:
    try:
        return importlib.import_module("sklearn.svm").LinearSVC
    except ImportError:
        raise BadInput("R-CNN's support vector machines need scikit-learn: pip install 'jaxseg[rcnn]'") from None
