"""COCO AP of networks with darknet's published weights, on the images of a COCO file, beside the published AP50.

Images that the networks were trained on give figures for regression only.

    python benchmarks/darknet_weights.py FOLDER --images IMAGES --annotations FILE.json

FOLDER holds the .weights with their .cfg. A row a network is printed as Markdown.
"""

import argparse
import contextlib
import io
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxseg.conversion.importer import from_file
from jaxseg.data.coco_tables import THING_IDS

FILES = {
    "yolo-fastest-1.1.weights": ("yolo_fastest", 24.4),
    "yolo-fastest-1.1-xl.weights": ("yolo_fastest_xl", 34.3),
    "yolov3-tiny.weights": ("yolo_v3_tiny", 33.1),
}
"""The network, and its published AP50 on COCO's validation images."""

CANVAS = 640


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="COCO AP of networks with darknet's published weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    asked = parser.parse_args()
    print("| network | published AP50 | AP50 here | AP here | images |\n|---|--:|--:|--:|--:|")
    for file, (name, published) in FILES.items():
        if (asked.folder / file).is_file():
            made = from_file(asked.folder / file, name)
            ap, ap50, images = average_precision(made.model, made.variables, asked.images, asked.annotations)
            print(f"| `{name}` | {published} | {100 * ap50:.1f} | {100 * ap:.1f} | {images} |", flush=True)


def average_precision(model: Any, variables: Any, images: Path, annotations: Path) -> tuple[float, float, int]:
    """Return AP, AP50 and the number of images."""
    detect = jax.jit(model.apply)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
    for annotation in truth.anns.values():
        annotation.setdefault("iscrowd", 0)
    found: Any = []
    for number, row in truth.imgs.items():
        image = np.asarray(Image.open(images / row["file_name"]).convert("RGB"))
        canvas = np.zeros((1, CANVAS, CANVAS, 3), np.uint8)
        canvas[0, : image.shape[0], : image.shape[1]] = image
        seen = jax.device_get(detect(variables, canvas, np.asarray([image.shape[:2]], np.int32)))
        rows = zip(*(seen[key][0] for key in ("boxes", "scores", "classes", "valid")), strict=True)
        for (x0, y0, x1, y1), score, kind, valid in rows:
            if valid:
                box = [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
                found.append(
                    {"image_id": number, "category_id": THING_IDS[int(kind)], "bbox": box, "score": float(score)}
                )
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1]), len(truth.imgs)


if __name__ == "__main__":
    main()
