"""Generated scenes give what detection, instance, keypoint and panoptic tasks read, with objects and without."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from jaxseg.data import Data, Source
from jaxseg.data.records import to_batch_row, validate
from jaxseg.data.sets import scenes
from jaxseg.data.slots import fit_slots, lines_of_text
from jaxseg.data.transforms import moves

TINY = (("size", (32, 40)), ("train", 6), ("val", 2))
KEYS = (
    *("image", "label", "boxes", "classes", "valid", "crowd", "difficult", "area", "keypoints", "instance_ids"),
    *("panoptic", "rle", "size", "original_size", "index"),
)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    source = Source("scenes", "train", (), TINY)
    data = Data(source, source, keys=KEYS, slots=8)
    (found,) = data.eval_batches(batch_size=6, data_dir=tmp_path_factory.mktemp("prepared"))
    return found


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_masks_areas_and_boxes_say_the_same_of_every_object(batch):
    assert batch["valid"].sum() >= 6
    for row in range(6):
        lines = lines_of_text(batch["rle"][row], 8)
        for slot in np.flatnonzero(batch["valid"][row]):
            mask = batch["instance_ids"][row] == slot + 1
            coded = {"size": [32, 40], "counts": lines[slot].encode()}
            np.testing.assert_array_equal(coco_mask.decode(coded), mask)
            assert batch["area"][row, slot] == mask.sum() == coco_mask.area(coded)
            x, y, width, height = coco_mask.toBbox(coded)
            assert batch["boxes"][row, slot].tolist() == [x, y, x + width, y + height]
        assert not any(lines[slot] for slot in np.flatnonzero(~batch["valid"][row]))


def test_panoptic_maps_name_class_and_object_of_each_pixel(batch):
    facts = scenes.FACTS
    for row in range(6):
        kind, ids = np.moveaxis(batch["panoptic"][row], -1, 0)
        np.testing.assert_array_equal(kind, batch["label"][row])
        np.testing.assert_array_equal(ids, batch["instance_ids"][row])
        for slot in np.flatnonzero(batch["valid"][row]):
            (name,) = {facts.classes[c] for c in kind[ids == slot + 1].tolist()}
            assert name == facts.things[batch["classes"][row, slot]]
        stuff = {facts.classes[c] for c in kind[ids == 0].tolist()}
        assert not stuff & set(facts.things)


def test_visible_joints_lie_on_their_object(batch):
    seen = 0
    for row, slot in np.argwhere(batch["valid"]):
        for x, y, visibility in batch["keypoints"][row, slot]:
            if visibility == 2:
                assert batch["instance_ids"][row, int(y), int(x)] == slot + 1
                seen += 1
    assert seen > 20
    assert batch["keypoints"].shape[2] == len(scenes.FACTS.joints)


def test_an_image_without_objects_is_an_example_like_any_other():
    record = scenes.scene("train", 0, 32, 40)
    free = [
        (y, x)
        for y in range(0, 32, 4)
        for x in range(0, 40, 4)
        if not record["instance_ids"][y : y + 4, x : x + 4].any()
    ]
    empty = moves.crop(record, *free[0], 4, 4)
    done = to_batch_row(fit_slots(empty, 8), keys=KEYS[:11], slots=8)
    validate(done, where="an empty scene", limits=scenes.FACTS.limits)
    assert not done["valid"].any()
    assert not done["boxes"].any()
    assert not done["instance_ids"].any()
    assert not done["panoptic"][..., 1].any()
