"""Detectors beside torchvision's, of the same random weights: the same detections in the same order.

The networks are small (one block a stage, 32 channels in the pyramid), their statistics those of the photograph,
and their predictors scaled until scores spread and dozens to hundreds of detections pass the thresholds.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from jaxseg.backbones.resnet import ResNet
from jaxseg.layers.fpn import FPN
from jaxseg.layers.roi_heads import BoxHead, KeypointHead, MaskHead
from jaxseg.layers.rpn import Proposing, RPNHead
from jaxseg.models.detection import faster_rcnn, faster_rcnn_mobilenet, retinanet
from jaxseg.models.detection.faster_rcnn import FasterRCNN, fields_of
from jaxseg.models.detection.retinanet import RetinaNet
from jaxseg.models.instance import mask_rcnn
from jaxseg.models.instance.mask_rcnn import MaskRCNN
from jaxseg.models.keypoints import keypoint_rcnn
from jaxseg.models.keypoints.keypoint_rcnn import KeypointRCNN
from jaxseg.ops.masks import paste_masks
from jaxseg.weights.names import convert
from tests.torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@pytest.fixture(autouse=True)
def uncompiled():
    """torchvision compiles its plain RoIAlign where the operator is missing, which takes longer than it saves."""
    with torch.compiler.set_stance("force_eager"):
        yield


WIDTH, CLASSES, PROPOSALS = 32, 6, 100
SIZES = [(128, 128), (96, 160)]


def photograph(height, width):
    """Two crops of a photograph of several things."""
    image = data.astronaut()
    return np.stack([image[y : y + height, x : x + width] for y, x in ((20, 120), (300, 200))])


@functools.cache
def operators():
    """torchvision's NMS in plain torch where its compiled one is missing; RoIAlign has a plain form of its own."""

    def nms(boxes, scores, threshold):
        order = scores.argsort(descending=True, stable=True)
        boxes = boxes[order]
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        corner0 = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
        corner1 = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = (corner1 - corner0).clamp(min=0).prod(2)
        over = shared / (area[:, None] + area[None] - shared) > threshold
        keep = torch.ones(len(boxes), dtype=torch.bool)
        for i in range(len(boxes)):
            if keep[i]:
                keep[i + 1 :] &= ~over[i, i + 1 :]
        return order[keep]

    return nms


def reference(build, monkeypatch):
    """A torchvision detector on one block a stage, statistics measured on the photograph."""
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.resnet import Bottleneck
    from torchvision.models.resnet import ResNet as Theirs

    monkeypatch.setattr(torchvision.ops.boxes, "_assert_has_ops", lambda: None)
    # By size and device torchvision suppresses class by class, or all at once with boxes moved apart by an offset,
    # which rounds overlaps: the loop is what ours equals.
    vanilla = torchvision.ops.boxes._batched_nms_vanilla
    monkeypatch.setattr(torchvision.ops.boxes, "_batched_nms_coordinate_trick", vanilla)
    monkeypatch.setattr(torchvision.ops.boxes, "nms", lambda b, s, t: operators()(b, s, t))
    torch.manual_seed(1)
    model = build(Theirs, Bottleneck, BackboneWithFPN).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
                module.train()
        keep_size(model, SIZES[0])
        model(tensors(photograph(*SIZES[0])))
        model.eval()
    return model


def keep_size(model, size):
    """Let the model's own transform leave images of that size as they are."""
    model.transform.min_size, model.transform.max_size = (min(size),), max(size)


def tensors(images):
    return [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]


def body(theirs, bottleneck, with_fpn, *, levels, extra, norm=None):
    resnet = theirs(bottleneck, [1, 1, 1, 1])
    names = {f"layer{i}": str(n) for n, i in enumerate(levels)}
    widths = [256 << (i - 1) for i in levels]
    return with_fpn(resnet, names, widths, WIDTH, extra_blocks=extra, norm_layer=norm)


