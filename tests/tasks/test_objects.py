"""Tasks of objects: outputs that stand for no class, facts that do not fit, what the truth counts for."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.data import Facts
from jaxseg.errors import BadInput
from jaxseg.metrics import CocoBoxes, CocoMasks, MaskAPr, VocAP
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.keypoints import Keypoints
from jaxseg.tasks.panoptic import Panoptic
from jaxseg.tasks.regions import ProposalLoss, RegionLoss, Regions, match_anchors, proposal_terms, region_terms
from jaxseg.types import VOID

BOX = np.asarray([[[2, 2, 10, 12], [20, 4, 30, 30]]], np.float32)


def facts(things=("cat", "dog"), classes=(), joints=()):
    colours = tuple((i, i, i) for i in range(len(classes)))
    return Facts("zoo", "", classes, colours, {}, things=things, joints=joints)


def test_outputs_that_stand_for_no_class_are_numbered_around():
    task = Detection.for_model(None, ("person", "N/A", "car", "N/A", "dog"))
    assert task.classes == ("person", "car", "dog")
    assert task.unused == (1, 3)
    outputs = {
        "boxes": jnp.zeros((1, 4, 4)),
        "scores": jnp.asarray([[0.9, 0.8, 0.7, 0.0]]),
        "classes": jnp.asarray([[4, 1, 2, 0]]),
        "valid": jnp.asarray([[True, True, True, False]]),
    }
    found = task.predict(outputs, {})
    assert found["classes"].tolist() == [[2, 0, 1, 0]]
    assert found["valid"].tolist() == [[True, False, True, False]]


def test_objects_are_learnt_under_the_outputs_of_their_classes():
    task = Detection(5, unused=(1, 3))
    one = jnp.ones((1, 1), bool)
    logits = jnp.zeros((1, 1, 6)).at[0, 0, 5].set(20.0)
    outputs = {
        "rois": jnp.asarray(BOX[:, :1]),
        "roi_valid": one,
        "roi_logits": logits,
        "roi_deltas": jnp.zeros((1, 1, 6, 4)),
        "anchors": jnp.asarray(BOX[0]),
        "objectness": jnp.zeros((1, 2)),
        "anchor_deltas": jnp.zeros((1, 2, 4)),
        "anchor_luck": jnp.zeros((1, 2)),
    }
    batch = {"boxes": jnp.asarray(BOX[:, :1]), "valid": one, "classes": jnp.asarray([[2]])}
    right, wrong = (task.loss(outputs, {**batch, "classes": jnp.asarray([[c]])}) for c in (2, 1))
    assert float(right["region_classes"].sum) < 1e-3
    assert float(wrong["region_classes"].sum) > 10


@pytest.mark.parametrize(
    ("task", "known", "told"),
    [
        (Detection(3), facts(), "3 classes of objects, but data set 'zoo' has 2"),
        (Detection(2, ("cat", "cow")), facts(), "class 'cow' is 'dog'"),
        (Detection(2), facts(things=()), "has no objects"),
        (Keypoints(2, joints=("tip",)), facts(joints=("tip", "tail")), "joints"),
        (
            Panoptic(2, ("cat", "dog"), labels=("sky", "cat", "dog")),
            facts(classes=("cat", "dog", "sky")),
            "are not the classes",
        ),
    ],
    ids=["number", "name", "no objects", "joints", "labels"],
)
def test_a_data_set_of_other_objects_is_refused(task, known, told):
    with pytest.raises(BadInput, match=told):
        task.check_facts(known)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Detection(2, ("cat",)), "1 class names for 2 outputs"),
        (lambda: Detection(2, unused=(2,)), "unused outputs"),
        (lambda: RegionLoss(overlap=0.4), "at least 0.5"),
        (lambda: Panoptic(1, ("cat",), labels=("sky",)), "labels lack cat"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, told):
    with pytest.raises(BadInput, match=told):
        make()


def test_a_network_of_another_number_of_classes_is_refused():
    outputs = {"class_logits": jnp.zeros((1, 2, 7)), "anchors": jnp.asarray(BOX[0])}
    batch = {"boxes": jnp.asarray(BOX), "valid": jnp.ones((1, 2), bool), "classes": jnp.zeros((1, 2), jnp.int32)}
    with pytest.raises(BadInput, match="outputs for 7 classes"):
        Detection(3).loss(outputs, batch)


def test_a_network_of_another_number_of_kinds_of_stuff_is_refused():
    task = Panoptic(1, ("cat",), labels=("sky", "cat", "grass"))
    outputs, batch = {"logits": jnp.zeros((1, 4, 4, 2))}, {"label": jnp.zeros((1, 4, 4), jnp.int32)}
    with pytest.raises(BadInput, match="labels 1 kinds of stuff, the task has 2: build it with num_stuff=2"):
        task.loss(outputs, batch)


def test_crowds_match_nothing_and_are_no_background():
    anchors = jnp.asarray([[2, 2, 10, 12], [3, 3, 9, 11], [20, 4, 30, 30], [60, 60, 70, 70]], jnp.float32)
    truth = {
        "boxes": jnp.asarray(BOX[0]),
        "valid": jnp.ones(2, bool),
        "crowd": jnp.asarray([True, False]),
    }
    index = match_anchors(anchors, truth, high=0.7, low=0.3, crowd_overlap=0.7)
    assert index.tolist() == [-2, -2, 1, -1]


def test_unreal_rows_add_nothing():
    """A row that fills up a batch has the same objects again, and would count twice."""
    rng = np.random.default_rng(0)
    boxes, corner = np.repeat(BOX, 2, 0), rng.uniform(0, 30, (6, 2))
    outputs = {
        "anchors": jnp.asarray(np.concatenate([corner, corner + 8], -1), jnp.float32),
        "objectness": jnp.asarray(rng.normal(size=(2, 6)), jnp.float32),
        "anchor_deltas": jnp.asarray(rng.normal(size=(2, 6, 4)), jnp.float32),
        "anchor_luck": jnp.asarray(rng.uniform(size=(2, 6)), jnp.float32),
        "rois": jnp.asarray(boxes),
        "roi_valid": jnp.ones((2, 2), bool),
        "roi_logits": jnp.asarray(rng.normal(size=(2, 2, 3)), jnp.float32),
        "roi_deltas": jnp.asarray(rng.normal(size=(2, 2, 3, 4)), jnp.float32),
    }
    batch = {"boxes": jnp.asarray(boxes), "valid": jnp.ones((2, 2), bool), "classes": jnp.zeros((2, 2), jnp.int32)}
    first = {key: value[:1] if key != "anchors" else value for key, value in outputs.items()}
    alone = Detection(2).loss(first, {key: value[:1] for key, value in batch.items()})
    filled = Detection(2).loss(outputs, {**batch, "real": jnp.asarray([True, False])})
    both = Detection(2).loss(outputs, batch)
    for name, term in alone.items():
        np.testing.assert_allclose(filled[name].sum, term.sum, rtol=1e-6, err_msg=name)
        assert float(filled[name].count) == float(term.count) < float(both[name].count)


def test_the_proposal_loss_is_divided_as_asked():
    outputs = {
        "anchors": jnp.asarray(BOX[0]),
        "objectness": jnp.zeros((1, 2)),
        "anchor_deltas": jnp.ones((1, 2, 4)),
        "anchor_luck": jnp.zeros((1, 2)),
    }
    batch = {"boxes": jnp.asarray(BOX), "valid": jnp.ones((1, 2), bool)}
    sampled, slots = (proposal_terms(outputs, batch, ProposalLoss(divide_by=by)) for by in ("sampled", "slots"))
    assert float(sampled["objectness"].count) == 2
    assert float(slots["objectness"].count) == 256
    assert float(sampled["objectness"].sum) == float(slots["objectness"].sum)


def test_one_code_for_all_classes_serves_every_class():
    one = jnp.ones((1, 1), bool)
    regions = Regions(jnp.zeros((1, 1), jnp.int32), one, one)
    outputs = {
        "rois": jnp.asarray(BOX[:, :1]),
        "roi_logits": jnp.zeros((1, 1, 4)),
        "roi_deltas": jnp.full((1, 1, 1, 4), 0.5),
    }
    how = Detection(3).region_loss
    found = [
        float(region_terms(outputs, {"boxes": jnp.asarray(BOX)}, regions, jnp.asarray([[c, 0]]), how)[name].sum)
        for c in (0, 2)
        for name in ("region_boxes",)
    ]
    assert found[0] == found[1] == pytest.approx(4 * (0.5 - 1 / 18), rel=1e-5)


def test_stuff_is_learnt_beside_one_class_of_things():
    """Void pixels and things that the branch calls things cost nothing."""
    task = Panoptic(1, ("cat",), labels=("sky", "cat", "grass"))
    label = jnp.asarray([[[0, 1, 2, VOID]]])
    columns = jnp.asarray([[[1, 0, 2, 0]]])
    logits = 30.0 * jnp.asarray(np.eye(3, dtype=np.float32))[columns]
    regions = {
        "rois": jnp.asarray(BOX[:, :1]),
        "roi_valid": jnp.ones((1, 1), bool),
        "roi_logits": jnp.zeros((1, 1, 2)),
        "roi_deltas": jnp.zeros((1, 1, 2, 4)),
        "mask_logits": jnp.zeros((1, 1, 2, 2, 2)),
        "anchors": jnp.asarray(BOX[0]),
        "objectness": jnp.zeros((1, 2)),
        "anchor_deltas": jnp.zeros((1, 2, 4)),
        "anchor_luck": jnp.zeros((1, 2)),
    }
    batch = {
        "boxes": jnp.asarray(BOX),
        "valid": jnp.ones((1, 2), bool),
        "classes": jnp.zeros((1, 2), jnp.int32),
        "instance_ids": jnp.ones((1, 32, 32), jnp.uint16),
        "label": label,
    }
    term = task.loss({**regions, "logits": logits}, batch)["semantic"]
    assert float(term.sum) < 1e-6
    assert float(term.count) == 3
    assert term.weight == 0.5
    wrong = task.loss({**regions, "logits": jnp.roll(logits, 1, -1)}, batch)["semantic"]
    assert float(wrong.sum) > 80


@pytest.mark.parametrize(("evaluation", "kind"), [("coco", CocoMasks), ("voc", MaskAPr), ("voc2007", MaskAPr)])
def test_masks_are_judged_as_boxes_are(evaluation, kind):
    task = Instance(2, evaluation=evaluation, paste="detectron2")
    assert isinstance(task.metrics()["masks"], kind)
    assert task.metrics()["masks"].paste == "detectron2"
    assert isinstance(task.metrics()["boxes"], CocoBoxes if evaluation == "coco" else VocAP)


def test_padding_is_void_in_the_panoptic_map():
    task = Panoptic(1, ("cat",), labels=("sky", "cat"), stuff_area=1)
    outputs = {
        "boxes": jnp.zeros((1, 1, 4)),
        "scores": jnp.zeros((1, 1)),
        "classes": jnp.zeros((1, 1), jnp.int32),
        "valid": jnp.zeros((1, 1), bool),
        "masks": jnp.zeros((1, 1, 4, 4)),
        "logits": jnp.zeros((1, 8, 8, 2)).at[..., 1].set(1.0),
    }
    found = task.predict(outputs, {"size": jnp.asarray([[5, 6]])})["panoptic"]
    assert (found[0, :5, :6, 0] == 0).all()
    assert (found[0, 5:, :, 0] == VOID).all()
    assert (found[0, :, 6:, 0] == VOID).all()


def test_a_models_own_count_of_things_makes_its_panoptic_task():
    task = Panoptic.for_model(SimpleNamespace(num_things=2), ("cat", "dog", "sky", "grass"))
    assert task.classes == ("cat", "dog")
    assert task.stuff == (2, 3)


@pytest.mark.parametrize("inside", [False, True])
def test_only_anchors_in_the_image_learn_where_the_paper_says_so(inside):
    """Of three anchors that are background one reaches over the canvas, one over what is image of it."""
    anchors = jnp.asarray([[0.0, 0, 8, 8], [-1, 0, 8, 8], [0, 4, 8, 17]], jnp.float32)
    outputs = {
        "anchors": anchors,
        "objectness": jnp.zeros((1, 3)),
        "anchor_deltas": jnp.zeros((1, 3, 4)),
        "anchor_luck": jnp.zeros((1, 3)),
    }
    batch = {
        "image": jnp.zeros((1, 32, 32, 3), jnp.uint8),
        "size": jnp.asarray([[16, 32]], jnp.int32),
        "boxes": jnp.asarray([[[20.0, 0, 30, 10]]]),
        "valid": jnp.zeros((1, 1), bool),
    }
    terms = proposal_terms(outputs, batch, ProposalLoss(inside=inside))
    assert terms["objectness"].count == (1 if inside else 3)
