"""Whole detectors beside torchvision's on photographs: ``python benchmarks/parity_detectors.py PHOTOGRAPH...``.

Every network at its full size, with torchvision's random weights brought in by the rules of the importer. The
statistics of normalisations are those of the photographs, and the predictors are scaled until what they predict
spreads, so that many detections pass the thresholds. Float32 rounds differently in any two programs, hence the column
of torchvision beside itself in float64. Needs the environment of ``objects.py``: ``pip install . torch==2.14.1
torchvision==0.29.1``.

torchvision suppresses class by class, or all classes at once with boxes moved apart by an offset, which rounds
overlaps; ours is held to the former.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.models import detection

from jaxseg import registry
from jaxseg.ops.masks import paste_masks
from jaxseg.weights.names import convert

NAMES = {
    "faster_rcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn",
    "faster_rcnn_resnet50_fpn_v2": "fasterrcnn_resnet50_fpn_v2",
    "faster_rcnn_mobilenet_v3_large_fpn": "fasterrcnn_mobilenet_v3_large_fpn",
    "faster_rcnn_mobilenet_v3_large_320_fpn": "fasterrcnn_mobilenet_v3_large_320_fpn",
    "mask_rcnn_resnet50_fpn": "maskrcnn_resnet50_fpn",
    "mask_rcnn_resnet50_fpn_v2": "maskrcnn_resnet50_fpn_v2",
    "keypoint_rcnn_resnet50_fpn": "keypointrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn": "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2": "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16": "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large": "ssdlite320_mobilenet_v3_large",
}
CANVASES = ((320, 320), (256, 416))
ONLY_CANVAS = {"ssd300_vgg16": (300, 300), "ssdlite320_mobilenet_v3_large": (320, 320)}
"""Networks whose input is of one size."""

BOX, SCORE = 1e-2, 1e-4
"""Pixels and probability within which a detection is the same."""


@dataclass
class Agreement:
    """What was compared for one network on one canvas."""

    network: str
    canvas: tuple[int, int]
    detections: int = 0
    same: int = 0
    in_order: int = 0
    pixels: int = 0
    pixels_same: int = 0
    joints: int = 0
    joints_same: int = 0
    exact_same: int = 0

    def row(self) -> dict[str, str]:
        """As a row of the table."""
        return {
            "network": self.network,
            "canvas": "{}x{}".format(*self.canvas),
            "detections": str(self.detections),
            "same": f"{self.same / max(1, self.detections):.2%}",
            "torchvision beside itself in float64": f"{self.exact_same / max(1, self.detections):.2%}",
            "in the same slot": f"{self.in_order / max(1, self.detections):.2%}",
            "pixels of masks": f"{self.pixels_same / self.pixels:.4%}" if self.pixels else "",
            "joints": f"{self.joints_same / self.joints:.2%}" if self.joints else "",
        }


def reference(name: str, images: np.ndarray) -> Any:
    """torchvision's network with statistics of these images."""
    torch.manual_seed(0)
    model = getattr(detection, NAMES[name])(weights=None, weights_backbone=None)
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.momentum = 1.0
        module.train()
    keep_size(model, images.shape[1:3])
    with torch.no_grad():
        if name == "retinanet_resnet50_fpn":  # without a normalisation the first weights let next to nothing through
            for subnet in (model.head.classification_head, model.head.regression_head):
                for layer in subnet.conv.modules():
                    if isinstance(layer, torch.nn.Conv2d):
                        layer.weight *= 3
        model(tensors(images))
    model.eval()
    if "ssd" in name:
        for head, wanted in ((model.head.classification_head, 2.0), (model.head.regression_head, 0.5)):
            for layer in head.module_list:
                spread(model, layer if name == "ssd300_vgg16" else layer[-1], wanted, images)
    elif "retina" in name:
        spread(model, model.head.classification_head.cls_logits, 2.0, images)
        spread(model, model.head.regression_head.bbox_reg, 0.3, images)
    else:
        spread(model, model.rpn.head.cls_logits, 2.0, images)
        spread(model, model.rpn.head.bbox_pred, 0.3, images)
        spread(model, model.roi_heads.box_predictor.cls_score, 2.0, images)
        spread(model, model.roi_heads.box_predictor.bbox_pred, 0.5, images)
    return model


