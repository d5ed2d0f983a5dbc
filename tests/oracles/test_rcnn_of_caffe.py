"""Fast and Faster R-CNN on VGG16 beside constructions in torch's functions and loops in NumPy, of the same weights.

Caffe's files cannot be run here: every step is written out from the authors' published layers. What depends on an order
(suppression) starts from our own scores, so that rounding decides nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from jaxseg import registry
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import CAFFE
from jaxseg.models.detection.fast_rcnn import truncated
from jaxseg.ops.warp_regions import warp_regions
from jaxseg.override import override
from jaxseg.weights.names import convert

torch = pytest.importorskip("torch")
F = torch.nn.functional

SIZE, CLASSES, WIDTH, DENSE = (75, 101), 3, 4, 16
MEAN = (102.9801, 115.9465, 122.7717)
BLOCKS = (2, 2, 3, 3, 3)
LAST = np.asarray([0, 0, 1, 1], np.float32)
"""What half-open boxes have more than the authors', which end at their last pixel."""


def image():
    return data.astronaut()[None, 30 : 30 + SIZE[0], 130 : 130 + SIZE[1]]


@functools.cache
def caffe_file(anchors=9):
    """Random weights under the names of the authors' files, scaled so that scores spread."""
    rng = np.random.default_rng(0)

    def drawn(*shape, gain=2.0):
        return rng.normal(0, (gain / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)

    weights, before = {}, 3
    for k, count in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            after = WIDTH * min(2 ** (k - 1), 8)
            weights[f"conv{k}_{i}.weight"] = drawn(after, before, 3, 3) * (1 if (k, i) != (1, 1) else 0.02)
            before = after
    deep = 8 * WIDTH
    weights["rpn_conv/3x3.weight"] = drawn(deep, deep, 3, 3)
    weights["rpn_cls_score.weight"] = drawn(2 * anchors, deep, 1, 1)
    weights["rpn_bbox_pred.weight"] = drawn(4 * anchors, deep, 1, 1, gain=0.2)
    weights["fc6.weight"] = drawn(DENSE, deep * 49)
    weights["fc7.weight"] = drawn(DENSE, DENSE)
    weights["cls_score.weight"] = drawn(CLASSES + 1, DENSE)
    weights["bbox_pred.weight"] = drawn(4 * (CLASSES + 1), DENSE, gain=0.01)
    for name in list(weights):
        weights[name.replace("weight", "bias")] = drawn(len(weights[name]), 1)[:, 0] * 0.1
    return weights


@functools.cache
def ours(name):
    """(model, variables) of a small network with the file's weights."""
    entry = registry.find(name)
    model = registry.create_small(name, num_classes=CLASSES, width=WIDTH, dense=DENSE)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(image())))
    source = {k: v for k, v in caffe_file().items() if name.startswith("faster") or not k.startswith("rpn")}
    return model, jax.tree.map(jnp.asarray, convert(source, shapes, entry.names["caffe"]))


def conv(x, name, padding=0):
    weights = caffe_file()
    return F.conv2d(x, torch.tensor(weights[f"{name}.weight"]), torch.tensor(weights[f"{name}.bias"]), padding=padding)


def dense(x, name):
    weights = caffe_file()
    return F.linear(x, torch.tensor(weights[f"{name}.weight"]), torch.tensor(weights[f"{name}.bias"]))


def map_of(image):
    """conv5_3 of raw RGB pixels; Caffe's pools keep the ragged edge."""
    pixels = torch.tensor(image[..., ::-1].astype(np.float32) - np.asarray(MEAN, np.float32)).permute(0, 3, 1, 2)
    for k, count in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            pixels = F.relu(conv(pixels, f"conv{k}_{i}", 1))
        if k < 5:
            pixels = F.max_pool2d(pixels, 2, 2, ceil_mode=True)
    return pixels


def pooled(features, rois, side=7):
    """The authors' ROIPooling, a loop over bins; rois by their first and last pixels."""
    channels, height, width = features.shape
    out = np.zeros((len(rois), channels, side, side), np.float32)
    for n, roi in enumerate(rois):
        x0, y0, x1, y1 = (int(np.floor(side_ / 16 + 0.5)) for side_ in roi)
        h, w = max(y1 - y0 + 1, 1) / side, max(x1 - x0 + 1, 1) / side
        for i in range(side):
            for j in range(side):
                top, end = (int(np.clip(v + y0, 0, height)) for v in (np.floor(i * h), np.ceil((i + 1) * h)))
                left, right = (int(np.clip(v + x0, 0, width)) for v in (np.floor(j * w), np.ceil((j + 1) * w)))
                if end > top and right > left:
                    out[n, :, i, j] = features[:, top:end, left:right].max((1, 2))
    return out


def heads(features, rois):
    """Class scores and codes of each region."""
    x = torch.tensor(pooled(features[0].numpy(), rois).reshape(len(rois), -1))
    x = F.relu(dense(F.relu(dense(x, "fc6")), "fc7"))
    return dense(x, "cls_score").numpy(), dense(x, "bbox_pred").numpy().reshape(len(rois), -1, 4)


