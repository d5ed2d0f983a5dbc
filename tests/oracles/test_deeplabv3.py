"""DeepLab v3 and LR-ASPP against torchvision, v3+ against segmentation_models_pytorch and the layer table in torch."""

import dataclasses

import jax
import pytest

from jaxseg.backbones.resnet import ResNet
from jaxseg.errors import BadInput
from jaxseg.models.semantic import deeplabv3, deeplabv3plus, lraspp
from jaxseg.weights.names import convert
from tests.oracles.torch_side import (
    F,
    Reader,
    assert_agree,
    random_image,
    random_variables,
    randomise,
    state,
    to_torch,
    torch,
)
from tests.torchvision_cpu import torchvision_or_skip

SIZES = ((64, 64), (45, 67))


def shapes_of(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64)))


def count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model)["params"]))


def compare(model, reference, rules, output, sizes=SIZES):
    variables = convert(state(randomise(reference)), shapes_of(model), rules)
    call = jax.jit(model.apply)
    for size in sizes:
        image = random_image(*size)
        with torch.no_grad():
            theirs = output(reference(to_torch(model.backbone.standardize(image))))
        assert_agree(call(variables, image)["logits"], theirs)


def test_v3_resnet_equals_torchvision():
    """A ResNet of one block per stage at output stride 8; the auxiliary head's weights come in too."""
    models, depths = torchvision_or_skip().models, (1, 1, 2, 1)
    options = {"replace_stride_with_dilation": (False, True, True), "width_per_group": 16}
    trunk = models.resnet.ResNet(models.resnet.Bottleneck, depths, **options)
    theirs = models.segmentation.deeplabv3._deeplabv3_resnet(trunk, 5, True)
    backbone = ResNet(depths=depths, width_per_group=16, output_stride=8)
    model = deeplabv3.DeepLabV3(backbone=backbone, num_classes=5)
    compare(model, theirs, deeplabv3.TORCHVISION_NAMES, lambda out: out["out"])


def test_v3_mobilenet_equals_torchvision():
    models = torchvision_or_skip().models
    trunk = models.mobilenet_v3_large(weights=None, width_mult=0.25, dilated=True)
    theirs = models.segmentation.deeplabv3._deeplabv3_mobilenetv3(trunk, 5, True)
    model = deeplabv3.deeplabv3_mobilenet_v3_large(5, width=0.25)
    compare(model, theirs, deeplabv3.TORCHVISION_NAMES, lambda out: out["out"], SIZES[1:])


def test_lraspp_equals_torchvision():
    models = torchvision_or_skip().models
    trunk = models.mobilenet_v3_large(weights=None, width_mult=0.25, dilated=True)
    theirs = models.segmentation.lraspp._lraspp_mobilenetv3(trunk, 5)
    model = lraspp.lraspp_mobilenet_v3_large(5, width=0.25)
    compare(model, theirs, lraspp.TORCHVISION_NAMES, lambda out: out["out"])


def test_v3plus_mobilenet_equals_smp():
    torchvision_or_skip()
    smp = pytest.importorskip("segmentation_models_pytorch", reason="the oracle is segmentation_models_pytorch")
    theirs = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=5, decoder_channels=16)
    model = deeplabv3plus.deeplabv3plus_mobilenet_v2(5, features=16)
    compare(model, theirs, deeplabv3plus.SMP_NAMES, lambda out: out, [(64, 96)])


def full(r, name, x, dilation=1):
    """Convolution, BatchNorm, ReLU."""
    r = r[name]
    return F.relu(r.norm("norm", r.conv("conv", x, dilation=dilation, padding="same")))


def separable(r, name, x, dilation=1):
    """Depthwise and pointwise, each with BatchNorm and ReLU."""
    r, c = r[name], x.shape[1]
    x = r.conv("depthwise", x, dilation=dilation, padding="same", groups=c)
    x = F.relu(r.norm("norm_depthwise", x))
    return F.relu(r.norm("norm", r.conv("pointwise", x)))


def v3plus(variables, maps, size, rates, wide):
    """The layer table: the pyramid, 48 channels of the map at stride 4, two 3x3 convolutions, the classifier."""
    r, x = Reader(variables), to_torch(maps["c5"])
    branches = [full(r["aspp"], "point", x)]
    branches += [wide(r["aspp"], f"atrous{i}", x, rate) for i, rate in enumerate(rates, 1)]
    mean = full(r["aspp"], "pool", x.mean((2, 3), keepdim=True))
    branches.append(F.interpolate(mean, size=x.shape[2:], mode="bilinear"))
    x = full(r["aspp"], "project", torch.cat(branches, 1))
    low = full(r, "low", to_torch(maps["c2"]))
    assert low.shape[1] == 48
    x = F.interpolate(x, size=low.shape[2:], mode="bilinear", align_corners=True)
    x = wide(r, "decode2", wide(r, "decode1", torch.cat([x, low], 1)))
    return F.interpolate(r.conv("classifier", x), size=size, mode="bilinear", align_corners=True)


@pytest.mark.parametrize(
    ("build", "options", "rates", "wide"),
    [
        (deeplabv3plus.deeplabv3plus_resnet50, {"width": 4}, (6, 12, 18), full),
        (deeplabv3plus.deeplabv3plus_xception65, {"width": 1 / 16, "middle": 1}, (6, 12, 18), separable),
        (deeplabv3plus.deeplabv3plus_resnet50, {"width": 4, "output_stride": 8}, (12, 24, 36), full),
    ],
)
def test_v3plus_equals_the_layer_table(build, options, rates, wide):
    model, size = build(3, features=16, **options), (45, 67)
    image = random_image(*size)
    variables = random_variables(model, image)
    backbone = {collection: tree["backbone"] for collection, tree in variables.items()}

    def both(variables, backbone, image):
        return model.apply(variables, image)["logits"], model.backbone.apply(backbone, image, train=False)

    logits, maps = jax.jit(both)(variables, backbone, image)
    stride = options.get("output_stride", 16)
    assert maps["c5"].shape[1:3] == tuple(-(-side // stride) for side in size)
    assert maps["c2"].shape[1:3] == tuple(-(-side // 4) for side in size)
    assert_agree(logits, v3plus(variables, maps, size, rates, wide))


def test_the_papers_v3():
    """Multi-grid, output stride 16, rates (6, 12, 18), no convolution after the pyramid: 58.0 M (fact sheet, 7.3)."""
    options = {"output_stride": 16, "multi_grid": (1, 2, 4), "rates": (6, 12, 18), "refinements": 0, "auxiliary": ""}
    model = deeplabv3.deeplabv3_resnet101(**options)
    assert round(count(model) / 1e6, 1) == 58.0
    assert dataclasses.replace(model.backbone, multi_grid=()) != model.backbone


def test_the_papers_v3plus():
    """41.06 M with Xception-65 (fact sheet, 7.4)."""
    assert round(count(deeplabv3plus.deeplabv3plus_xception65()) / 1e6, 2) == 41.06


def test_kinds_are_named():
    with pytest.raises(BadInput, match="there are: full, separable, separable_plain"):
        deeplabv3.conv_of("wide")
