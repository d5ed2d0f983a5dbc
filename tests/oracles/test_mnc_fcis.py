"""MNC beside a construction in torch's functions, FCIS's head beside loops, and their losses beside literal ones.

The authors' files cannot be run here; their layers are written out from the published definitions. What depends on an
order or a maximum starts from our own numbers, so that rounding decides nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from jaxseg import registry
from jaxseg.layers.rpn import Proposals
from jaxseg.layers.sampling import sample_regions, with_objects
from jaxseg.models.instance.fcis import FCIS
from jaxseg.override import override
from jaxseg.tasks.fcis import FCISLoss
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.mnc import MNCLoss
from jaxseg.tasks.regions import Regions
from jaxseg.weights.names import convert

torch = pytest.importorskip("torch")
F = torch.nn.functional

SIZE, CLASSES, WIDTH, DENSE, HIDDEN = (75, 101), 3, 4, 16, 8
MEAN = (102.9801, 115.9465, 122.7717)


def image():
    return data.astronaut()[None, 30 : 30 + SIZE[0], 130 : 130 + SIZE[1]]


@functools.cache
def caffe_file():
    """Random weights under the names of the authors' file, scaled so that scores spread."""
    rng = np.random.default_rng(0)

    def drawn(*shape, gain=2.0):
        return rng.normal(0, (gain / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)

    weights, before, deep = {}, 3, 8 * WIDTH
    for k, count in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, count + 1):
            after = WIDTH * min(2 ** (k - 1), 8)
            weights[f"conv{k}_{i}.weight"] = drawn(after, before, 3, 3) * (1 if (k, i) != (1, 1) else 0.02)
            before = after
    weights["rpn_conv/3x3.weight"] = drawn(deep, deep, 3, 3)
    weights["rpn_cls_score.weight"] = drawn(18, deep, 1, 1)
    weights["rpn_bbox_pred.weight"] = drawn(36, deep, 1, 1, gain=0.2)
    weights["fc6_maskest.weight"] = drawn(HIDDEN, deep * 196)
    weights["mask_pred.weight"] = drawn(441, HIDDEN)
    for path in ("", "_mask"):
        weights[f"fc6{path}.weight"] = drawn(DENSE, deep * 49)
        weights[f"fc7{path}.weight"] = drawn(DENSE, DENSE)
    weights["cls_score.weight"] = drawn(CLASSES + 1, 2 * DENSE)
    weights["seg_cls_score.weight"] = drawn(CLASSES + 1, 2 * DENSE)
    weights["bbox_pred.weight"] = drawn(4 * (CLASSES + 1), 2 * DENSE, gain=0.01)
    for name in list(weights):
        weights[name.replace("weight", "bias")] = drawn(len(weights[name]), 1)[:, 0] * 0.1
    return weights | {f"{name}_ext.weight": weights[f"{name}.weight"] for name in ("fc6", "cls_score")}


@functools.cache
def seen():
    """What losses of MNC are made of, every proposal a region."""
    model = registry.create_small("mnc_vgg16", num_classes=CLASSES, width=WIDTH, dense=DENSE, mask_features=HIDDEN)
    model = override(override(model, "backbone.output_stride", 16), "stride", 16)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(image())))
    variables = convert(caffe_file(), shapes, registry.find("mnc_vgg16").names["caffe"])
    found = jax.device_get(jax.jit(lambda v, x: model.apply(v, x, train=True))(variables, jnp.asarray(image())))
    return {key: value if key == "anchors" else value[0] for key, value in found.items()}


def conv(x, name, padding=0):
    weights = caffe_file()
    return F.conv2d(x, torch.tensor(weights[f"{name}.weight"]), torch.tensor(weights[f"{name}.bias"]), padding=padding)


def dense(x, name):
    weights = caffe_file()
    x = x.reshape(len(x), -1)
    return F.linear(x, torch.tensor(weights[f"{name}.weight"]), torch.tensor(weights[f"{name}.bias"]))


@functools.cache
def map_of():
    """conv5_3 of the image; Caffe's pools keep the ragged edge."""
    x = torch.tensor(image()[..., ::-1].astype(np.float32) - np.asarray(MEAN, np.float32)).permute(0, 3, 1, 2)
    for k, count in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, count + 1):
            x = F.relu(conv(x, f"conv{k}_{i}", 1))
        if k < 5:
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
    return x