@functools.cache
def seen(name):
    """What losses of a network are made of, without dropout and targets: all proposals are regions."""
    model, variables = ours(name)
    still = override(model, "box_head.dropout", 0.0)
    found = jax.jit(lambda v, *given: still.apply(v, *given, train=True))
    given = () if name.startswith("faster") else (None, None, jnp.asarray(some_regions() + LAST)[None])
    return jax.device_get(found(variables, jnp.asarray(image()), *given))


def some_regions():
    """Regions by their first and last pixels, f32[12 4]; some reach over the map's last cells."""
    rng = np.random.default_rng(1)
    corner = rng.integers(0, 60, (12, 2))
    end = np.minimum(corner + rng.integers(4, 70, (12, 2)), (SIZE[1] - 1, SIZE[0] - 1))
    return np.concatenate([corner, end], 1).astype(np.float32)


def test_fast_rcnn_equals_its_layers_written_out():
    found = seen("fast_rcnn_vgg16")
    logits, codes = heads(map_of(image()), some_regions())
    np.testing.assert_array_equal(found["rois"][0], some_regions() + LAST)
    np.testing.assert_allclose(found["roi_logits"][0], logits, rtol=1e-3, atol=1e-3 * np.abs(logits).max())
    weighed = codes * np.asarray([10, 10, 5, 5], np.float32)
    np.testing.assert_allclose(found["roi_deltas"][0], weighed, rtol=1e-3, atol=1e-3 * np.abs(weighed).max())


def test_faster_rcnn_equals_its_layers_written_out():
    found = seen("faster_rcnn_vgg16")
    features = map_of(image())
    x = F.relu(conv(features, "rpn_conv/3x3", 1))
    scores = conv(x, "rpn_cls_score").reshape(1, 2, 9, *x.shape[2:]).softmax(1)[0, 1]
    mine = 1 / (1 + np.exp(-found["objectness"][0]))
    np.testing.assert_allclose(mine, scores.permute(1, 2, 0).reshape(-1), rtol=1e-3, atol=1e-4)
    deltas = conv(x, "rpn_bbox_pred")[0].permute(1, 2, 0).reshape(-1, 4).numpy()
    np.testing.assert_allclose(found["anchor_deltas"][0], deltas, rtol=1e-3, atol=1e-3)
    rois = found["rois"][0][found["roi_valid"][0]] - LAST
    logits, codes = heads(features, rois)
    count = len(rois)
    np.testing.assert_allclose(found["roi_logits"][0, :count], logits, rtol=1e-3, atol=1e-3 * np.abs(logits).max())
    weighed = codes * np.asarray([10, 10, 5, 5], np.float32)
    np.testing.assert_allclose(found["roi_deltas"][0, :count], weighed, rtol=1e-3, atol=1e-3 * np.abs(weighed).max())


def test_proposals_are_those_of_the_authors_layer():
    """Decoded, clipped, the small left out, suppressed with widths that count the last pixel."""
    found, how = seen("faster_rcnn_vgg16"), ours("faster_rcnn_vgg16")[0].train_proposing
    anchors, deltas = found["anchors"] - LAST, found["anchor_deltas"][0]
    w, h = anchors[:, 2] - anchors[:, 0] + 1, anchors[:, 3] - anchors[:, 1] + 1
    x, y = anchors[:, 0] + 0.5 * w + deltas[:, 0] * w, anchors[:, 1] + 0.5 * h + deltas[:, 1] * h
    w, h = w * np.exp(deltas[:, 2]), h * np.exp(deltas[:, 3])
    boxes = np.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h], 1)
    boxes = np.stack([np.clip(boxes[:, i], 0, SIZE[1 - i % 2] - 1) for i in range(4)], 1)
    large = ((boxes[:, 2:] - boxes[:, :2] + 1) >= how.min_size).all(1)
    order = [n for n in np.argsort(-found["objectness"][0], kind="stable")[: how.before] if large[n]]
    kept: list[int] = []
    for n in order:
        if all(overlap(boxes[n], boxes[m]) <= how.threshold for m in kept):
            kept.append(n)
    wanted = boxes[kept[: how.after]]
    rois = found["rois"][0][found["roi_valid"][0]] - LAST
    assert len(rois) == len(wanted) > 10
    np.testing.assert_allclose(rois, wanted, atol=1e-2)


