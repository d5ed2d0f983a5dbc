"""Whole networks beside PyTorch's on the CPU, inference and training step: ``python benchmarks/networks.py``.

Every family of the zoo has a row: the torch side is written from the same layer tables (``torch_networks.py``,
``torch_families.py``) or is the public implementation that ``parity_LIBRARY.py`` builds; a row whose library is not
installed is left out, and the table says so.

Inference is one image, a training step is two: forward, cross-entropy (with its auxiliary head where there is one),
backward, SGD with momentum. Ours is the step that ``jaxseg train`` runs, whose state is donated, so that parameters,
momentum and statistics are overwritten in place as PyTorch overwrites its own. PyTorch runs in both its memory layouts,
and the ratio is to the faster one. Each column runs in a process of its own, and they take turns; peak memory is the
process's. Ours is compiled before, by another process ("first call"), and read from the compilation cache, as in every
run of a command but the first: the compiler needs more memory than many networks. Both frameworks keep freed memory
mapped, as the command line has it. Needs the extra ``parity``.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import measure
import numpy as np

from jaxseg.cli.runtime import keep_freed_memory

CLASSES = 21


@dataclass(frozen=True)
class Row:
    """One network: the registry's name, and PyTorch's as ``FILE.CLASS`` of a file here or ``LIBRARY`` of the parity
    table, with what must be installed for it. ``images``: of inference, a training step has twice as many."""

    model: str
    torch: str
    note: str = ""
    size: int = 192
    classes: int = CLASSES
    needs: tuple[str, ...] = ()
    images: int = 1

    @property
    def missing(self) -> list[str]:
        """What would have to be installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def torchvision(model: str, note: str = "") -> Row:
    """torchvision's network of the same name."""
    return Row(model, "torchvision", note, needs=("torchvision",))


def smp(model: str, note: str = "") -> Row:
    """segmentation-models-pytorch's network."""
    return Row(model, "smp", note, needs=("torchvision", "segmentation_models_pytorch"))


def transformers(model: str, note: str = "") -> Row:
    """transformers' network, made for ADE20K."""
    return Row(model, "transformers", note, classes=150, needs=("torchvision", "transformers"))


ROWS = (
    Row("unet", "torch_networks.UNet", "64 to 1024 channels, BatchNorm", 256),
    Row("fcn8s_vgg16", "torch_networks.FCN8s", "padding 100, fc6 7x7x512 to 4096", 256),
    Row("fcn_resnet50", "torch_networks.FCNResNet50", "output stride 8, auxiliary head in training", 256),
    Row("enet", "torch_networks.ENet", "0.36 M parameters", 256),
    Row("segnet_basic", "torch_families.SegNetBasic", "7x7 windows, local response normalisation"),
    Row("segnet_vgg16", "torch_families.SegNet", "max-unpooling"),
    Row("deconvnet_vgg16", "torch_families.DeconvNet", "252 M parameters", 224),
    Row("deeplab_largefov_vgg16", "torch_families.DeepLabV1", "output stride 8, rate 12"),
    Row("deeplabv2_vgg16", "torch_families.DeepLabV2", "rates 6 to 24"),
    Row("dilated_frontend_vgg16", "torch_families.FrontEnd", "mirrored by 186, fc6 7x7 of rate 4", 200),
    Row("espnet", "torch_families.ESPNet", "0.35 M parameters"),
    Row("attention_unet", "torch_families.AttentionUNet", "16 to 256 channels"),
    torchvision("deeplabv3_resnet50", "output stride 8, auxiliary head in training"),
    torchvision("deeplabv3_mobilenet_v3_large", "depthwise convolutions, auxiliary head in training"),
    torchvision("lraspp_mobilenet_v3_large", "depthwise convolutions"),
    Row("pspnet_resnet50", "semseg", "output stride 8, auxiliary head in training", 193, 150, ("torchvision",)),
    smp("deeplabv3plus_mobilenet_v2", "depthwise convolutions"),
    smp("fpn_resnet50", "GroupNorm in the decoder"),
    smp("linknet_resnet18"),
    smp("manet_resnet34"),
    smp("pan_resnet50"),
    smp("unetplusplus_resnet34"),
    transformers("segformer_b0", "attention"),
    transformers("upernet_resnet50"),
)
"""The four that the zoo began with at 256x256, the other families at 192x192 or what their geometry wants."""

