"""Objects in images that several processes share: ``python -m tests.metrics.joined_evaluation PLACEMENT``."""

import sys
from dataclasses import dataclass

import jax
import numpy as np

from jaxseg.metrics import CocoBoxes, CocoKeypoints, CocoMasks, MaskAPr, PanopticQuality, VocAP
from jaxseg.train.evaluate import evaluate
from jaxseg.train.placement import by_name, join_cluster
from jaxseg.types import VOID
from tests.metrics import coco_cases, panoptic_cases

COUNT, ROWS = 23, 3
NAMES = tuple(f"class {k}" for k in range(coco_cases.CLASSES))
JOINTS = tuple(f"joint {j}" for j in range(coco_cases.JOINTS))
METRICS = {
    "boxes": CocoBoxes(NAMES),
    "masks": CocoMasks(NAMES),
    "keypoints": CocoKeypoints(NAMES, JOINTS),
    "voc": VocAP(NAMES),
    "sds": MaskAPr(NAMES),
    "panoptic": PanopticQuality(panoptic_cases.CLASSES, panoptic_cases.THINGS),
}


def everything(count: int = COUNT) -> tuple[dict, dict]:
    """Objects and panoptic maps in one batch."""
    batch, found = coco_cases.images(count, seed=4)
    true, guessed = panoptic_cases.images(count, seed=4)
    room = [(0, 0), (0, coco_cases.HEIGHT - panoptic_cases.SIDE), (0, coco_cases.WIDTH - panoptic_cases.SIDE), (0, 0)]
    batch["panoptic"], found["panoptic"] = (
        np.pad(maps["panoptic"], room, constant_values=VOID) for maps in (true, guessed)
    )
    return batch, found


class Nothing:
    """A network that returns nothing."""

    def apply(self, variables, image, *, train):
        return {}


@dataclass(frozen=True)
class Known:
    """A task whose predictions come with the batch."""

    def inputs(self, batch, *, train):
        return {"image": batch["image"]}

    def loss(self, outputs, batch):
        return {}

    def predict(self, outputs, batch):
        return {key.removeprefix("found/"): value for key, value in batch.items() if key.startswith("found/")}

    def metrics(self):
        return METRICS


def batches(process: int, processes: int, rows: int):
    """Every so manieth image, equally many batches for each process, the last ones filled up."""
    batch, found = everything()
    both = {**batch, **{f"found/{key}": value for key, value in found.items()}}
    mine = np.arange(process, COUNT, processes)
    for start in range(0, -(-COUNT // processes), rows):
        which = mine[start : start + rows]
        real = np.arange(rows) < len(which)
        which = np.concatenate([which, np.zeros(rows - len(which), int)])
        part = {key: value[which] for key, value in both.items()}
        yield {**part, "real": real}


if __name__ == "__main__":
    assert join_cluster()
    mine = batches(jax.process_index(), jax.process_count(), ROWS)
    print(sorted(evaluate(Nothing(), {}, Known(), mine, placement=by_name(sys.argv[1])).items()))
