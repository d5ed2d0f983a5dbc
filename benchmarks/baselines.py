"""What a trained network is worth: its figures beside those of predictions that nothing was learnt for.

``python benchmarks/baselines.py WORKDIR [--data-dir DIR] [--out FILE]`` evaluates a run's best checkpoint on its own
validation images, and beside it

* of boundaries: Canny's detector on the grey image (scikit-image's), at two widths of its Gaussian, swept through its
  threshold; and the map that is the same everywhere;
* of colours: grey, and the mean colour of the prior by which the task weighs;
* of depth: two metres or the training pixels' median everywhere, each validation image's own median, which nobody tells
  a network, and the training images' mean at each pixel; of normals: the latter.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import measure
import numpy as np

from jaxseg.data.depth_counts import DepthCounts

LEVELS = 20
"""Thresholds of Canny's detector."""

Batch = Mapping[str, Any]
Predict = Callable[[Batch], dict[str, Any]]


def canny(batch: Batch, sigma: float) -> dict[str, Any]:
    """Return the boundaries of Canny's detector, each pixel with the highest threshold that still finds it.

    Thresholds are shares of the pixels that are flatter; the lower one is half of the higher.
    """
    from skimage.color import rgb2gray
    from skimage.feature import canny as detect

    found = np.zeros(batch["image"].shape[:3], np.float32)
    for row, image in zip(found, rgb2gray(batch["image"]), strict=True):
        for level in (np.arange(LEVELS) + 1) / (LEVELS + 1):
            row[detect(image, sigma, level / 2, level, use_quantiles=True)] = level
    return {"boundary": jnp.asarray(found)}


def same_everywhere(key: str, value: Any) -> Predict:
    """Return a prediction that is one value, or one map, for every image."""

    def predict(batch: Batch) -> dict[str, Any]:
        channels = np.shape(value)[-1:] if key in ("ab", "normal") else ()
        return {key: jnp.broadcast_to(jnp.asarray(value, jnp.float32), (*batch["image"].shape[:3], *channels))}

    return predict


def median_of_training(data: Any, data_dir: str | None) -> float:
    """Return the median of the known depth of the training images, metres."""
    batches = data.eval_batches(batch_size=1, split="train", data_dir=data_dir)
    return sum(map(DepthCounts.of, batches), DepthCounts.none()).quantile(0.5)


def its_own_median(batch: Batch) -> dict[str, Any]:
    """Return the median of the true depth of each image, for all of its pixels."""
    known = np.asarray(batch["depth_valid"], bool)
    medians = [np.median(depth[valid]) for depth, valid in zip(np.asarray(batch["depth"]), known, strict=True)]
    return {"depth": jnp.broadcast_to(jnp.asarray(medians, jnp.float32)[:, None, None], known.shape)}


def mean_of_training(data: Any, key: str, data_dir: str | None) -> np.ndarray:
    """Return the mean of a map over a hundred training images, at each pixel where it is known."""
    total: Any = 0.0
    count: Any = 0.0
    for batch in data.eval_batches(batch_size=1, split="train", data_dir=data_dir, limit=100):
        known = np.asarray(batch[f"{key}_valid"], np.float32)[0]
        values = np.asarray(batch[key], np.float32)[0]
        weight = known.reshape(*known.shape, *(1,) * (values.ndim - known.ndim))
        total, count = total + values * weight, count + weight
    mean = total / np.maximum(count, 1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True) if key == "normal" else mean


def baselines(stage: Any, data_dir: str | None) -> Iterator[tuple[str, Predict]]:
    """Yield what nothing was learnt for, by name."""
    from jaxseg.ops.color import ab_bins
    from jaxseg.tasks.boundary import Boundary
    from jaxseg.tasks.colorization import Colorization
    from jaxseg.tasks.depth import Depth
    from jaxseg.tasks.normals import Normals

    task = stage.task
    if isinstance(task, Boundary):
        for sigma in (1.0, 2.0):
            yield f"Canny, sigma {sigma:g}", lambda batch, sigma=sigma: canny(batch, sigma)
        yield "the same everywhere", same_everywhere("boundary", 0.5)
    elif isinstance(task, Colorization):
        yield "grey", same_everywhere("ab", np.zeros(2))
        if task.prior:
            yield "mean of the prior", same_everywhere("ab", np.asarray(task.prior) @ np.asarray(ab_bins()))
    elif isinstance(task, Depth):
        yield "two metres", same_everywhere("depth", 2.0)
        yield "median of the training pixels", same_everywhere("depth", median_of_training(stage.data, data_dir))
        yield "each image's own median", its_own_median
        yield "mean of the training images", same_everywhere("depth", mean_of_training(stage.data, "depth", data_dir))
    elif isinstance(task, Normals):
        yield "mean of the training images", same_everywhere("normal", mean_of_training(stage.data, "normal", data_dir))


def judged(stage: Any, predict: Predict, data_dir: str | None) -> dict[str, float]:
    """Return the figures of a prediction on the stage's validation images."""
    metrics = stage.task.metrics()
    states = {name: metric.init() for name, metric in metrics.items()}
    for batch in stage.data.eval_batches(batch_size=1, data_dir=data_dir):
        found = predict(batch)
        batch = {key: jnp.asarray(value) for key, value in batch.items()}
        for name, metric in metrics.items():
            states[name] = metric.fold(states[name], metric.observe(found, batch))
    return {key: value for name, metric in metrics.items() for key, value in metric.result(states[name]).items()}


def table(workdir: Path, data_dir: str | None) -> list[dict[str, Any]]:
    """Return a row for the network and for each prediction beside it."""
    import jax

    import jaxseg
    from jaxseg.forward import forward
    from jaxseg.recipe import load_file
    from jaxseg.tasks.protocol import task_figures

    run = jaxseg.load(str(workdir))
    stage = load_file(workdir / "recipe.json").stages[-1]
    call = jax.jit(forward(run.model, run.task))
    made = {"the network": lambda batch: call(run.variables, batch), **dict(baselines(stage, data_dir))}
    known = task_figures(stage.task)
    rows = []
    for name, predict in made.items():
        values = judged(stage, predict, data_dir)
        units = {key: figure.title + (f", {figure.unit}" if figure.unit else "") for key, figure in known.items()}
        rows.append({"prediction": name, **{units[key]: known[key].format(values[key]) for key in known}})
    return rows


def main() -> None:
    """Print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("workdir", type=Path, help="work directory of a run")
    parser.add_argument("--data-dir", help="where prepared data lie")
    parser.add_argument("--out", type=Path, help="write the table here too")
    options = parser.parse_args()
    text = measure.as_table(table(options.workdir, options.data_dir))
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