WITHOUT = {
    "bayesian_segnet": "SegNet and SegNet-Basic with dropout",
    "hair": "published as TFLite, which runs in a runtime of its own",
    "mmseg": "FCN, PSPNet, DeepLab v3 and SegFormer with other stems and heads",
    "retina_unet": "a U-Net",
    "crfrnn": "its permutohedral filter has no counterpart in PyTorch",
    "segnet_variants": "SegNet-Basic and FCN-Basic with other decoders",
    "sliding_window": "see the table of what windows save by sharing",
}
"""Reasons why a family has no row."""


def without() -> dict[str, str]:
    """Return the families of semantic networks that have no row, each with the reason."""
    from jaxseg.registry import entries

    homes = {name: entry.module.rpartition(".")[2] for name, entry in entries().items() if entry.task == "semantic"}
    missing = sorted(set(homes.values()) - {homes[row.model] for row in ROWS})
    return {family: WITHOUT.get(family, "no counterpart in PyTorch is written here") for family in missing}


MODES = {"inference": 1, "train step": 2}
"""What is timed, and for how many images, where the row has one."""

COLUMNS = ("jax", "torch", "torch channels-last")


def batch_of(row: Row, mode: str) -> dict[str, np.ndarray]:
    """Random images with random labels."""
    rng, shape = np.random.default_rng(0), (MODES[mode] * row.images, row.size, row.size)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    return {"image": image, "label": rng.integers(0, row.classes, shape).astype(np.int32)}


def jax_call(row: Row, mode: str) -> Callable[[], object]:
    """Our network, ready to be called; returns what is still being computed."""
    import jax

    from jaxseg.registry import create_model
    from jaxseg.tasks.semantic import Semantic
    from jaxseg.train import optim, state
    from jaxseg.train.placement import single

    model, batch = create_model(row.model, num_classes=row.classes), batch_of(row, mode)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch["image"]))
    variables = jax.tree.map(jax.numpy.asarray, jax.tree_util.tree_map_with_path(_random, shapes))
    if mode == "inference":
        apply, image = jax.jit(lambda v, x: model.apply(v, x)["logits"]), jax.device_put(batch["image"])
        return lambda: apply(variables, image)
    tx = optim.SGD(0.001, momentum=0.9).build(100)
    step = single().train_step(model, Semantic(row.classes), tx)
    held = [single().put(state.start(jax.random.key(0), variables, tx, ema=False))]
    batch = single().batch(batch)

    def call() -> object:
        held[0], metrics = step(held[0], batch)
        return held[0], metrics

    return call


