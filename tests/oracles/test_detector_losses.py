"""Losses of detectors beside torchvision's, of the same weights, objects and samples: each term."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.detection import retinanet
from jaxseg.ops.match import BELOW, sample_by
from jaxseg.tasks.anchors import AnchorLoss
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.keypoints import Keypoints
from jaxseg.tasks.regions import ProposalLoss, match_anchors, targets_of
from jaxseg.weights.names import convert
from tests.oracles.test_detectors import (
    CLASSES,
    SIZES,
    keep_size,
    ours_rcnn,
    ours_retina,
    photograph,
    rcnn,
    reference,
    retina,
    tensors,
    torch,
    uncompiled,
)

__all__ = ["uncompiled"]

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

SAMPLES = 32


def truth():
    """Objects of two photographs: three, one of them hidden in part by another, and two; one slot is free."""
    height, width = SIZES[1]
    boxes = np.zeros((2, 4, 4), np.float32)
    boxes[0, :3] = [[10, 12, 60, 70], [30.5, 20, 90.25, 90], [100, 5, 150, 50]]
    boxes[1, :2] = [[0, 0, 40, 33], [60, 40, 158, 95]]
    valid = np.asarray([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
    masks = np.zeros((2, 4, height, width), bool)
    rows, columns = np.mgrid[:height, :width]
    for i, n in np.argwhere(valid):
        x0, y0, x1, y1 = boxes[i, n]
        inside = ((columns - (x0 + x1) / 2) / (x1 - x0)) ** 2 + ((rows - (y0 + y1) / 2) / (y1 - y0)) ** 2 < 0.22
        masks[i, n] = inside
    ids = np.zeros((2, height, width), np.uint16)
    hidden = np.zeros_like(ids)
    for i, n in np.argwhere(valid):
        hidden[i] = np.where(masks[i, n] & (ids[i] > 0), ids[i], hidden[i])
        ids[i] = np.where(masks[i, n], n + 1, ids[i])
    assert (hidden > 0).any()
    rng = np.random.default_rng(3)
    points = rng.uniform(0, 1, (2, 4, 5, 3)).astype(np.float32)
    points[..., :2] = boxes[:, :, None, :2] + points[..., :2] * 1.1 * (boxes[:, :, None, 2:] - boxes[:, :, None, :2])
    points[..., 2] = rng.integers(0, 3, points.shape[:3])
    classes = np.asarray([[0, 3, 5, 0], [2, 2, 0, 0]], np.int32)
    batch = {
        "image": photograph(height, width),
        "boxes": boxes,
        "valid": valid,
        "classes": classes,
        "instance_ids": ids,
        "hidden_ids": hidden,
        "keypoints": points * valid[..., None, None],
    }
    return batch, masks


def theirs_of(batch, masks, background):
    found = []
    for i, valid in enumerate(batch["valid"]):
        points = batch["keypoints"][i][valid].copy()
        one = {
            "boxes": batch["boxes"][i][valid],
            "labels": batch["classes"][i][valid].astype(np.int64) + background,
            "masks": masks[i][valid].astype(np.uint8),
            "keypoints": points,
        }
        found.append({key: torch.from_numpy(value) for key, value in one.items()})
    return found


def trained_outputs(ours, rules, theirs, task, batch):
    images = batch["image"]
    source = {name: value.numpy() for name, value in theirs.state_dict().items()}
    shapes = jax.eval_shape(lambda: ours.init(jax.random.key(0), jnp.asarray(images)))
    variables = convert(source, shapes, rules)

    @jax.jit
    def run(variables, batch):
        inputs = task.inputs(batch, train=True)
        outputs, _ = ours.apply(
            variables, **inputs, train=True, rngs={"sample": jax.random.key(7)}, mutable=["batch_stats"]
        )
        terms = task.loss(outputs, batch)
        return {key: value for key, value in outputs.items() if key != "levels"}, terms

    return jax.device_get(run(variables, batch))


def sampled_anchors(outputs, batch, how):
    """Which anchors our loss looks at, positive and negative, as torchvision's sampler returns them."""
    truth = targets_of(jax.tree.map(jnp.asarray, batch))
    pairs = []
    for i, luck in enumerate(outputs["anchor_luck"]):
        one = {key: jnp.asarray(value[i]) for key, value in truth.items()}
        index = match_anchors(
            jnp.asarray(outputs["anchors"]), one, high=how.high, low=how.low, crowd_overlap=how.crowd_overlap
        )
        drawn = sample_by(
            jnp.asarray(luck), index >= 0, index == BELOW, count=how.samples, fraction=how.positive_fraction
        )
        masks = []
        for positive in (True, False):
            mask = np.zeros(len(luck), np.uint8)
            mask[np.asarray(drawn.index)[np.asarray(drawn.valid & (drawn.positive == positive))]] = 1
            masks.append(torch.from_numpy(mask))
        pairs.append(masks)
    assert sum(int(positive.sum()) for positive, _ in pairs) >= 5
    return [one[0] for one in pairs], [one[1] for one in pairs]


