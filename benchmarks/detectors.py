"""Detectors beside torchvision's on the CPU, whole: ``python benchmarks/detectors.py``.

Inference at 320x416 for one image, and a training step of two at 256x320: forward with sampling, all losses, backward,
SGD with momentum. Both have the same weights, drawn and then scaled so that many detections pass the thresholds, run in
one process and take turns. Ours is compiled; the memory of its step is the compiler's own count. Needs the environment
of ``objects.py``: ``pip install . torch==2.14.1 torchvision==0.29.1``.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np
import torch
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from jaxseg import registry
from jaxseg.cli.runtime import keep_freed_memory
from jaxseg.forward import forward
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.instance import Instance
from jaxseg.train import optim, state, step
from jaxseg.weights.names import convert

NAMES = ("faster_rcnn_resnet50_fpn", "mask_rcnn_resnet50_fpn", "retinanet_resnet50_fpn")
SIZES = {"inference": (1, 320, 416), "train step": (2, 256, 320)}
OBJECTS = 8
"""In each image that is trained on."""


def reference(name: str) -> Any:
    """torchvision's network with normalisation that is frozen, and residuals that do not grow from block to block."""
    torch.manual_seed(0)
    body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    for key, value in body.named_buffers():
        if key.endswith("bn3.weight"):
            value.fill_(0.3)
    if name.startswith("retinanet"):
        maps = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
        model = RetinaNet(maps, 91)
        scaled = {model.head.classification_head.cls_logits: 10, model.head.regression_head.bbox_reg: 10}
        for subnet in (model.head.classification_head, model.head.regression_head):
            # The first weights let next to nothing through.
            scaled |= {layer: 6 for layer in subnet.conv.modules() if isinstance(layer, torch.nn.Conv2d)}
    else:
        kind = MaskRCNN if name.startswith("mask") else FasterRCNN
        model = kind(_resnet_fpn_extractor(body, 5), 91)
        scaled = {
            model.rpn.head.cls_logits: 30,
            model.rpn.head.bbox_pred: 10,
            model.roi_heads.box_predictor.cls_score: 20,
            model.roi_heads.box_predictor.bbox_pred: 10,
        }
    with torch.no_grad():
        for layer, factor in scaled.items():
            layer.weight *= factor
    return model


def batch_of(mode: str) -> dict[str, np.ndarray]:
    """Smooth random images with objects, each an ellipse in its box."""
    rows, height, width = SIZES[mode]
    rng = np.random.default_rng(0)
    coarse = torch.tensor(rng.uniform(0, 255, (rows, 3, 12, 16)), dtype=torch.float32)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255)
    corner = rng.uniform(0, 0.6, (rows, OBJECTS, 2)) * (width, height)
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (rows, OBJECTS, 2)) * (width, height)], -1)
    y, x = np.mgrid[:height, :width]
    ids = np.zeros((rows, height, width), np.uint16)
    for i, n in np.ndindex(rows, OBJECTS):
        x0, y0, x1, y1 = boxes[i, n]
        inside = ((x - (x0 + x1) / 2) / (x1 - x0)) ** 2 + ((y - (y0 + y1) / 2) / (y1 - y0)) ** 2 < 0.25
        ids[i][inside] = n + 1
    return {
        "image": image.permute(0, 2, 3, 1).numpy().astype(np.uint8),
        "boxes": boxes.astype(np.float32),
        "classes": rng.integers(0, 90, (rows, OBJECTS)).astype(np.int32),
        "valid": np.ones((rows, OBJECTS), bool),
        "instance_ids": ids,
    }


