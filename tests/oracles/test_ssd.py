"""SSD and SSDlite beside torchvision's, of the same random weights: default boxes, detections in order, names."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.layers.default_boxes import DefaultBoxes
from jaxseg.models.detection import ssd, ssdlite
from jaxseg.ops.boxes import pairwise_iou
from jaxseg.tasks.detection import Detection, named_loss
from jaxseg.tasks.multibox import MultiboxLoss
from jaxseg.weights.names import convert, restore
from tests.oracles.test_detectors import CLASSES, partners, photograph, reference, tensors, torch

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

SIZE = (160, 250)


def generator(scales, ratios, steps):
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

    return DefaultBoxGenerator([list(map(int, r)) for r in ratios], scales=list(scales), steps=steps)


def theirs_vgg(*_):
    """torchvision's network with an eighth of the channels."""
    from torch.nn import Conv2d, ReLU, Sequential
    from torchvision.models.detection.ssd import SSD, SSDFeatureExtractorVGG
    from torchvision.models.vgg import make_layers

    blocks = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"]
    body = SSDFeatureExtractorVGG(make_layers(blocks), False)
    body.scale_weight = torch.nn.Parameter(torch.linspace(10, 30, 64))
    body.extra[0][-1][1], body.extra[0][-1][3] = Conv2d(64, 96, 3, padding=6, dilation=6), Conv2d(96, 96, 1)
    c = 96
    for i, (inner, features, window, stride, padding) in enumerate(few_extras(), 1):
        layers = Conv2d(c, inner, 1), ReLU(), Conv2d(inner, features, window, stride, padding), ReLU()
        body.extra[i], c = Sequential(*layers), features
    boxes = generator(ssd.COCO300, ssd.RATIOS300, [8, 16, 32, 64, 100, 300])
    options = {"image_mean": [0.48235, 0.45882, 0.40784], "image_std": [1 / 255] * 3}
    model = SSD(body, boxes, (300, 300), CLASSES + 1, **options)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("weight") and value.ndim == 4:
                torch.nn.init.kaiming_normal_(value)
        maps = body(model.transform(tensors(photograph(*SIZE)))[0].tensors).values()
        spread(model, [float((x**2).mean() ** 0.5) for x in maps])
    return model