def training(model, *, frozen):
    """Put it into training mode, but for the statistics of the backbone where ours are frozen."""
    model.train()
    for module in model.modules():
        if frozen and isinstance(module, torch.nn.BatchNorm2d):
            module.eval()


def hand_over(model, outputs, batch, how):
    """Let torchvision take the anchors and the regions that we sampled."""
    model.rpn.fg_bg_sampler = lambda labels: sampled_anchors(outputs, batch, how)
    heads = model.roi_heads

    def select(proposals, targets):
        rois = [torch.from_numpy(roi[there]) for roi, there in zip(outputs["rois"], outputs["roi_valid"], strict=True)]
        boxes, classes = [t["boxes"] for t in targets], [t["labels"] for t in targets]
        matched, labels = heads.assign_targets_to_proposals(rois, boxes, classes)
        own = [box[index] for box, index in zip(boxes, matched, strict=True)]
        return rois, matched, labels, heads.box_coder.encode(own, rois)

    heads.select_training_samples = select


def compare(terms, theirs, pairs):
    for ours, name in pairs.items():
        term = terms[ours]
        mean = float(term.sum) / max(float(term.count), 1)
        assert theirs[name].item() > 1e-3, f"{name} shows nothing"
        np.testing.assert_allclose(mean, theirs[name].item(), rtol=1e-4, atol=1e-4, err_msg=ours)


@pytest.mark.parametrize(
    "kind", ["mask", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("box", "keypoint"))]
)
def test_each_term_of_a_two_stage_detector_is_torchvisions(kind, monkeypatch):
    how = ProposalLoss(samples=SAMPLES)
    task = {
        "box": Detection(CLASSES, proposal_loss=how),
        "mask": Instance(CLASSES, proposal_loss=how),
        "keypoint": Keypoints(CLASSES, proposal_loss=how, joints=tuple("abcde")),
    }[kind]
    theirs = reference(functools.partial(rcnn, kind, 1), monkeypatch)
    ours, rules = ours_rcnn(kind, 1)
    ours = ours.clone(samples=SAMPLES)
    batch, masks = truth()
    outputs, terms = trained_outputs(ours, rules, theirs, task, batch)
    hand_over(theirs, outputs, batch, how)
    training(theirs, frozen=True)
    keep_size(theirs, SIZES[1])
    found = theirs(tensors(batch["image"]), theirs_of(batch, masks, background=1))
    pairs = {
        "objectness": "loss_objectness",
        "proposal_boxes": "loss_rpn_box_reg",
        "region_classes": "loss_classifier",
        "region_boxes": "loss_box_reg",
        "masks": "loss_mask",
        "keypoints": "loss_keypoint",
    }
    assert set(found) == {pairs[name] for name in terms}
    compare(terms, found, {name: pairs[name] for name in terms})


@pytest.mark.parametrize("version", [1, 2])
def test_each_term_of_retinanet_is_torchvisions(version, monkeypatch):
    theirs = reference(functools.partial(retina, version), monkeypatch)
    if version == 2:
        theirs.head.regression_head._loss_type = "giou"
    task = Detection(CLASSES, anchor_loss=AnchorLoss(box="smooth_l1" if version == 1 else "giou"))
    batch, masks = truth()
    _, terms = trained_outputs(ours_retina(version), retinanet.TORCHVISION_NAMES, theirs, task, batch)
    training(theirs, frozen=version == 1)
    keep_size(theirs, SIZES[1])
    found = theirs(tensors(batch["image"]), theirs_of(batch, masks, background=0))
    compare(terms, found, {"anchor_classes": "classification", "anchor_boxes": "bbox_regression"})