def rcnn(kind, version, theirs, bottleneck, with_fpn):
    from torchvision.models import detection as d
    from torchvision.models.detection import faster_rcnn as f
    from torchvision.models.detection import mask_rcnn as m
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.models.detection.rpn import RPNHead as Head
    from torchvision.ops import MultiScaleRoIAlign
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

    norm = torch.nn.BatchNorm2d if version == 2 else None
    backbone = body(theirs, bottleneck, with_fpn, levels=(1, 2, 3, 4), extra=LastLevelMaxPool(), norm=norm)
    anchors = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    options = {
        "rpn_anchor_generator": anchors,
        "rpn_head": Head(WIDTH, anchors.num_anchors_per_location()[0], conv_depth=version),
        "rpn_pre_nms_top_n_test": 200,
        "rpn_post_nms_top_n_test": PROPOSALS,
    }
    if version == 2:
        options["box_head"] = f.FastRCNNConvFCHead((WIDTH, 7, 7), [WIDTH] * 4, [64], norm_layer=norm)
    else:
        options["box_head"] = f.TwoMLPHead(WIDTH * 49, 64)
    options["box_predictor"] = f.FastRCNNPredictor(64, CLASSES + 1)
    if kind == "mask":
        options["mask_head"] = m.MaskRCNNHeads(WIDTH, [WIDTH] * 4, 1, norm_layer=norm)
        options["mask_predictor"] = m.MaskRCNNPredictor(WIDTH, WIDTH, CLASSES + 1)
        model = d.MaskRCNN(backbone, **options)
    elif kind == "keypoint":
        from torchvision.models.detection import keypoint_rcnn as k

        options["keypoint_head"] = k.KeypointRCNNHeads(WIDTH, (WIDTH,) * 8)
        options["keypoint_predictor"] = k.KeypointRCNNPredictor(WIDTH, 5)
        model = d.KeypointRCNN(backbone, num_keypoints=None, **options)
    else:
        model = d.FasterRCNN(backbone, **options)
    assert MultiScaleRoIAlign is not None
    with torch.no_grad():
        model.rpn.head.cls_logits.weight *= 30
        model.rpn.head.bbox_pred.weight *= 10
        model.roi_heads.box_predictor.cls_score.weight *= 20
        model.roi_heads.box_predictor.bbox_pred.weight *= 10
    return model


def retina(version, theirs, bottleneck, with_fpn):
    from torchvision.models.detection import RetinaNet as Theirs
    from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    extra = LastLevelP6P7(WIDTH if version == 1 else 2048, WIDTH)
    backbone = body(theirs, bottleneck, with_fpn, levels=(2, 3, 4), extra=extra)
    anchors = _default_anchorgen()
    norm = functools.partial(torch.nn.GroupNorm, 32) if version == 2 else None
    head = RetinaNetHead(WIDTH, anchors.num_anchors_per_location()[0], CLASSES, norm_layer=norm)
    with torch.no_grad():
        if version == 1:  # without a normalisation the first weights let next to nothing through
            for subnet in (head.classification_head, head.regression_head):
                for layer in subnet.conv.parameters():
                    layer *= 6
        head.classification_head.cls_logits.weight *= 10
        head.regression_head.bbox_reg.weight *= 10
    return Theirs(backbone, CLASSES, anchor_generator=anchors, head=head)


def ours_rcnn(kind, version):
    norm, frozen = ("none", "frozen") if version == 1 else ("batch", "batch")
    convs, dense = ((), (64, 64)) if version == 1 else ((WIDTH,) * 4, (64,))
    detector = FasterRCNN(
        backbone=ResNet(depths=(1, 1, 1, 1), norm=frozen),
        fpn=FPN(WIDTH, norm=norm),
        rpn=RPNHead(WIDTH, convs=version),
        box_head=BoxHead(convs, dense, norm=norm),
        num_classes=CLASSES,
        test_proposing=Proposing(200, PROPOSALS),
    )
    if kind == "mask":
        head = MaskHead((WIDTH,) * 4, WIDTH, norm=norm)
        return MaskRCNN(**fields_of(detector), mask_head=head), mask_rcnn.TORCHVISION_NAMES
    if kind == "keypoint":
        head = KeypointHead(5, (WIDTH,) * 8)
        return KeypointRCNN(**fields_of(detector), keypoint_head=head), keypoint_rcnn.TORCHVISION_NAMES
    return detector, faster_rcnn.TORCHVISION_NAMES


def ours_retina(version):
    extra, head_norm, norm = ("p6p7_from_p5", "none", "frozen") if version == 1 else ("p6p7_from_c5", "group", "batch")
    return RetinaNet(
        backbone=ResNet(depths=(1, 1, 1, 1), norm=norm),
        fpn=FPN(WIDTH, extra=extra),
        num_classes=CLASSES,
        head_norm=head_norm,
    )


def both(ours, rules, theirs, size):
    """Outputs of ours, compiled, and of theirs, for two photographs."""
    images = photograph(*size)
    source = {name: value.numpy() for name, value in theirs.state_dict().items()}
    shapes = jax.eval_shape(lambda: ours.init(jax.random.key(0), jnp.asarray(images)))
    variables = convert(source, shapes, rules)
    found = jax.jit(ours.apply)(variables, images)
    keep_size(theirs, size)
    with torch.no_grad():
        return jax.device_get(found), theirs(tensors(images))


