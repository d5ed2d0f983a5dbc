"""Whole networks beside PyTorch's on the CPU, inference and training step: ``python benchmarks/networks.py``.

Inference is one image, a training step is two: forward, cross-entropy (with its auxiliary head where there is one),
backward, SGD with momentum. Ours is the step that ``jaxseg train`` runs, whose state is donated, so that parameters,
momentum and statistics are overwritten in place as PyTorch overwrites its own. PyTorch runs in both its memory layouts,
and the ratio is to the faster one. Each column runs in a process of its own, and they take turns; peak memory is the
process's. Both frameworks keep freed memory mapped, as the command line has it. Needs the extra ``parity``.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import numpy as np

from jaxseg.cli.runtime import keep_freed_memory

CLASSES = 21


@dataclass(frozen=True)
class Row:
    """One network: the registry's name and the class in ``torch_networks``."""

    model: str
    torch_class: str
    note: str = ""


ROWS = (
    Row("unet", "UNet", "64 to 1024 channels, BatchNorm"),
    Row("fcn8s_vgg16", "FCN8s", "padding 100, fc6 7x7x512 to 4096"),
    Row("fcn_resnet50", "FCNResNet50", "output stride 8, auxiliary head in training"),
    Row("enet", "ENet", "0.36 M parameters"),
)

MODES = {"inference": 1, "train step": 2}
"""What is timed, and for how many images."""

COLUMNS = ("jax", "torch", "torch channels-last")


def batch_of(size: int, images: int) -> dict[str, np.ndarray]:
    """Random images with random labels."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    return {"image": image, "label": rng.integers(0, CLASSES, (images, size, size)).astype(np.int32)}


def jax_call(row: Row, mode: str, size: int) -> Callable[[], object]:
    """Our network, ready to be called."""
    import jax

    from jaxseg.registry import create_model
    from jaxseg.tasks.semantic import Semantic
    from jaxseg.train import optim, state
    from jaxseg.train.placement import single

    model, batch = create_model(row.model, num_classes=CLASSES), batch_of(size, MODES[mode])
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch["image"]))
    variables = jax.tree.map(jax.numpy.asarray, jax.tree_util.tree_map_with_path(_random, shapes))
    if mode == "inference":
        apply, image = jax.jit(lambda v, x: model.apply(v, x)["logits"]), jax.device_put(batch["image"])
        return lambda: jax.block_until_ready(apply(variables, image))
    tx = optim.SGD(0.001, momentum=0.9).build(100)
    step = single().train_step(model, Semantic(CLASSES), tx)
    held = [single().put(state.start(jax.random.key(0), variables, tx, ema=False))]
    batch = single().batch(batch)

    def call() -> None:
        held[0], metrics = step(held[0], batch)
        jax.block_until_ready((held[0], metrics))

    return call


def _random(path: Any, leaf: Any) -> np.ndarray:
    """He's initialisation without compiling an initialiser for each shape."""
    name = str(path[-1].key)
    if name == "kernel":
        deviation = (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return (np.random.default_rng(0).standard_normal(leaf.shape, np.float32) * deviation).astype(np.float32)
    return np.full(leaf.shape, {"scale": 1.0, "var": 1.0, "alpha": 0.25}.get(name, 0.0), np.float32)


def torch_call(row: Row, mode: str, size: int, column: str) -> Callable[[], object]:
    """PyTorch's network, ready to be called, in the layout that the column names."""
    import torch
    import torch_networks

    torch.set_num_threads(_cores())
    layout = torch.channels_last if column == "torch channels-last" else torch.contiguous_format
    model = getattr(torch_networks, row.torch_class)(CLASSES).to(memory_format=layout)
    batch = batch_of(size, MODES[mode])
    image = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).float().contiguous(memory_format=layout)
    label = torch.from_numpy(batch["label"]).long()
    if mode == "inference":
        model.eval()

        def infer() -> object:
            with torch.inference_mode():
                return model(image)["logits"]

        return infer
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss = sum(
            (0.4 if name == "aux_logits" else 1.0) * torch.nn.functional.cross_entropy(logits, label, ignore_index=255)
            for name, logits in model(image).items()
        )
        loss.backward()
        optimizer.step()

    return step


def make_call(row: Row, mode: str, size: int, column: str) -> Callable[[], object]:
    """The callable of one column."""
    return jax_call(row, mode, size) if column == "jax" else torch_call(row, mode, size, column)


def measure_row(row: Row, mode: str, size: int, *, repeats: int, budget_s: float) -> measure.Result:
    """Times in turns, and peak memory."""
    workers = {c: measure.Worker([__file__, "--serve", row.model, mode, c, "--size", str(size)]) for c in COLUMNS}
    name = f"{row.model}: {mode}"
    try:
        result = measure.compare(name, workers, repeats=repeats, budget_s=budget_s, note=row.note, reference="torch")
        for column in ("jax", "torch"):
            result.extra[f"{column} peak MB"] = workers[column].peak_mb()
    finally:
        for worker in workers.values():
            worker.close()
    return result


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="rows whose name contains this")
    parser.add_argument("--size", type=int, default=256, help="side of the images (default 256)")
    parser.add_argument("--repeats", type=int, default=7, help="turns at most for each row (default 7)")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds at most for each row (default 60)")
    parser.add_argument("--quick", action="store_true", help="three turns: only to see that everything runs")
    parser.add_argument("--out", type=Path, help="write the table here too: .json, or markdown")
    parser.add_argument("--serve", nargs=3, metavar=("MODEL", "MODE", "COLUMN"), help=argparse.SUPPRESS)
    options = parser.parse_args()

    if options.serve:
        model, mode, column = options.serve
        measure.serve(make_call(next(row for row in ROWS if row.model == model), mode, options.size, column))
        return
    results = []
    for row in ROWS:
        for mode in MODES:
            if options.only not in f"{row.model}: {mode}":
                continue
            repeats, budget = (3, 0.5) if options.quick else (options.repeats, options.budget)
            result = measure_row(row, mode, options.size, repeats=repeats, budget_s=budget)
            times = "  ".join(f"{c} {ms:.0f}" for c, ms in result.median_ms.items())
            print(f"{result.name:28s} {result.ratio:5.2f}   {times}", file=sys.stderr, flush=True)
            results.append(result)
    about = measure.machine()
    title = f"Networks at {options.size}x{options.size}, median ms on {about['processor']}, {about['cores']} cores"
    print(measure.table(results, title=title))
    slow = [r.name for r in results if r.ratio > 1]
    print(f"{len(results) - len(slow)} of {len(results)} at or below 1.0" + "".join(f"\n  above: {n}" for n in slow))
    if options.out:
        measure.write(results, options.out, title=title, about=about)


if __name__ == "__main__":
    keep_freed_memory()
    main()