def warped(rois, side=28):
    """torch's sampling between cells, at corner + i / side of the box; beyond the map its edge."""
    features = map_of()
    height, width = features.shape[2:]
    out = []
    for roi in torch.tensor(rois) / 16:
        x, y = (roi[a] + torch.arange(side) / side * (roi[a + 2] - roi[a]) for a in (0, 1))
        grid = torch.stack(torch.meshgrid(x / (width - 1) * 2 - 1, y / (height - 1) * 2 - 1, indexing="xy"), -1)
        out.append(F.grid_sample(features, grid[None], align_corners=True, padding_mode="border")[0])
    return torch.stack(out)


def by_layers(rois):
    """Stages 2 and 3 of regions: mask logits, class scores, class scores by masks, codes."""
    x = F.max_pool2d(warped(rois), 2)
    masks = dense(F.relu(dense(x, "fc6_maskest")), "mask_pred").reshape(-1, 1, 21, 21)
    shown = F.interpolate(torch.sigmoid(masks), (14, 14), mode="bilinear", align_corners=False)
    paths = []
    for y, path in ((x * shown, "_mask"), (x, "")):
        paths.append(F.relu(dense(F.relu(dense(F.max_pool2d(y, 2), f"fc6{path}")), f"fc7{path}")))
    both = torch.cat(paths, 1)
    codes = dense(both, "bbox_pred").reshape(len(rois), -1, 4)
    return masks[:, 0], dense(both, "cls_score"), dense(both, "seg_cls_score"), codes


def rounds():
    """The regions of stage 3 and those of stage 5, in the same order."""
    found = seen()
    return [np.flatnonzero(found["roi_valid"] & (found["roi_repeated"] == again)) for again in (False, True)]


def test_proposal_layers_equal_torchs():
    x = F.relu(conv(map_of(), "rpn_conv/3x3", 1))
    scores = conv(x, "rpn_cls_score")[0].permute(1, 2, 0).numpy()
    codes = conv(x, "rpn_bbox_pred")[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(seen()["objectness"], (scores[..., 9:] - scores[..., :9]).reshape(-1), atol=1e-4)
    np.testing.assert_allclose(seen()["anchor_deltas"], codes.reshape(-1, 4), atol=1e-4)


@pytest.mark.parametrize("again", [0, 1], ids=["stages 2 and 3", "stages 4 and 5"])
def test_masks_and_classes_of_regions_equal_torchs(again):
    found, rows = seen(), rounds()[again]
    assert len(rows) > 10
    masks, scores, by_mask, codes = (x.numpy() for x in by_layers(found["rois"][rows]))
    np.testing.assert_allclose(found["mask_logits"][rows][..., 0], masks, atol=2e-3 * np.abs(masks).max())
    for key, wanted in (("roi_logits", scores), ("mask_class_logits", by_mask)):
        np.testing.assert_allclose(found[key][rows], wanted, atol=2e-3 * np.abs(wanted).max(), err_msg=key)
    ours = found["roi_deltas"][rows] / np.asarray([10, 10, 5, 5])  # the file's codes have no weights
    np.testing.assert_allclose(ours, codes, atol=2e-3 * np.abs(codes).max())


def test_the_bridge_moves_each_region_by_the_codes_of_its_best_class():
    found, (first, again) = seen(), rounds()
    rois, n = found["rois"][first], len(first)
    own = found["mask_class_logits"][first][:, 1:].argmax(1) + 1
    assert set(own.tolist()) != {1}, "the first class, whatever is said"
    dx, dy, dw, dh = (found["roi_deltas"][first][np.arange(n), own] / np.asarray([10, 10, 5, 5])).T
    w, h = rois[:, 2] - rois[:, 0], rois[:, 3] - rois[:, 1]
    x, y = rois[:, 0] + w / 2 + dx * w, rois[:, 1] + h / 2 + dy * h
    w, h = w * np.exp(dw), h * np.exp(dh)
    boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    boxes = np.clip(boxes, 0, [SIZE[1], SIZE[0]] * 2)
    assert len(again) == n
    np.testing.assert_allclose(found["rois"][again], boxes, atol=1e-3)


def test_the_gradient_reaches_the_boxes_and_is_limited():
    """The masks' part of the loss moves the proposal network through the boxes alone, by no more than the limit."""
    model = registry.create_small("mnc_vgg16", num_classes=CLASSES, width=WIDTH, dense=DENSE, mask_features=HIDDEN)
    model = override(override(model, "backbone.output_stride", 16), "stride", 16)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(image())))
    variables = convert(caffe_file(), shapes, registry.find("mnc_vgg16").names["caffe"])

    @jax.jit
    def slope(params, gain):
        loss = lambda p: gain * model.apply({"params": p}, jnp.asarray(image()), train=True)["mask_logits"].sum()  # noqa: E731
        return jax.grad(loss)(params)["rpn"]["deltas"]["bias"]

    few, many = (np.asarray(slope(variables["params"], gain)) for gain in (1.0, 1e3))
    assert np.abs(few).max() > 0
    most = model.train_proposing.after * model.gradient_limit
    assert np.abs(many).max() <= most
    assert np.abs(many).max() < 1e3 * np.abs(few).max(), "not limited"