@torch.no_grad()
def spread(model: Any, layer: Any, wanted: float, images: np.ndarray) -> None:
    """Scale a predictor until what it predicts for these images has that standard deviation."""
    seen: list[Any] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.flatten()))
    model(tensors(images))
    hook.remove()
    layer.weight *= wanted / torch.cat(seen).std()


def keep_size(model: Any, size: Sequence[int]) -> None:
    """Let the model's own transform leave images of that size as they are."""
    model.transform.min_size, model.transform.max_size = (min(size),), max(size)


def tensors(images: np.ndarray) -> list[Any]:
    """As torchvision takes images."""
    return [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]


def photographs(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """u8[b h w 3], each photograph resized to the canvas."""
    height, width = size
    return np.stack([np.asarray(Image.open(path).convert("RGB").resize((width, height))) for path in paths])


def compare(name: str, paths: Sequence[Path]) -> list[Agreement]:
    """Both networks on both canvases."""
    sizes = (ONLY_CANVAS[name],) if name in ONLY_CANVAS else CANVASES
    theirs = reference(name, photographs(paths, sizes[0]))
    model = registry.create_model(name)
    source = {key: value.numpy() for key, value in theirs.state_dict().items()}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8)))
    variables = convert(source, shapes, registry.find(name).names["torchvision"])
    apply, found = jax.jit(model.apply), []
    for size in sizes:
        agreement = Agreement(name, size)
        keep_size(theirs, size)
        for image in photographs(paths, size):
            (expected,), (exact,) = found_by(theirs.float(), image), found_by(theirs.double(), image)
            count(agreement, jax.device_get(apply(variables, image[None])), expected, 0 if "retina" in name else 1)
            again = {"boxes": expected["boxes"], "classes": expected["labels"], "scores": expected["scores"]}
            again = {key: value.numpy()[None] for key, value in again.items()}
            agreement.exact_same += int(same_detections(again, exact, 0).any(1).sum())
        print(agreement.row(), flush=True)
        found.append(agreement)
    return found


@torch.no_grad()
def found_by(model: Any, image: np.ndarray) -> Any:
    """Detections of torchvision in the network's own precision."""
    dtype = next(model.parameters()).dtype
    return model([one.to(dtype) for one in tensors(image[None])])


def same_detections(found: Any, expected: Any, background: int) -> np.ndarray:
    """bool[theirs, slots of ours], which are the same."""
    boxes, labels, scores = (expected[key].numpy() for key in ("boxes", "labels", "scores"))
    far = np.abs(found["boxes"][0][None] - boxes[:, None]).max(-1) > BOX
    other = found["classes"][0][None] + background != labels[:, None]
    unlike = np.abs(found["scores"][0][None] - scores[:, None]) > SCORE
    return ~far & ~other & ~unlike


def count(agreement: Agreement, found: Any, expected: Any, background: int) -> None:
    """Add an image: each detection of theirs looks for one of ours."""
    same = same_detections(found, expected, background) & found["valid"][0][None]
    agreement.detections += max(len(same), int(found["valid"].sum()))
    agreement.same += int(same.any(1).sum())
    agreement.in_order += int(np.diagonal(same).sum())
    rows = np.flatnonzero(same.any(1))
    slots = same.argmax(1)[rows]
    if "masks" in found:
        height, width = agreement.canvas
        ours = paste_masks(found["masks"][0][slots], found["boxes"][0][slots], height=height, width=width)
        agree = np.asarray(ours) == (expected["masks"][rows, 0].numpy() > 0.5)
        agreement.pixels += agree.size
        agreement.pixels_same += int(agree.sum())
    if "keypoints" in found:
        apart = np.abs(found["keypoints"][0][slots][..., :2] - expected["keypoints"][rows].numpy()[..., :2]).max(-1)
        agreement.joints += apart.size
        agreement.joints_same += int((apart <= BOX).sum())


def main() -> None:
    """Compare, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--only", default="", metavar="TEXT", help="networks in whose name this is found")
    parser.add_argument("--out", type=Path, help="write the table here too, as markdown")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torchvision.ops.boxes._batched_nms_coordinate_trick = torchvision.ops.boxes._batched_nms_vanilla
    found = [one.row() for name in NAMES if options.only in name for one in compare(name, options.photographs)]
    columns = list(found[0])
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(row.values())} |" for row in found]
    about = f"{len(options.photographs)} photographs, a detection being the same within {BOX} px and {SCORE} of score"
    text = f"Detectors beside torchvision {torchvision.__version__}: {about}\n\n" + "\n".join(lines) + "\n"
    print("\n" + text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