def partners(found, one, i, background):
    """The slot of ours that each detection of theirs has; the order may differ where scores tie to 1e-4."""
    n = len(one["boxes"])
    assert found["valid"][i].sum() == n
    assert found["valid"][i][:n].all()
    scores = one["scores"].numpy()
    np.testing.assert_allclose(found["scores"][i][:n], scores, atol=1e-4)
    slots = []
    for box, label, score in zip(one["boxes"].numpy(), one["labels"].numpy(), scores, strict=True):
        far = np.abs(found["boxes"][i] - box).max(-1) > 1e-2
        other = (found["classes"][i] + background != label) | (np.abs(found["scores"][i] - score) > 1e-4)
        slots.append(np.flatnonzero(~far & ~other & found["valid"][i])[0])
    assert sorted(slots) == list(range(n))
    return np.asarray(slots, np.int64)


SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in (("box", 1), ("box", 2), ("mask", 2), ("keypoint", 1))]
"""The networks with masks hold the same boxes; all of these run with ``-m slow``."""


@pytest.mark.parametrize(("kind", "version"), [*SLOW, ("mask", 1)])
def test_rcnn_equals_torchvision(kind, version, monkeypatch):
    theirs = reference(functools.partial(rcnn, kind, version), monkeypatch)
    ours, rules = ours_rcnn(kind, version)
    for size in SIZES:
        found, expected = both(ours, rules, theirs, size)
        total = 0
        for i, one in enumerate(expected):
            slots = partners(found, one, i, background=1)
            total += len(slots)
            if kind == "mask":
                boxes, masks = (jnp.asarray(found[key][i][slots]) for key in ("boxes", "masks"))
                pasted = paste_masks(masks, boxes, height=size[0], width=size[1])
                assert (np.asarray(pasted) == (one["masks"][:, 0].numpy() > 0.5)).mean() > 0.999
            if kind == "keypoint":
                mine, score = found["keypoints"][i][slots], one["keypoints_scores"].numpy()
                near = np.abs(mine[..., :2] - one["keypoints"].numpy()[..., :2]).max(-1) <= 1e-2
                assert near.mean() > 0.99, "but for ties of cells"
                np.testing.assert_allclose(mine[..., 2], score, atol=1e-4 * np.abs(score).max())
        assert total >= 60, f"{total} detections show little"


@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_retinanet_equals_torchvision(version, monkeypatch):
    theirs = reference(functools.partial(retina, version), monkeypatch)
    ours = ours_retina(version)
    for size in SIZES:
        found, expected = both(ours, retinanet.TORCHVISION_NAMES, theirs, size)
        total = sum(len(partners(found, one, i, background=0)) for i, one in enumerate(expected))
        assert total >= 60, f"{total} detections show little"


def mobile(*_):
    """torchvision's on a quarter of MobileNetV3, its BatchNorm with the epsilon of the frozen one."""
    from torchvision.models import detection as d
    from torchvision.models import mobilenetv3 as m
    from torchvision.models.detection import faster_rcnn as f
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import _mobilenet_extractor

    rows, last = m._mobilenet_v3_conf("mobilenet_v3_large", width_mult=0.25)
    network = m.MobileNetV3(rows, last, norm_layer=functools.partial(torch.nn.BatchNorm2d, eps=1e-5))
    model = d.FasterRCNN(
        _mobilenet_extractor(network, True, 6),
        rpn_anchor_generator=AnchorGenerator((faster_rcnn_mobilenet.SIZES,) * 3, ((0.5, 1.0, 2.0),) * 3),
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=300,
        rpn_score_thresh=0.05,
        box_head=f.TwoMLPHead(256 * 49, 64),
        box_predictor=f.FastRCNNPredictor(64, CLASSES + 1),
    )
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight *= 20
        model.roi_heads.box_predictor.bbox_pred.weight *= 10
    return model


@pytest.mark.slow
def test_faster_rcnn_on_a_mobilenet_equals_torchvision(monkeypatch):
    theirs = reference(mobile, monkeypatch)
    ours = faster_rcnn_mobilenet.on_mobilenet_v3(CLASSES, proposals=300, width=0.25, dense=64)
    for size in SIZES:
        found, expected = both(ours, faster_rcnn_mobilenet.TORCHVISION_NAMES, theirs, size)
        total = sum(len(partners(found, one, i, background=1)) for i, one in enumerate(expected))
        assert total >= 40, f"{total} detections show little"