def few_extras():
    return tuple((inner // 8, features // 8, *rest) for inner, features, *rest in ssd.EXTRAS300)


def spread(model, sizes):
    """Scores that differ, and several that are high, on maps of such sizes of their numbers."""
    for i, size in enumerate(sizes):
        heads = model.head.classification_head.module_list[i], model.head.regression_head.module_list[i]
        for layer, deviation in zip(heads, (1.5, 0.5), strict=True):
            last = layer if isinstance(layer, torch.nn.Conv2d) else layer[-1]
            last.weight.normal_(0, deviation / size / last.weight[0].numel() ** 0.5)
            last.bias.normal_(0, 0.5)


def ours_vgg():
    model = ssd.on_vgg(CLASSES, width=8, fc=96)
    return model.clone(neck=ssd.VGGNeck(96, few_extras()))


def theirs_mobile(*_):
    from torchvision.models import mobilenetv3
    from torchvision.models.detection import ssdlite as d
    from torchvision.models.detection.ssd import SSD

    norm = functools.partial(torch.nn.BatchNorm2d, eps=1e-3)
    rows, last = mobilenetv3._mobilenet_v3_conf("mobilenet_v3_large", width_mult=0.25, reduced_tail=True)
    body = d._mobilenet_extractor(mobilenetv3.MobileNetV3(rows, last, norm_layer=norm), 6, norm)
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

    boxes = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    widths = [x.shape[1] for x in body.eval()(torch.zeros(1, 3, 320, 320)).values()]
    head = d.SSDLiteHead(widths, boxes.num_anchors_per_location(), CLASSES + 1, norm)
    options = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "score_thresh": 0.001, "nms_thresh": 0.55}
    options |= {"detections_per_img": 300, "topk_candidates": 300}
    model = SSD(body, boxes, (320, 320), CLASSES + 1, head=head, **options)
    with torch.no_grad():
        spread(model, [1.0] * 6)
    return model


CASES = {
    "ssd": (theirs_vgg, ours_vgg, ssd.TORCHVISION_NAMES),
    "ssdlite": (theirs_mobile, lambda: ssdlite.on_mobilenet_v3(CLASSES, width=0.25), ssdlite.TORCHVISION_NAMES),
}


@pytest.mark.parametrize("name", ["ssd", pytest.param("ssdlite", marks=pytest.mark.slow)])
def test_it_equals_torchvision_both_ways(name, monkeypatch):
    """The same detections of images that are squashed, and the file that went in comes out again."""
    build, ours, rules = CASES[name]
    theirs, ours = reference(build, monkeypatch), ours()
    source = {key: value.numpy() for key, value in theirs.state_dict().items()}
    shapes = jax.eval_shape(lambda: ours.init(jax.random.key(0), jnp.zeros((1, 300, 300, 3), jnp.uint8)))
    variables = convert(source, shapes, rules)
    back = restore(variables, rules)
    assert set(back) == set(source)
    assert all(np.array_equal(back[key], source[key]) for key in source if "num_batches" not in key)
    images = photograph(*SIZE)
    found = jax.device_get(jax.jit(ours.apply)(variables, images))
    with torch.no_grad():
        expected = theirs(tensors(images))
    total = sum(len(partners(found, one, i, background=1)) for i, one in enumerate(expected))
    assert total >= 60, f"{total} detections show little"


def objects(anchors):
    """Three objects of two images: one that no box overlaps by half, two with the same best box, and none in a slot."""
    wide = anchors[3000]
    other = wide + np.float32([3, 2, 1, 0])
    boxes = [[[4, 5, 11, 9], [30, 40, 170, 260], [0, 0, 0, 0]], [wide, other, [9, 9, 200, 100]]]
    valid = np.asarray([[1, 1, 0], [1, 1, 1]], bool)
    classes = np.asarray([[0, 4, 0], [2, 1, 5]], np.int32)
    return {"boxes": np.asarray(boxes, np.float32), "valid": valid, "crowd": ~valid & False, "classes": classes}


def test_the_loss_is_torchvisions():
    from torchvision.models.detection import _utils
    from torchvision.models.detection.ssd import SSD
    from torchvision.ops import box_iou

    rng = np.random.default_rng(0)
    anchors, _ = ssd.on_vgg().boxes((300, 300), [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)])
    truth = objects(np.asarray(anchors))
    logits = rng.normal(0, 2, (2, len(anchors), CLASSES + 1)).astype(np.float32)
    deltas = rng.normal(0, 2, (2, len(anchors), 4)).astype(np.float32)
    outputs = {"anchors": anchors, "class_logits": jnp.asarray(logits), "anchor_deltas": jnp.asarray(deltas)}
    found = jax.jit(MultiboxLoss(forced="best").terms)(outputs, truth)

    theirs, matched = [], []
    for i in range(2):
        boxes, labels = (torch.tensor(truth[key][i][truth["valid"][i]]) for key in ("boxes", "classes"))
        theirs.append({"boxes": boxes, "labels": labels.long() + 1})
        matched.append(_utils.SSDMatcher(0.5)(box_iou(boxes, torch.tensor(np.asarray(anchors)))))
    that = SimpleNamespace(box_coder=_utils.BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3)
    heads = {"bbox_regression": torch.tensor(deltas), "cls_logits": torch.tensor(logits)}
    expected = SSD.compute_loss(that, theirs, heads, [torch.tensor(np.asarray(anchors))] * 2, matched)
    for ours, name in (("box_classes", "classification"), ("box_codes", "bbox_regression")):
        mean = found[ours].sum / found[ours].count
        np.testing.assert_allclose(mean, expected[name].numpy(), rtol=1e-5)


def test_bipartite_matching_is_the_papers_greedy_one():
    """Word by word: the best pair of all, its row and column struck out, and so on; then overlaps of a half."""
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 60, (40, 2))
    anchors = np.concatenate([corner, corner + rng.uniform(5, 40, (40, 2))], 1).astype(np.float32)
    boxes = anchors[:6] + rng.uniform(-4, 4, (6, 4)).astype(np.float32)
    boxes, anchors = jnp.asarray(boxes), jnp.asarray(anchors)
    iou = np.asarray(pairwise_iou(boxes, anchors))
    expected, left = np.full(40, -1), iou.copy()
    for _ in boxes:
        row, column = np.unravel_index(left.argmax(), left.shape)
        expected[column] = row
        left[row], left[:, column] = -1, -1
    for column in range(40):
        if expected[column] < 0 and iou[:, column].max() >= 0.5:
            expected[column] = iou[:, column].argmax()
    there = {"valid": jnp.ones(6, bool), "crowd": jnp.zeros(6, bool)}
    np.testing.assert_array_equal(MultiboxLoss().matched(anchors, {"boxes": boxes, **there}), expected)
    assert len(set(expected.tolist())) == 7