def columns(name: str, mode: str) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """The two calls, and the memory of ours in GB."""
    theirs, batch = reference(name), batch_of(mode)
    one_stage = name.startswith("retinanet")
    classes = 91 if one_stage else 90
    model = registry.create_model(name, num_classes=classes)
    task = (Instance if name.startswith("mask") else Detection)(classes)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(batch["image"])))
    source = {key: value.numpy() for key, value in theirs.state_dict().items()}
    variables = jax.tree.map(jnp.asarray, convert(source, shapes, registry.find(name).names["torchvision"]))
    given = jax.tree.map(jnp.asarray, batch)
    ours, used = (ours_trained if mode == "train step" else ours_found)(model, task, variables, given)
    images = [torch.tensor(image).permute(2, 0, 1).float() / 255 for image in batch["image"]]
    theirs.transform.min_size, theirs.transform.max_size = (min(SIZES[mode][1:]),), max(SIZES[mode][1:])
    call = theirs_trained(theirs, images, batch, 0 if one_stage else 1) if mode == "train step" else None
    theirs.train(mode == "train step")
    return {"jaxseg": ours, "torchvision": call or partial(found, theirs, images)}, used


def ours_found(model: Any, task: Any, variables: Any, batch: Any) -> tuple[Callable[[], object], dict[str, float]]:
    """Detections, compiled."""
    compiled = jax.jit(forward(model, task)).lower(variables, batch).compile()
    count = int(np.sum(compiled(variables, batch)["valid"]))
    return lambda: jax.block_until_ready(compiled(variables, batch)), {"detections": count, **memory(compiled)}


def ours_trained(model: Any, task: Any, variables: Any, batch: Any) -> tuple[Callable[[], object], dict[str, float]]:
    """A step whose state is overwritten."""
    tx = optim.SGD(1e-5, momentum=0.9).build(1000)
    now = state.start(jax.random.key(0), dict(variables), tx, ema=False)
    compiled = jax.jit(step.make_train_step(model, task, tx), donate_argnums=0).lower(now, batch).compile()
    holder = [now]

    def call() -> object:
        holder[0], told = compiled(holder[0], batch)
        return jax.block_until_ready(told)

    return call, memory(compiled)


def memory(compiled: Any) -> dict[str, float]:
    """What the compiler says that the program needs beside its arguments."""
    return {"temporary GB": round(compiled.memory_analysis().temp_size_in_bytes / 2**30, 3)}


@torch.no_grad()
def found(model: Any, images: list[Any]) -> object:
    """Detections of torchvision."""
    return model(images)


def theirs_trained(
    model: Any, images: list[Any], batch: dict[str, np.ndarray], background: int
) -> Callable[[], object]:
    """A step of torchvision."""
    targets = [
        {
            "boxes": torch.tensor(boxes),
            "labels": torch.tensor(classes.astype(np.int64)) + background,
            "masks": torch.tensor(np.stack([ids == n + 1 for n in range(OBJECTS)]).astype(np.uint8)),
        }
        for boxes, classes, ids in zip(batch["boxes"], batch["classes"], batch["instance_ids"], strict=True)
    ]
    update = torch.optim.SGD(model.parameters(), 1e-5, momentum=0.9)

    def call() -> object:
        update.zero_grad()
        loss = sum(model(images, targets).values())
        loss.backward()
        update.step()
        return loss.item()

    return call


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="rows in whose name this is found")
    parser.add_argument("--repeats", type=int, default=9, help="turns at most for each row (default 9)")
    parser.add_argument("--budget", type=float, default=40.0, help="seconds at most for each row (default 40)")
    parser.add_argument("--out", type=Path, help="write the table here too: .json, or markdown")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    results = []
    for name in NAMES:
        for mode in SIZES:
            title = f"{name}, {mode}"
            if options.only not in title:
                continue
            calls, used = columns(name, mode)
            result = measure.compare(title, calls, repeats=options.repeats, budget_s=options.budget)
            result.extra.update(used)
            results.append(result)
            print(f"{title:48s} {result.ratio:5.2f}  {result.median_ms}  {used}", flush=True)
    about = measure.machine()
    title = f"Detectors, median ms on {about['processor']}, {about['cores']} core(s)"
    print("\n" + measure.table(results, title=title))
    if options.out:
        measure.write(results, options.out, title=title, about=about)


if __name__ == "__main__":
    keep_freed_memory()
    main()