def overlap(a, b):
    """Intersection over union by first and last pixels."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(w, 0) * max(h, 0)
    area = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
    return shared / (area - shared)


def test_background_of_fast_rcnn_overlaps_an_object_a_little():
    """A quarter of the regions are objects; of the others only those with 0.1 to 0.5 in common are drawn."""
    model, variables = ours("fast_rcnn_vgg16")
    truth = {"boxes": jnp.asarray([[[10.0, 10, 50, 50]]]), "valid": jnp.ones((1, 1), bool)}
    near, far, on = [10.0, 10, 30, 40], [60.0, 10, 90, 40], [10.0, 10, 50, 48]
    given = jnp.asarray([[near, far, on]])
    found = model.clone(samples=8, least_overlap=0.1).apply(
        variables,
        jnp.asarray(image()),
        None,
        truth,
        given,
        train=True,
        rngs={"dropout": jax.random.key(0), "sample": jax.random.key(0)},
    )
    drawn = {tuple(box) for box in np.asarray(found["rois"][0])[np.asarray(found["roi_valid"][0])].tolist()}
    assert drawn == {tuple(near), tuple(on), (10.0, 10.0, 50.0, 50.0)}
    assert found["roi_positive"][0].tolist() == [True, True] + 6 * [False]


def test_a_truncated_head_is_the_product_of_its_factors():
    """Whole ranks change nothing; fewer give what NumPy's factors give (Girshick 2015, section 3.1)."""
    model, variables = ours("fast_rcnn_vgg16")
    regions = jnp.asarray(np.random.default_rng(2).normal(size=(1, 3, 7, 7, 8 * WIDTH)), jnp.float32)
    small, fewer = truncated(model, variables, (6, 5))
    assert fewer["params"]["box_head"]["fc6_right"]["kernel"].shape == (7, 7, 8 * WIDTH, 6)
    assert fewer["params"]["box_head"]["fc7"]["kernel"].shape == (1, 1, 5, DENSE)
    layers, x = variables["params"]["box_head"], np.asarray(regions).reshape(3, -1)
    for name, rank in (("fc6", 6), ("fc7", 5)):
        matrix = np.asarray(layers[name]["kernel"]).reshape(-1, DENSE)
        left, middle, right = np.linalg.svd(matrix, full_matrices=False)
        near = left[:, :rank] * middle[:rank] @ right[:rank]
        x = np.maximum(x @ near + np.asarray(layers[name]["bias"]), 0)
    head = small.box_head.apply({"params": fewer["params"]["box_head"]}, regions, train=False)
    np.testing.assert_allclose(head[0], x, rtol=1e-3, atol=1e-3 * np.abs(x).max())
    same, whole = truncated(model, variables, (DENSE, DENSE))
    for found in (variables["params"], whole["params"]):
        assert set(found) == set(variables["params"])
    plain = model.box_head.apply({"params": layers}, regions, train=False)
    again = same.box_head.apply({"params": whole["params"]["box_head"]}, regions, train=False)
    np.testing.assert_allclose(again, plain, rtol=1e-3, atol=1e-3 * float(jnp.abs(plain).max()))
    with pytest.raises(BadInput, match="3 ranks for 2 dense layers"):
        truncated(model, variables, (1, 1, 1))


def test_rcnn_equals_its_layers_written_out():
    """AlexNet of Caffe on every warped proposal: groups, pools that round up, response normalisation."""
    model = registry.create_small("rcnn_alexnet", num_classes=CLASSES, crop=131, at_once=5)
    given = jnp.asarray(some_regions()[:7] + LAST)[None]
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(image()), None, None, given))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes["params"])
    params["backbone"]["conv1"]["kernel"] *= 0.02
    still = override(model, "box_head.dropout", 0.0)
    run = jax.jit(
        lambda params, given: still.apply({"params": params}, jnp.asarray(image()), None, None, given, train=True)
    )
    found = run(jax.tree.map(jnp.asarray, params), given)["roi_logits"][0]
    pixels = jnp.asarray(image()[0, :, :, ::-1].astype(np.float32) - np.asarray(CAFFE.mean, np.float32))
    x = torch.tensor(np.asarray(warp_regions(pixels, given[0], size=131, context=4))).permute(0, 3, 1, 2)
    for i, groups in enumerate((1, 2, 1, 2, 2), 1):
        layer = params["backbone"][f"conv{i}"]
        kernel = torch.tensor(layer["kernel"]).permute(3, 2, 0, 1)
        stride, padding = (4, 0) if i == 1 else (1, 2 if i == 2 else 1)
        x = F.relu(F.conv2d(x, kernel, torch.tensor(layer["bias"]), stride, padding, groups=groups))
        if i in (1, 2, 5):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        if i in (1, 2):
            x = F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
    x = x.permute(0, 2, 3, 1).reshape(len(x), -1)
    for name in ("fc6", "fc7"):
        layer = params["box_head"][name]
        x = F.relu(x @ torch.tensor(layer["kernel"]).reshape(x.shape[1], -1) + torch.tensor(layer["bias"]))
    logits = x @ torch.tensor(params["logits"]["kernel"])[0, 0] + torch.tensor(params["logits"]["bias"])
    np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))


def test_a_proposal_network_that_shares_nothing_has_a_backbone_of_its_own():
    """In the first two steps of alternating training."""
    shapes = {}
    for shared in (True, False):
        model = registry.create_small("faster_rcnn_vgg16", shared=shared)
        shapes[shared] = jax.eval_shape(lambda model=model: model.init(jax.random.key(0), jnp.asarray(image())))
    both = shapes[False]["params"]
    assert set(both) - set(shapes[True]["params"]) == {"proposal_backbone"}
    assert jax.tree.map(jnp.shape, both["proposal_backbone"]) == jax.tree.map(jnp.shape, both["backbone"])