def test_default_boxes_are_those_of_the_release():
    """Counts of both networks; the first boxes of VOC's in Caffe, which are not clipped: 30, sqrt(30 60), 30 by 2."""
    voc = DefaultBoxes(ssd.VOC300, ssd.RATIOS300, (8, 16, 32, 64, 100, 300))
    boxes, counts = voc((300, 300), [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)])
    assert counts == (5776, 2166, 600, 150, 36, 4)
    sides = np.asarray(boxes)[:, 2:] - np.asarray(boxes)[:, :2]
    np.testing.assert_allclose(sides[:4], [[30, 30], [42.426, 42.426], [42.426, 21.213], [21.213, 42.426]], atol=1e-3)
    np.testing.assert_allclose((boxes[0, :2] + boxes[0, 2:]) / 2, [4, 4], atol=1e-5)
    np.testing.assert_allclose(sides[-2:], [[373.352, 186.676], [186.676, 373.352]], atol=1e-3)
    assert sum((64 >> i) ** 2 * (4, 6, 6, 6, 6, 4, 4)[i] for i in range(7)) == 24564
    high = ssd.on_vgg(size=512).boxes
    assert len(high((512, 512), [(64 >> i,) * 2 for i in range(7)])[0]) == 24564


def test_fc6_and_fc7_begin_as_every_fourth_output_and_every_third_tap_of_the_classifiers():
    rng = np.random.default_rng(2)
    source = {"classifier.0.weight": rng.normal(size=(32, 8 * 49)), "classifier.0.bias": rng.normal(size=32)}
    source |= {"classifier.3.weight": rng.normal(size=(32, 32)), "classifier.3.bias": rng.normal(size=32)}
    made = {}
    for name, rules, shape in (("fc6", ssd.FC6_NAMES, (3, 3, 8, 8)), ("fc7", ssd.FC7_NAMES, (1, 1, 8, 8))):
        made[name] = convert(source, {"params": {"kernel": np.zeros(shape), "bias": np.zeros(8)}}, rules)["params"]
    window = source["classifier.0.weight"].reshape(32, 8, 7, 7)
    for out in range(8):
        np.testing.assert_array_equal(made["fc6"]["kernel"][..., out].transpose(2, 0, 1), window[4 * out, :, ::3, ::3])
        np.testing.assert_array_equal(made["fc7"]["kernel"][0, 0, :, out], source["classifier.3.weight"][4 * out, ::4])
        assert made["fc6"]["bias"][out] == source["classifier.0.bias"][4 * out]


def test_codes_of_tensorflow_come_as_x_y_w_h_and_go_back():
    """Two boxes of a cell: their biases are y x h w twice."""
    bias = np.arange(8.0)
    rules = ((r"b", "bias|yxhw"), (r"k", "kernel|ohwi yxhw"))
    source = {"b": bias, "k": bias.reshape(8, 1, 1, 1)}
    made = convert(source, {"params": {"bias": np.zeros(8), "kernel": np.zeros((1, 1, 1, 8))}}, rules)
    assert made["params"]["bias"].tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert made["params"]["kernel"].ravel().tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    back = restore(made, rules)
    assert all(np.array_equal(back[key], source[key]) for key in source)


def test_the_network_of_tensorflow_has_its_anchors_and_tells_its_loss():
    model = registry.create_model("ssd300_mobilenet_v1_075")
    boxes, counts = model.boxes((300, 300), [(n, n) for n in (19, 10, 5, 3, 2, 1)])
    assert counts == (1083, 600, 150, 54, 24, 6)
    sides = np.asarray(boxes[:, 2:] - boxes[:, :2]) / 300
    root = 2**0.5
    first = [[0.1, 0.1], [0.2 * root, 0.2 / root], [0.2 / root, 0.2 * root]]
    np.testing.assert_allclose(sides[:3], first, atol=1e-5)
    np.testing.assert_allclose(sides[-1], [0.95**0.5] * 2, atol=1e-5)
    assert Detection.for_model(model, ("a", "b")).anchor_loss == MultiboxLoss(forced="best", scores="sigmoid")
    assert named_loss(ssd.on_vgg()) == MultiboxLoss()


@pytest.mark.slow
def test_an_image_on_a_canvas_is_trained_as_the_image_alone():
    """Its outputs and its default boxes: the rest of the canvas is not looked at."""
    model = registry.create_small("ssd300_vgg16")
    image = jnp.asarray(photograph(60, 80)[:1])
    canvas = jnp.pad(image, ((0, 0), (0, 36), (0, 16), (0, 0)), constant_values=9)
    variables = model.init(jax.random.key(0), image)
    alone = model.apply(variables, image, train=True)
    found = model.apply(variables, canvas, jnp.asarray([[60, 80]]), train=True)
    np.testing.assert_allclose(found["image_anchors"][0], alone["anchors"], atol=1e-4)
    np.testing.assert_allclose(found["class_logits"], alone["class_logits"], atol=1e-3)
    there = {"valid": jnp.ones((1, 1), bool), "crowd": jnp.zeros((1, 1), bool), "classes": jnp.zeros((1, 1), int)}
    truth = {"boxes": jnp.asarray([[[10.0, 10, 50, 40]]]), **there}
    one, other = (MultiboxLoss().terms(outputs, truth)["box_codes"] for outputs in (alone, found))
    np.testing.assert_allclose(one.sum, other.sum, rtol=1e-3)
    assert one.count == other.count > 0
