"""Recipes that ``jaxseg new`` writes, trained, beside the constant prediction and a linear classifier of pixels:
``python benchmarks/recipes_from_data.py FOLDER... --model unet_resnet34 --out docs/benchmarks/recipes_from_data.md``.

Every row is a folder of images with masks, or a data set by name: the recipe is written for it, trained as it is, and
judged on its validation images. The constant predicts the most frequent class of the training images. The linear
classifier sees the 3x3 pixels around each pixel, all bands, standardised, and is fitted to one-hot labels by least
squares, classes weighted equally.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.configure.decide import Wishes
from jaxseg.configure.make import dataset_of, name_of, recipe_text
from jaxseg.metrics import Confusion
from jaxseg.override import override_text
from jaxseg.recipe import load_file
from jaxseg.train.log import Console
from jaxseg.train.loop import fit

PIXELS = 4000
"""Pixels of each training image that the linear classifier is fitted to."""

IMAGES = 100
"""Training images that constant and linear classifier are fitted to."""


def main() -> None:
    """Train one recipe per folder and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", help="folders of images with masks, or names of data sets")
    parser.add_argument("--model", default="unet_resnet34")
    parser.add_argument("--weights", default="")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--crop", type=int, nargs=2)
    parser.add_argument("--set", dest="changes", action="append", default=[], help="as of jaxseg train")
    parser.add_argument("--workdir", type=Path, default=Path("runs/recipes_from_data"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = ["| data | classes | constant | linear | recipe | steps |", "|---|---|---|---|---|---|"]
    for data in given.data:
        lines.append(row(data, given))
        print(lines[-1], flush=True)
    text = "\n".join(lines) + f"\n\nMean IoU on the validation images in percent, void ignored; {given.model}.\n"
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    print(text)


def row(data: str, given: argparse.Namespace) -> str:
    """Return one row of the table."""
    dataset = dataset_of(data)
    name = name_of(dataset, given.model)
    crop = tuple(given.crop) if given.crop else None
    wishes = Wishes(given.model, given.weights, steps=given.steps, batch_size=given.batch_size, crop=crop)
    folder = given.workdir / name
    path = folder / "recipe.py"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = f"benchmarks/recipes_from_data.py {data}"
        path.write_text(recipe_text(dataset, wishes, command=command, data_dir=given.data_dir), encoding="utf-8")
    recipe = load_file(path)
    for change in given.changes:
        recipe = override_text(recipe, change)
    (stage,) = recipe.stages
    facts = stage.data.facts(given.data_dir)
    where = {"batch_size": 1, "data_dir": given.data_dir}
    train = [unpacked(batch) for batch in stage.data.eval_batches(split="train", limit=IMAGES, **where)]
    val = [unpacked(batch) for batch in stage.data.eval_batches(**where)]
    constant, linear = baselines(train, val, facts.num_classes)
    trained = fit(recipe, folder, data_dir=given.data_dir, log=Console())["miou"]
    figures = " | ".join(f"{100 * value:.1f}" for value in (constant, linear, trained))
    return f"| {facts.name.rpartition('/')[2]} | {facts.num_classes} | {figures} | {stage.steps} |"


def unpacked(batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return image and label of a batch of one."""
    return np.asarray(batch["image"][0]), np.asarray(batch["label"][0])


def baselines(train: list[Any], val: list[Any], num_classes: int) -> tuple[float, float]:
    """Return the mean IoU of the constant prediction and of the linear classifier on the validation images."""
    counts = sum(np.bincount(label.ravel(), minlength=256)[:num_classes] for _, label in train)
    most = int(np.argmax(counts))
    constant = mean_iou([(np.full_like(label, most), label) for _, label in val], num_classes)
    predict = linear_classifier(train, num_classes)
    return constant, mean_iou([(predict(image), label) for image, label in val], num_classes)


def linear_classifier(train: list[Any], num_classes: int) -> Any:
    """Return ``image -> label``, a least-squares classifier of 3x3 pixels that was fitted to the training images."""
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for image, label in train:
        known = np.flatnonzero(label.ravel() < num_classes)
        chosen = rng.permutation(known)[:PIXELS]
        rows.append(features(image)[chosen])
        labels.append(label.ravel()[chosen])
    x, y = np.concatenate(rows), np.concatenate(labels)
    mean, std = x.mean(0), x.std(0) + 1e-6
    x = np.concatenate([(x - mean) / std, np.ones((len(x), 1))], 1)
    weight = 1 / np.maximum(np.bincount(y, minlength=num_classes), 1)[y]
    target = np.eye(num_classes)[y]
    gram = (x * weight[:, None]).T @ x + 1e-6 * np.eye(x.shape[1])
    solution = np.linalg.solve(gram, (x * weight[:, None]).T @ target)

    def predict(image: np.ndarray) -> np.ndarray:
        own = (features(image) - mean) / std
        scores = own @ solution[:-1] + solution[-1]
        return scores.argmax(-1).reshape(image.shape[:2])

    return predict


def features(image: np.ndarray) -> np.ndarray:
    """Return the 3x3 pixels around each pixel, f64[h*w 9*c]."""
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.concatenate(around, -1).reshape(height * width, -1)


def mean_iou(pairs: list[tuple[np.ndarray, np.ndarray]], num_classes: int) -> float:
    """Return the mean IoU of predicted and true labels."""
    metric = Confusion(num_classes)
    state = metric.init()
    for predicted, label in pairs:
        both = [np.asarray(x, np.int64).ravel() for x in (label, predicted)]
        truth, found = (np.where(x < num_classes, x, num_classes) for x in both)
        seen = np.bincount(truth * (num_classes + 1) + found, minlength=(num_classes + 1) ** 2)
        state = state + seen.reshape(num_classes + 1, num_classes + 1)
    return metric.result(state)["miou"]


if __name__ == "__main__":
    main()