def test_fcis_decides_by_the_larger_map_and_draws_by_the_difference():
    rng = np.random.default_rng(1)
    h, w, k, groups, side = 6, 8, 3, 3, 6
    model = registry.create_small("fcis_resnet101", num_classes=k - 1).clone(groups=groups, side=side, stride=8)
    scores = rng.standard_normal((1, h, w, groups * groups * k * 2)).astype(np.float32)
    codes = rng.standard_normal((1, h, w, groups * groups * 8)).astype(np.float32)
    rois = np.asarray([[[4, 4, 40, 36], [0, 0, 64, 48], [20, 12, 28, 44]]], np.float32)
    joint = jax.jit(lambda *given: model.apply({}, *given, method=FCIS._joint))
    logits, deltas, masks = joint(scores, codes, rois, jnp.ones((1, 3), bool))
    for p, (x0, y0, x1, y1) in enumerate(rois[0] / 8):
        pairs, moved = np.zeros((side, side, k, 2)), np.zeros((side, side, 2, 4))
        for i, j in np.ndindex(side, side):
            rows = slice(int(np.floor(y0 + i * (y1 - y0) / side)), int(np.ceil(y0 + (i + 1) * (y1 - y0) / side)))
            columns = slice(int(np.floor(x0 + j * (x1 - x0) / side)), int(np.ceil(x0 + (j + 1) * (x1 - x0) / side)))
            part = (i * groups // side) * groups + j * groups // side
            pairs[i, j] = scores[0, rows, columns].mean((0, 1)).reshape(groups**2, k, 2)[part]
            moved[i, j] = codes[0, rows, columns].mean((0, 1)).reshape(groups**2, 2, 4)[part]
        np.testing.assert_allclose(logits[0, p], pairs.max(-1).mean((0, 1)), atol=1e-5)
        np.testing.assert_allclose(deltas[0, p], moved.mean((0, 1)), atol=1e-5)
        np.testing.assert_allclose(masks[0, p], pairs[..., 1] - pairs[..., 0], atol=1e-5)


def scene():
    """One image of 40 by 48 with a rectangle and a disc, regions about them and elsewhere."""
    ids = np.zeros((40, 48), np.uint16)
    ids[6:22, 4:20] = 1
    rows, columns = np.mgrid[:40, :48] + 0.5
    ids[np.hypot(rows - 26, columns - 34) < 9] = 2
    boxes = np.asarray([[4, 6, 20, 22], [25, 17, 43, 35]], np.float32)
    rois = [[4, 6, 20, 22], [6, 8, 22, 22], [25, 17, 43, 35], [27, 15, 45, 33], [0, 24, 16, 40], [30, 0, 46, 12]]
    rng = np.random.default_rng(2)
    outputs = {
        "rois": np.asarray([rois], np.float32),
        "roi_valid": np.ones((1, 6), bool),
        "roi_logits": rng.standard_normal((1, 6, 4)).astype(np.float32),
        "roi_deltas": rng.standard_normal((1, 6, 4, 4)).astype(np.float32),
        "mask_class_logits": rng.standard_normal((1, 6, 4)).astype(np.float32),
        "mask_logits": 2 * rng.standard_normal((1, 6, 6, 6, 4)).astype(np.float32),
        "roi_repeated": np.asarray([[False, True, False, True, False, True]]),
    }
    batch = {"boxes": boxes[None], "valid": np.ones((1, 2), bool), "instance_ids": ids[None]}
    return outputs, batch, np.asarray([[2, 0]], np.int32)


OWN, NONE = [0, 0, 1, 1, -1, -1], -1
"""The object of each region."""


def cells(roi, mask, side=6, fine=24):
    """The share of each cell of a region that is the object's, at many points of it."""
    x0, y0, x1, y1 = roi
    at = (np.arange(side * fine) + 0.5) / (side * fine)
    inside = mask[np.ix_(np.floor(y0 + at * (y1 - y0)).astype(int), np.floor(x0 + at * (x1 - x0)).astype(int))]
    return inside.reshape(side, fine, side, fine).mean((1, 3))


def cross_entropy(logits, label):
    return np.log(np.exp(logits).sum()) - logits[label]


def smooth(codes):
    far = np.abs(codes)
    return np.where(far < 1, 0.5 * far**2, far - 0.5).sum()


def code(box, roi, weights):
    w, h = roi[2] - roi[0], roi[3] - roi[1]
    moved = ((box[0] + box[2] - roi[0] - roi[2]) / 2 / w, (box[1] + box[3] - roi[1] - roi[3]) / 2 / h)
    return np.asarray([*moved, np.log((box[2] - box[0]) / w), np.log((box[3] - box[1]) / h)]) * weights


def binary(logits, wanted):
    return np.logaddexp(0, logits) - logits * wanted


def terms_of(loss):
    outputs, batch, classes = (jax.tree.map(jnp.asarray, x) for x in scene())
    if isinstance(loss, MNCLoss):
        outputs["mask_logits"] = outputs["mask_logits"][..., :1]
    else:
        outputs["roi_deltas"] = outputs["roi_deltas"][:, :, :2]
    regions = Regions.of(outputs, batch, 0.5)
    assert np.where(np.asarray(regions.positive[0]), np.asarray(regions.index[0]), NONE).tolist() == OWN
    return {key: tuple(map(float, term)) for key, term in loss.terms(outputs, batch, regions, classes).items()}


def test_the_loss_of_fcis_is_of_the_hardest_regions():
    outputs, batch, classes = scene()
    parts = []
    for p, n in enumerate(OWN):
        label = classes[0, n] + 1 if n >= 0 else 0
        score, box, mask = cross_entropy(outputs["roi_logits"][0, p], label), 0.0, 0.0
        if n >= 0:
            wanted = code(batch["boxes"][0, n], outputs["rois"][0, p], [5, 5, 2, 2])
            box = smooth(outputs["roi_deltas"][0, p, 1] - wanted)
            target = cells(outputs["rois"][0, p], batch["instance_ids"][0] == n + 1) >= 0.4
            mask = binary(outputs["mask_logits"][0, p, ..., label], target).mean()
        parts.append((score, box, mask))
    parts = np.asarray(parts)
    hardest = np.argsort(-(parts @ [1, 1, 10]))[:3]
    terms = terms_of(FCISLoss(hardest=3))
    for i, (key, count, weight) in enumerate((("region_classes", 3, 1), ("region_boxes", 3, 1), ("masks", 3, 10))):
        np.testing.assert_allclose(terms[key], (parts[hardest, i].sum(), count, weight), rtol=1e-4, err_msg=key)
    all_of_them = terms_of(FCISLoss())
    np.testing.assert_allclose(all_of_them["region_classes"], (parts[:, 0].sum(), 6, 1), rtol=1e-4)
    np.testing.assert_allclose(all_of_them["masks"], (parts[:, 2].sum(), 128, 10), rtol=1e-4)


def test_the_loss_of_mnc_lets_masks_say_what_a_region_stands_for():
    outputs, batch, classes = scene()
    outputs["mask_logits"][0, 0] = np.where(np.arange(6)[:, None, None] < 6, 5.0, -5.0)  # covers its object
    outputs["mask_logits"][0, 2] = -5.0  # covers nothing of it
    parts = {key: np.zeros(6) for key in ("region_classes", "mask_classes", "region_boxes", "masks")}
    told = []
    for p, n in enumerate(OWN):
        label = classes[0, n] + 1 if n >= 0 else 0
        by_mask = 0
        if n >= 0:
            roi, truth = outputs["rois"][0, p], batch["instance_ids"][0] == n + 1
            cell = (roi[2] - roi[0]) * (roi[3] - roi[1]) / 36
            share, logits = cells(roi, truth), outputs["mask_logits"][0, p, ..., 0]
            mine = 1 / (1 + np.exp(-logits)) >= 0.4
            shared = (share * mine).sum() * cell
            if shared / (mine.sum() * cell + truth.sum() - shared) >= 0.5:
                by_mask = label
            parts["region_boxes"][p] = smooth(
                outputs["roi_deltas"][0, p, label] - code(batch["boxes"][0, n], roi, [10, 10, 5, 5])
            )
            parts["masks"][p] = binary(logits, share >= 0.4).mean()
        told.append(by_mask)
        parts["region_classes"][p] = cross_entropy(outputs["roi_logits"][0, p], label)
        parts["mask_classes"][p] = cross_entropy(outputs["mask_class_logits"][0, p], by_mask)
    assert told[0] == 3
    assert told[2] == 0
    found = dict(outputs)
    given = {key: jnp.asarray(value) for key, value in found.items()}
    given["mask_logits"] = given["mask_logits"][..., :1]
    truth = {key: jnp.asarray(value) for key, value in batch.items()}
    terms = MNCLoss().terms(given, truth, Regions.of(given, truth, 0.5), jnp.asarray(classes))
    for suffix, rows, objects in (("", [0, 2, 4], 2), ("_again", [1, 3, 5], 2)):
        for key, values in parts.items():
            of_masks = key == "masks"
            wanted = (values[rows].sum(), objects if of_masks else 3, 2 if of_masks else 1)
            np.testing.assert_allclose(tuple(map(float, terms[key + suffix])), wanted, rtol=1e-4, err_msg=key + suffix)


def test_a_network_brings_its_loss():
    for name, loss in (("mnc_vgg16", MNCLoss()), ("fcis_resnet101", FCISLoss())):
        task = Instance.for_model(registry.create_small(name), ("cat",))
        assert task.joint_loss == loss
        assert task.proposal_loss.inside
    assert Instance.for_model(registry.create_small("mask_rcnn_resnet50_c4"), ("cat",)).joint_loss is None


def test_kinds_of_background_share_what_objects_leave():
    truth = jnp.asarray([[[0.0, 0.0, 10.0, 10.0]]])
    near = jnp.asarray([[0.0, 0.0, 10.0, 3.0]])  # an overlap of 0.3
    boxes = jnp.concatenate([jnp.tile(near, (40, 1)), jnp.tile(near + 30, (40, 1)), jnp.tile(truth[0], (9, 1))])[None]
    valid = jnp.ones(boxes.shape[:2], bool)
    targets = {"boxes": truth, "valid": jnp.ones((1, 1), bool)}
    kinds = ((0.1, 0.5, 0.85), (0.0, 0.1, 0.15))
    draw = jax.jit(
        lambda key, valid: sample_regions(
            key,
            Proposals(boxes, valid.astype(jnp.float32), valid),
            targets,
            count=24,
            positive_fraction=0.2,
            backgrounds=kinds,
        )
    )
    rois, there, positive = draw(jax.random.key(0), valid)
    assert positive[0].tolist() == [True] * 4 + [False] * 20
    assert there.all()
    assert (np.asarray(rois[0, :, 0]) == 30).sum() == 3, "15 percent of twenty lie far away"
    _, there, positive = draw(jax.random.key(0), valid & (jnp.arange(89) < 5)[None])
    assert there.sum() == 6, "five near ones and the object itself"
    assert positive.sum() == 1
    everything, there, positive = with_objects(boxes, valid, targets)
    assert everything.shape[1] == 90
    assert positive[0, :10].all()
    assert not positive[0, 10:].any()
