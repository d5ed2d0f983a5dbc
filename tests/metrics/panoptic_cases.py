"""Random panoptic maps, and what a prediction might make of them."""

import numpy as np

from jaxseg.types import VOID

CLASSES = ("cat", "dog", "sky", "grass", "sea")
THINGS = ("cat", "dog")
SIDE = 40


def truth(rng):
    """Segments around random points: stuff is one segment a class, things have instances, some pixels are void."""
    points = rng.integers(0, SIDE, (9, 2))
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1)
    nearest = np.square(grid[:, :, None] - points).sum(-1).argmin(-1)
    classes = rng.choice([0, 1, 2, 3, VOID], len(points), p=[0.35, 0.2, 0.2, 0.1, 0.15])  # no sea
    instance = np.where(classes < len(THINGS), np.arange(1, len(points) + 1), 0)
    return np.stack([classes[nearest], instance[nearest]], -1).astype(np.int32)


def disturbed(rng, panoptic):
    """Borders moved, segments lost, renamed, split and renumbered, and others invented."""
    moved = np.roll(panoptic, rng.integers(-3, 4, 2), (0, 1)).copy()
    for label, instance in np.unique(moved.reshape(-1, 2), axis=0):
        here = (moved == (label, instance)).all(-1)
        luck = rng.random()
        if luck < 0.15:
            moved[here] = (VOID, 0)
        elif luck < 0.3:
            moved[here] = (rng.integers(0, len(CLASSES)), rng.integers(0, 4))
        elif luck < 0.45:
            moved[here & (np.arange(SIDE) % 40 < rng.integers(5, 35))] = (label, 77)
        elif label < len(THINGS):
            moved[here] = (label, instance + 100)
    moved[moved[..., 0] == VOID] = (0, 55) if rng.random() < 0.5 else (VOID, 0)
    return moved


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    true = np.stack([truth(rng) for _ in range(count)])
    slots = 9
    instance_ids = np.where(true[..., 0] < len(THINGS), true[..., 1], 0).astype(np.uint16)
    crowd = rng.random((count, slots)) < 0.25
    # no more than one crowd of a class in an image, as in COCO
    for b in range(count):
        seen = set()
        for n in np.flatnonzero(crowd[b]):
            label = true[b][instance_ids[b] == n + 1][:1, 0].tolist()
            crowd[b, n] = bool(label) and label[0] not in seen
            seen |= set(label)
    found = np.stack([disturbed(rng, panoptic) for panoptic in true])
    batch = {"panoptic": true, "instance_ids": instance_ids, "crowd": crowd, "real": np.ones(count, bool)}
    return batch, {"panoptic": found}
