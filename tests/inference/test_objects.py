"""Objects of images of any size: back in the photograph, none in the padding, each once though tiles cut it."""

from dataclasses import dataclass
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.data.transforms import PadTo, ResizeWithin
from jaxseg.errors import BadInput
from jaxseg.inference.load import TrainedModel
from jaxseg.inference.predict import plan, predict, tile_of
from jaxseg.inference.stitching import Seen, resampled, stitched
from jaxseg.inference.tiling import plan_tiles, tiled
from jaxseg.inference.tta import parse_tta
from jaxseg.viz.masks import instance_map, paste_mask

SIDE = 28


def discs(height, width, places):
    """An image whose pixels are 1 + the number of the disc that covers them."""
    y, x = np.mgrid[:height, :width] + 0.5
    ids = np.zeros((height, width), np.uint8)
    for number, (row, column, radius) in enumerate(places, 1):
        ids[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = number
    return ids


def detect(batch, *, slots=12, noise=0.0, masks=True, seed=0):
    """A perfect detector of discs that sees no further than its tile: boxes, and masks within them."""
    rng = np.random.default_rng(seed)
    found = {
        "boxes": np.zeros((len(batch["image"]), slots, 4), np.float32),
        "scores": np.zeros((len(batch["image"]), slots), np.float32),
        "classes": np.zeros((len(batch["image"]), slots), np.int32),
        "valid": np.zeros((len(batch["image"]), slots), bool),
        "masks": np.zeros((len(batch["image"]), slots, SIDE, SIDE), np.float32),
    }
    for i, image in enumerate(batch["image"][..., 0]):
        for slot, number in enumerate(np.unique(image[image > 0])):
            mask = image == number
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = np.asarray([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
            box = box + noise * rng.uniform(-1, 1, 4)
            found["boxes"][i, slot], found["valid"][i, slot] = box, True
            found["scores"][i, slot] = 0.5 + 0.4 * mask.sum() / mask.size + 0.05 * rng.random()
            found["classes"][i, slot] = number % 2
            found["masks"][i, slot] = resampled(mask, box, SIDE)
    return found if masks else {key: value for key, value in found.items() if key != "masks"}


def images_of(ids):
    return {"image": np.repeat(ids[None, ..., None], 3, -1)}


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def check_each_once(ids, found, least=0.8):
    """Every disc has one object, by mask and by the map, and there is no other."""
    assert found["valid"][0].sum() == len(np.unique(ids)) - 1
    slots = np.flatnonzero(found["valid"][0])
    for number in np.unique(ids[ids > 0]):
        truth = ids == number
        pasted = [iou(paste_mask(found["masks"][0, s], found["boxes"][0, s], ids.shape) >= 0.5, truth) for s in slots]
        mapped = [iou(found["instance_ids"][0] == s + 1, truth) for s in slots]
        assert np.argmax(pasted) == np.argmax(mapped)
        assert min(max(pasted), max(mapped)) >= least, number
        assert all(share < 0.2 for share in sorted(pasted)[:-1])
        assert found["classes"][0, slots[np.argmax(pasted)]] == number % 2


LAYOUTS = {
    "inside tiles": [(24, 24, 9), (24, 100, 9), (100, 24, 9), (140, 150, 9)],
    "in the overlap of two tiles": [(64, 20, 10), (20, 64, 10), (130, 90, 8)],
    "on borders": [(96, 30, 12), (30, 96, 12), (33, 32, 11), (128, 128, 14)],
    "at corners of four tiles": [(64, 64, 13), (96, 96, 12), (32, 96, 9), (128, 64, 11)],
    "larger than the overlap": [(80, 80, 40), (150, 30, 12)],
    "larger than a tile": [(88, 88, 70)],
    "neighbours that touch": [(64, 58, 9), (64, 76, 9), (46, 66, 9), (82, 66, 9)],
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_each_disc_is_found_exactly_once(name, noise):
    ids = discs(176, 176, LAYOUTS[name])
    found = tiled(lambda batch: detect(batch, noise=noise), None, tile=96, margin=32)(images_of(ids))
    assert len(plan_tiles(None, 176, 176, tile=96, margin=32)) > 4
    check_each_once(ids, found, least=0.8 if noise == 0 else 0.65)
    assert (np.diff(found["scores"][0][found["valid"][0]]) <= 0).all()


def test_many_random_discs_on_a_large_image():
    rng = np.random.default_rng(3)
    places = []
    while len(places) < 60:
        row, column = rng.uniform(0, 420, 2)
        radius = rng.uniform(6, 22)
        if all((row - r) ** 2 + (column - c) ** 2 > (radius + s + 3) ** 2 for r, c, s in places):
            places.append((row, column, radius))
    ids = discs(420, 420, places)
    few = [n for n in np.unique(ids) if 0 < (ids == n).sum() < 40]
    ids[np.isin(ids, few)] = 0
    found = tiled(lambda batch: detect(batch, slots=60, noise=0.5), None, tile=128, margin=32, slots=100)(
        images_of(ids)
    )
    assert found["boxes"].shape == (1, 100, 4)
    check_each_once(ids, found, least=0.65)


def test_boxes_alone_are_put_together_too():
    ids = discs(176, 176, LAYOUTS["at corners of four tiles"])
    run = tiled(lambda batch: detect(batch, masks=False), None, tile=96, margin=32)
    found = run(images_of(ids))
    assert set(found) == {"boxes", "scores", "classes", "valid"}
    whole = detect(images_of(ids), masks=False)
    ours, truth = (x["boxes"][0][x["valid"][0]] for x in (found, whole))
    order = [int(np.abs(truth - box).sum(1).argmin()) for box in ours]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_allclose(ours, truth[order], atol=1)


def test_one_tile_is_left_as_it_is():
    ids = discs(60, 90, [(20, 20, 8), (40, 60, 9)])
    whole, found = detect(images_of(ids)), tiled(detect, None, tile=96)(images_of(ids))
    assert found.keys() == whole.keys()
    for key in whole:
        np.testing.assert_array_equal(found[key], whole[key])


def test_slots_keep_the_best_and_every_image_of_a_batch_has_its_own():
    ids = discs(176, 176, LAYOUTS["inside tiles"])
    other = discs(176, 176, LAYOUTS["in the overlap of two tiles"])
    batch = {"image": np.concatenate([images_of(ids)["image"], images_of(other)["image"]])}
    run = tiled(detect, None, tile=96, margin=32)
    found = run(batch)
    assert found["valid"].sum(1).tolist() == [4, 3]
    few = tiled(detect, None, tile=96, margin=32, slots=2)(batch)
    assert few["valid"].sum(1).tolist() == [2, 2]
    np.testing.assert_array_equal(few["scores"], found["scores"][:, :2])
    assert few["instance_ids"].max() == 2


def test_what_another_tile_sees_better_is_dropped_and_what_only_one_tile_sees_stays():
    tiles = [Seen(0, 0, 32, 64, slice(0, 32), slice(0, 48)), Seen(0, 32, 32, 64, slice(0, 32), slice(48, 96))]

    def one(box, score=0.5):
        return {
            "boxes": np.asarray([[box]], np.float32),
            "scores": np.asarray([[score]]),
            "valid": np.ones((1, 1), bool),
        }

    none = {**one([0, 0, 0, 0]), "valid": np.zeros((1, 1), bool)}
    sliver = one([62, 5, 64, 15], 0.9)  # at the border of the first tile, within what the second decides
    assert not stitched([sliver, none], tiles, (32, 96))["valid"].any()
    whole = stitched([sliver, one([30, 5, 40, 15])], tiles, (32, 96))
    assert whole["boxes"][0][whole["valid"][0]].tolist() == [[62, 5, 72, 15]]
    assert stitched([one([10, 5, 20, 15]), none], tiles, (32, 96))["valid"].sum() == 1
    at_the_edge_of_the_image = one([0, 5, 10, 15])
    assert stitched([at_the_edge_of_the_image, none], tiles, (32, 96))["valid"].sum() == 1
    twice = stitched([one([40, 5, 50, 15], 0.6), one([9, 5, 18, 15], 0.7)], tiles, (32, 96))
    assert twice["boxes"][0][twice["valid"][0]].tolist() == [[41, 5, 50, 15]]
    other = {**one([9, 5, 18, 15], 0.7), "classes": np.asarray([[1]])}
    both = stitched([{**one([40, 5, 50, 15]), "classes": np.asarray([[0]])}, other], tiles, (32, 96))
    assert both["valid"].sum() == 2


def test_joints_of_a_stitched_object_are_the_surest_of_its_parts():
    tiles = [Seen(0, 0, 32, 64, slice(0, 32), slice(0, 48)), Seen(0, 32, 32, 64, slice(0, 32), slice(48, 96))]
    parts = []
    for box, points in (([2, 5, 64, 15], [[4, 9, 0.9], [60, 9, 0.1]]), ([0, 5, 60, 15], [[2, 9, 0.2], [58, 9, 0.8]])):
        part = {"boxes": np.asarray([[box]], np.float32), "scores": np.ones((1, 1)), "valid": np.ones((1, 1), bool)}
        parts.append({**part, "keypoints": np.asarray([[points]], np.float32)})
    found = stitched(parts, tiles, (32, 96), slots=1)
    assert found["boxes"].tolist() == [[[2, 5, 92, 15]]]
    np.testing.assert_allclose(found["keypoints"][0, 0], [[4, 9, 0.9], [90, 9, 0.8]], rtol=1e-6)


def test_resampled_masks_paste_back():
    mask = discs(50, 60, [(25, 30, 18)]) == 1
    box = [12, 7, 48, 43]
    small = resampled(mask, box, 28)
    assert iou(paste_mask(small, box, (50, 60)) >= 0.5, mask) > 0.95
    assert small.sum() / 28**2 * 36 * 36 == pytest.approx(mask.sum(), rel=1e-3)
    ids = instance_map(small[None], [box], (50, 60))
    assert iou(ids == 1, mask) > 0.95


class Bright(nn.Module):
    """Finds the bright rows and columns of what is image, and one box that reaches into the padding."""

    @nn.compact
    def __call__(self, image, size=None, *, train: bool = False):
        b, height, width = image.shape[:3]
        if size is None:
            size = jnp.broadcast_to(jnp.asarray([height, width], jnp.int32), (b, 2))
        bright = image[..., 0] > 128
        at = jnp.arange(max(height, width))

        def span(there):
            n = there.shape[1]
            low = jnp.where(there, at[:n], n).min(1)
            return low, jnp.where(there, at[:n] + 1, 0).max(1)

        (y0, y1), (x0, x1) = span(bright.any(2)), span(bright.any(1))
        box = jnp.stack([x0, y0, x1, y1], -1).astype(jnp.float32)
        whole = jnp.stack([0 * size[:, 0], 0 * size[:, 0], size[:, 1], size[:, 0]], -1).astype(jnp.float32)
        points = jnp.stack([(x0 + x1) / 2, (y0 + y1) / 2, jnp.ones(b)], -1)[:, None, None].repeat(2, 1)
        return {
            "boxes": jnp.stack([box, whole], 1),
            "scores": jnp.broadcast_to(jnp.asarray([0.9, 0.3]), (b, 2)),
            "classes": jnp.zeros((b, 2), jnp.int32),
            "valid": jnp.stack([bright.any((1, 2)), jnp.ones(b, bool)], 1),
            "masks": jnp.ones((b, 2, SIDE, SIDE)),
            "keypoints": points,
        }


@dataclass(frozen=True)
class Objects:
    """Everything that ``Bright`` finds."""

    def inputs(self, batch, *, train):
        return {key: batch[key] for key in ("image", "size") if key in batch}

    def loss(self, outputs, batch):
        return {}

    def predict(self, outputs, batch):
        return dict(outputs)

    def metrics(self):
        return {}


def run_of(*geometry):
    return TrainedModel(Bright(), {}, Objects(), None, 0, Path(), 0, False, geometry=geometry)


@pytest.mark.parametrize("size", [(100, 80), (30, 200), (64, 64), (40, 20)])
def test_objects_come_back_in_the_photograph(size):
    image = np.zeros((*size, 3), np.uint8)
    image[10:20, 4:16] = 255
    found = predict(run_of(ResizeWithin(64, 64), PadTo(64, 64)), image)
    np.testing.assert_allclose(found["boxes"][0], [4, 10, 16, 20], atol=max(2, 1.5 * max(size) / 64))
    np.testing.assert_allclose(found["boxes"][1], [0, 0, size[1], size[0]], atol=max(1.0, max(size) / 64))
    np.testing.assert_allclose(found["keypoints"][0, 0, :2], [10, 15], atol=max(2, 1.5 * max(size) / 64))
    assert found["masks"].shape == (2, SIDE, SIDE)


def test_the_network_is_told_what_is_image_also_in_tiles_and_shapes():
    seen = []

    class Told(Objects):
        def inputs(self, batch, *, train):
            seen.append((batch["image"].shape[1:3], "size" in batch))
            return super().inputs(batch, train=train)

    image = np.zeros((90, 150, 3), np.uint8)
    image[70:80, 100:120] = 255
    run = TrainedModel(Bright(), {}, Told(), None, 0, Path(), 0, False)
    whole = predict(run, image)
    np.testing.assert_allclose(whole["boxes"], [[100, 70, 120, 80], [0, 0, 150, 90]])
    padded = predict(run, image, shapes=((96, 160),))
    np.testing.assert_allclose(padded["boxes"], [[100, 70, 120, 80], [0, 0, 150, 90]])
    assert ((96, 160), True) in seen
    seen.clear()
    tiles = predict(run, image, tile=64, margin=0)
    assert {size for size, told in seen if told and size != (64, 64)} == set()
    sure = tiles["boxes"][tiles["valid"] & (tiles["scores"] > 0.5)]
    assert [100, 70, 120, 80] in sure.tolist()
    assert (tiles["boxes"] <= [150, 90, 150, 90]).all()


def test_detectors_see_photographs_whole():
    assert (tile_of(run_of(), None), tile_of(run_of(), 64)) == (2048, 64)
    assert [part.size for part in plan(run_of(), 1200, 1600)] == [(1200, 1600)]


def test_what_detectors_refuse():
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(BadInput, match="--tta takes means of maps of numbers; Bright predicts objects"):
        predict(run_of(), image, views=parse_tta("flip"))

    def segments(batch):
        return {"panoptic": np.zeros((*batch["image"].shape[:3], 2), np.int32)}

    with pytest.raises(BadInput, match=r"panoptic of 4 tiles cannot be assembled; an image of 90x90 needs --tile 90"):
        tiled(segments, None, tile=64, margin=0)({"image": np.zeros((1, 90, 90, 3), np.uint8)})
