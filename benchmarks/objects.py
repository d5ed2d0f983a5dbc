"""Operations of object detection beside torchvision's compiled ones on the CPU: ``python benchmarks/objects.py``.

Both run in one process, in turns, on the same numbers, and must agree. torchvision's time holds
all that its Python entry does: sorting, lists, intermediate tensors. Needs an environment of its own, in which
torchvision's compiled operators load: ``pip install . torch==2.14.1 torchvision==0.29.1``.
"""

import argparse
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import measure
import numpy as np
import torch
from torchvision import ops as theirs
from torchvision.models.detection import _utils as detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image

from jaxseg.cli.runtime import keep_freed_memory
from jaxseg.ops.anchors import torchvision_anchors
from jaxseg.ops.detections import detections
from jaxseg.ops.masks import paste_masks
from jaxseg.ops.match import match
from jaxseg.ops.nms import nms, top_k
from jaxseg.ops.roi import roi_align

STRIDES = (4, 8, 16, 32)
"""Of the maps that boxes are pooled from."""


@dataclass(frozen=True)
class Row:
    """One operation at one size, ours and torchvision's, each a call that returns NumPy arrays to compare."""

    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    same: Callable[[object, object], bool]
    note: str = ""


def compiled(call: Callable, *arrays: np.ndarray) -> Callable[[], object]:
    """A call of the compiled function on the device's arrays that returns when it is done."""
    fast, given = jax.jit(call), [jnp.asarray(a) for a in arrays]
    return lambda: jax.block_until_ready(fast(*given))