def _random(path: Any, leaf: Any) -> np.ndarray:
    """He's initialisation without compiling an initialiser for each shape."""
    name = str(path[-1].key)
    if name == "kernel":
        deviation = (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return (np.random.default_rng(0).standard_normal(leaf.shape, np.float32) * deviation).astype(np.float32)
    return np.full(leaf.shape, {"scale": 1.0, "var": 1.0, "alpha": 0.25}.get(name, 0.0), np.float32)


def torch_call(row: Row, mode: str, column: str, *, device: str = "cpu") -> Callable[[], object]:
    """PyTorch's network, ready to be called, in the layout that the column names; on a GPU it returns at once."""
    import torch

    torch.set_num_threads(_cores())
    layout = torch.channels_last if column == "torch channels-last" else torch.contiguous_format
    model, batch = torch_network(row).to(device, memory_format=layout), batch_of(row, mode)
    image = torch.from_numpy(batch["image"]).to(device).permute(0, 3, 1, 2).float().contiguous(memory_format=layout)
    label = torch.from_numpy(batch["label"]).to(device).long()
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


def torch_network(row: Row) -> Any:
    """PyTorch's side of a row: a module from a float image [b 3 h w] of raw RGB to a dict of logits."""
    file, _, name = row.torch.partition(".")
    if name:
        return getattr(importlib.import_module(file), name)(row.classes)
    return importlib.import_module("torch_public").build(row.torch, row.model)


def make_call(row: Row, mode: str, column: str) -> Callable[[], object]:
    """The callable of one column, which returns when the work is done."""
    if column != "jax":
        return torch_call(row, mode, column)
    import jax

    call = jax_call(row, mode)
    return lambda: jax.block_until_ready(call())


def measure_row(row: Row, mode: str, *, repeats: int, budget_s: float) -> measure.Result:
    """Times in turns, and peak memory."""
    arguments = [__file__, "--serve", row.model, mode]
    size = ["--size", str(row.size)]
    with tempfile.TemporaryDirectory() as cache, contextlib.ExitStack() as stack:
        kept = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

        def start(column: str) -> measure.Worker:
            worker = measure.Worker([*arguments, column, *size], kept)
            stack.callback(worker.close)
            return worker

        compiler = start("jax")
        compiler.wait()
        begin = time.perf_counter()
        compiler()
        first_s = time.perf_counter() - begin
        compiler.close()
        workers = {column: start(column) for column in COLUMNS}
        for worker in workers.values():
            worker.wait()
        result = measure.compare(
            f"{row.model}: {mode}",
            workers,
            repeats=repeats,
            budget_s=budget_s,
            note=f"{row.size}x{row.size}{row.note and ', '}{row.note}",
            reference="torch",
        )
        result.first_s["jax"] = first_s
        for column in ("jax", "torch"):
            result.extra[f"{column} peak MB"] = workers[column].peak_mb()
    return result


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="rows in whose name this is found")
    parser.add_argument("--size", type=int, help="side of all images, instead of each row's own")
    parser.add_argument("--repeats", type=int, default=7, help="turns at most for each row (default 7)")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds for each row, three turns at least (15)")
    parser.add_argument("--quick", action="store_true", help="three turns: only to see that everything runs")
    parser.add_argument("--out", type=Path, help="write the table here too: .json, or markdown")
    parser.add_argument("--serve", nargs=3, metavar=("MODEL", "MODE", "COLUMN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    rows = [replace(row, size=options.size or row.size) for row in ROWS]

    if options.serve:
        model, mode, column = options.serve
        measure.serve(make_call(next(row for row in rows if row.model == model), mode, column))
        return
    results, remarks = [], []
    about = measure.machine()
    title = f"Networks, median ms on {about['processor']}, {about['cores']} cores"
    for row in rows:
        modes = [mode for mode in MODES if re.search(options.only, f"{row.model}: {mode}")]
        if modes and row.missing:
            remarks.append(f"{row.model}: not measured here, for want of {' and '.join(row.missing)}")
            continue
        for mode in modes:
            repeats, budget = (3, 0.5) if options.quick else (options.repeats, options.budget)
            result = measure_row(row, mode, repeats=repeats, budget_s=budget)
            times = "  ".join(f"{c} {ms:.0f}" for c, ms in result.median_ms.items())
            print(f"{result.name:28s} {result.ratio:5.2f}   {times}", file=sys.stderr, flush=True)
            results.append(result)
            if options.out:  # after each row: the whole takes a while
                measure.write(results, options.out, title=title, about=measure.machine(), remarks=remarks)
    print(measure.table(results, title=title, remarks=remarks))
    slow = [r.name for r in results if r.ratio > 1]
    print(f"{len(results) - len(slow)} of {len(results)} at or below 1.0" + "".join(f"\n  above: {n}" for n in slow))


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # the tests know how to import torchvision
    keep_freed_memory()
    main()