def boxes_and_scores(kind: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Candidates as they come from a head: around few objects, anywhere, or each overlapping the next."""
    rng = np.random.default_rng(0)
    scores = rng.permutation(n).astype(np.float32) / n
    if kind == "chain":
        left = np.arange(n) * 1.5
        boxes = np.stack([left, np.zeros(n), left + 10, np.full(n, 10.0)], axis=1)
        return boxes.astype(np.float32), np.sort(scores)[::-1].copy()
    if kind == "clustered":
        corner = rng.uniform(0, (1000, 700), (20, 2))[rng.integers(0, 20, n)] + rng.normal(0, 15, (n, 2))
        size = rng.uniform(40, 160, (n, 2))
    else:
        corner, size = rng.uniform(0, (1250, 750), (n, 2)), rng.uniform(10, 120, (n, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32), scores


def same_kept(ours: object, theirs: object) -> bool:
    """Equal indices in equal order, as far as there are slots."""
    index, valid = (np.asarray(x) for x in ours)  # type: ignore[attr-defined]
    return index[valid].tolist() == theirs[: len(index)].tolist()  # type: ignore[index]


def nms_row(kind: str, n: int, *, count: int | None = None, threshold: float = 0.7) -> Row:
    """Greedy suppression, scores not sorted yet."""
    boxes, scores = boxes_and_scores(kind, n)
    tensors = torch.tensor(boxes), torch.tensor(scores)
    return Row(
        f"NMS, {n} boxes, {kind}" + (f", first {count}" if count else ""),
        compiled(partial(nms, threshold=threshold, count=count or n), boxes, scores),
        lambda: theirs.nms(*tensors, threshold),
        same_kept,
        "torchvision cannot stop early" if count else "",
    )


def class_nms_row(n: int, classes: int, threshold: float = 0.5) -> Row:
    """Suppression within classes; torchvision chooses its own way by the number of boxes."""
    boxes, scores = boxes_and_scores("clustered", n)
    numbers = np.random.default_rng(1).integers(0, classes, n).astype(np.int32)
    tensors = torch.tensor(boxes), torch.tensor(scores), torch.tensor(numbers)

    def ours(boxes: jax.Array, scores: jax.Array, numbers: jax.Array) -> object:
        return nms(boxes, scores, threshold=threshold, count=n, classes=numbers)

    return Row(
        f"NMS, {n} boxes, {classes} classes",
        compiled(ours, boxes, scores, numbers),
        lambda: theirs.batched_nms(*tensors, threshold),
        same_kept,
    )


def match_row(height: int, width: int, objects: int) -> Row:
    """Matching of FPN's anchors with low-quality matches, the IoU included."""
    grids = [(-(-height // s), -(-width // s)) for s in (4, 8, 16, 32, 64)]
    sizes, ratios = ((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5
    image = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    (tensor,) = AnchorGenerator(sizes, ratios)(image, [torch.zeros(1, 1, *grid) for grid in grids])
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, (0.8 * width, 0.8 * height), (objects, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 200, (objects, 2))], axis=1).astype(np.float32)
    anchors = np.asarray(torchvision_anchors((height, width), grids, sizes, ratios)[0])
    matcher, targets = detection.Matcher(0.7, 0.3, True), torch.tensor(boxes)
    call = partial(match, high=0.7, low=0.3, low_quality=True)
    return Row(
        f"match, {objects} objects, {len(anchors)} anchors",
        compiled(lambda *x: call(*x).index, boxes, np.ones(objects, bool), anchors),
        lambda: matcher(theirs.box_iou(targets, tensor)),
        lambda ours, theirs: np.array_equal(ours, theirs),  # type: ignore[arg-type]
    )


def top_k_row(n: int, k: int, rows: int = 1) -> Row:
    """The largest scores of each row."""
    scores = np.random.default_rng(0).permutation(rows * n).reshape(rows, n).astype(np.float32)
    tensor = torch.tensor(scores)
    return Row(
        f"top {k} of {n}" + (f", {rows} rows" if rows > 1 else ""),
        compiled(jax.vmap(lambda s: top_k(s, k).value), scores),
        lambda: torch.topk(tensor, k, dim=1)[0],
        lambda ours, theirs: np.array_equal(ours, theirs),  # type: ignore[arg-type]
    )


def detections_row(proposals: int, classes: int, threshold: float) -> Row:
    """Post-processing of decoded boxes of each class: thresholds, suppression, the best 100."""
    rng = np.random.default_rng(0)
    centre, _ = boxes_and_scores("clustered", proposals)
    boxes = (centre[:, None] + rng.normal(0, 4, (proposals, classes, 4))).astype(np.float32)
    logits = (
        rng.normal(0, 1, (proposals, classes + 1))
        + 5 * rng.random((proposals, 1)) * np.eye(classes + 1)[rng.integers(0, classes + 1, proposals)]
    )
    scores = np.asarray(torch.softmax(torch.tensor(logits, dtype=torch.float32), -1))
    size = (800, 1333)

    class Heads(RoIHeads):  # its post-processing alone, of boxes that are decoded already
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.box_coder = lambda: None
            self.box_coder.decode = lambda codes, _: codes
            self.score_thresh, self.nms_thresh, self.detections_per_img = threshold, 0.5, 100

    heads, given = Heads(), torch.tensor(np.concatenate([boxes[:, :1], boxes], axis=1))
    probability = torch.tensor(logits, dtype=torch.float32)
    places = [torch.zeros(proposals, 4)]

    def ours(boxes: jax.Array, scores: jax.Array) -> object:
        limit = jnp.array([[[size[1], size[0]] * 2]], jnp.float32)
        return detections(jnp.clip(boxes, 0, limit), scores[:, 1:], score_threshold=threshold)

    def equal(ours: object, theirs: object) -> bool:
        boxes, found, labels = theirs  # type: ignore[misc]
        count = int(ours.valid.sum())  # type: ignore[attr-defined]
        pairs = [(ours.boxes, boxes[0]), (ours.scores, found[0]), (ours.classes, labels[0] - 1)]  # type: ignore
        return bool(ours.exact) and all(np.allclose(a[:count], b) for a, b in pairs)  # type: ignore[attr-defined]

    return Row(
        f"detections, {proposals} x {classes}, scores > {threshold}",
        compiled(ours, boxes, scores),
        lambda: heads.postprocess_detections(probability, given, places, [size]),
        equal,
        "2000 slots",
    )


def proposals(count: int, height: int, width: int) -> np.ndarray:
    """Boxes of all sizes within an image."""
    rng = np.random.default_rng(0)
    side = np.exp(rng.uniform(np.log(height / 50), np.log(height * 0.75), (count, 2)))
    centre = rng.uniform(0, (width, height), (count, 2))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], axis=-1)
    return np.clip(boxes, 0, (width, height) * 2).astype(np.float32)


def roi_align_row(
    count: int,
    size: int,
    *,
    ratio: int = 2,
    gradient: bool = False,
    image: tuple[int, int] = (800, 1088),
    channels: int = 256,
) -> Row:
    """RoIAlign of proposals, each on the level of its size; the gradient's row holds the forward pass too."""
    rng, boxes = np.random.default_rng(0), proposals(count, *image)[None]
    maps = [rng.standard_normal((1, image[0] // s, image[1] // s, channels)).astype(np.float32) for s in STRIDES]
    tensors = {str(n): torch.tensor(m).permute(0, 3, 1, 2).contiguous() for n, m in enumerate(maps)}
    tensors = {name: t.requires_grad_(gradient) for name, t in tensors.items()}
    pool, lists = theirs.MultiScaleRoIAlign(list(tensors), size, ratio or -1), [torch.tensor(b) for b in boxes]

    def ours(boxes: jax.Array, *maps: jax.Array) -> object:
        align = partial(roi_align, boxes=boxes, size=size, strides=STRIDES, sampling_ratio=ratio)
        return jax.grad(lambda maps: jnp.sum(align(maps) ** 2))(maps) if gradient else align(maps)

    def torchvisions() -> object:
        y = pool(tensors, lists, [image])
        return torch.autograd.grad((y**2).sum(), list(tensors.values())) if gradient else y

    def same(ours: object, theirs: object) -> bool:
        pairs = zip(ours, theirs, strict=True) if gradient else [(ours[0], theirs)]  # type: ignore
        return all(np.allclose(a, b.detach().permute(0, 2, 3, 1), atol=2e-3) for a, b in pairs)

    name = f"RoIAlign, {count} boxes, {size} x {size}" + ("" if ratio else ", adaptive")
    return Row(name + (", gradient" if gradient else ""), compiled(ours, boxes, *maps), torchvisions, same)


def paste_row(count: int, height: int, width: int) -> Row:
    """Pasting of masks of 28 x 28 into the image, the threshold included."""
    boxes = proposals(count, height, width)
    coarse = torch.tensor(np.random.default_rng(0).standard_normal((count, 1, 6, 6)), dtype=torch.float32)
    soft = torch.sigmoid(3 * torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bicubic"))
    return Row(
        f"paste, {count} masks, {height} x {width}",
        compiled(partial(paste_masks, height=height, width=width), soft[:, 0].numpy(), boxes),
        lambda: paste_masks_in_image(soft, torch.tensor(boxes), (height, width)) > 0.5,
        lambda ours, theirs: (np.asarray(ours) != theirs[:, 0].numpy()).mean() < 1e-6,  # type: ignore
    )


def rows() -> list[Callable[[], Row]]:
    """Every row, built when it is taken."""
    return [
        *(partial(nms_row, kind, n) for n in (1000, 4000) for kind in ("clustered", "spread", "chain")),
        partial(nms_row, "clustered", 4000, count=1000),
        partial(class_nms_row, 1000, 80),
        partial(class_nms_row, 4000, 80),
        partial(match_row, 800, 1088, 200),
        partial(match_row, 800, 1088, 7),
        partial(top_k_row, 217_413, 1000),
        partial(top_k_row, 217_413, 2000),
        partial(top_k_row, 217_413, 1000, rows=2),
        partial(top_k_row, 80_000, 2000),
        partial(detections_row, 1000, 80, 0.05),
        *(
            partial(roi_align_row, *shape, ratio=ratio, gradient=gradient)
            for shape in ((512, 7), (100, 14))
            for ratio in (2, 0)
            for gradient in (False, True)
        ),
        partial(paste_row, 100, 800, 1067),
    ]


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="rows in whose name this is found")
    parser.add_argument("--repeats", type=int, default=15, help="turns at most for each row (default 15)")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds at most for each row (default 4)")
    parser.add_argument("--out", type=Path, help="write the table here too: .json, or markdown")
    parser.add_argument("--one-core", action="store_true", help="processor time on one core: for a busy machine")
    options = parser.parse_args()
    clock = time.perf_counter
    if options.one_core:
        clock = time.process_time
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    results = []
    for build in rows():
        row = build()
        if not re.search(options.only, row.name):
            continue
        columns = {"jaxseg": row.ours, "torchvision": row.theirs}
        take = partial(measure.compare, repeats=options.repeats, budget_s=options.budget, clock=clock)
        results.append(take(row.name, columns, note=row.note))
        if not row.same(row.ours(), row.theirs()):
            raise SystemExit(f"{row.name}: the two do not agree")
        times = "  ".join(f"{c} {ms:.2f}" for c, ms in results[-1].median_ms.items())
        print(f"{row.name:48s} {results[-1].ratio:5.2f}   {times}", flush=True)
    about = measure.machine()
    title = f"Objects, median ms on {about['processor']}, {about['cores']} core(s)"
    print("\n" + measure.table(results, title=title))
    if options.out:
        measure.write(results, options.out, title=title, about=about)


if __name__ == "__main__":
    keep_freed_memory()
    main()
