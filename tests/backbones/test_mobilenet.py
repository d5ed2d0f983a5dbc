"""MobileNet 1 to 3: torchvision with random weights, and two real ImageNet networks against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.backbones import mobilenet, mobilenet_timm
from jaxseg.backbones.mobilenet import (
    TORCHVISION_V2_NAMES,
    TORCHVISION_V3_NAMES,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
)
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import CENTRED
from jaxseg.weights.names import convert
from tests.oracles.torch_side import F, assert_agree, random_image, random_variables, randomise, state, to_torch, torch
from tests.shared_data import weights_or_skip
from tests.torchvision_cpu import torchvision_or_skip


def shapes_of(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(33, 33), train=False))


def count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model)["params"]))


def compare(reference, model, ends, sizes):
    """Maps after the torch network's entries ``ends`` of its features."""
    theirs = state(randomise(reference))
    names = TORCHVISION_V3_NAMES if any(".block." in name for name in theirs) else TORCHVISION_V2_NAMES
    variables = convert(theirs, shapes_of(model), names)
    call = jax.jit(lambda v, x: model.apply(v, x, train=False))
    for size in sizes:
        image = random_image(*size)
        ours, x = call(variables, image), to_torch(model.standardize(image))
        with torch.no_grad():
            for i, layer in enumerate(reference.features):
                x = layer(x)
                if i in ends:
                    assert_agree(ours[f"c{ends.index(i) + 1}"], x)


def dilate(features, begin, rate):
    """Every depthwise convolution from that entry on: no stride, dilation."""
    for layer in features[begin:].modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.groups > 1:
            k = layer.kernel_size[0]
            layer.stride, layer.dilation, layer.padding = (1, 1), (rate, rate), (k // 2 * rate, k // 2 * rate)


def test_v2_equals_torchvision():
    reference = torchvision_or_skip().models.mobilenet_v2(weights=None, width_mult=0.25)
    compare(reference, mobilenet_v2(width=0.25), [1, 3, 6, 13, 18], [(64, 64), (37, 51)])


def test_v2_trades_stride_for_dilation():
    reference = torchvision_or_skip().models.mobilenet_v2(weights=None, width_mult=0.25)
    dilate(reference.features, 7, 2)
    dilate(reference.features, 14, 4)
    compare(reference, mobilenet_v2(width=0.25, output_stride=8), [1, 3, 6, 13, 18], [(37, 51)])


@pytest.mark.parametrize(
    ("size", "options", "ends"),
    [
        ("large", {}, [1, 3, 6, 12, 16]),
        ("large", {"output_stride": 16, "out_maps": "first"}, [0, 2, 4, 7, 16]),
        ("small", {}, [0, 1, 3, 8, 12]),
    ],
)
def test_v3_equals_torchvision(size, options, ends):
    build = torchvision_or_skip().models.get_model_builder(f"mobilenet_v3_{size}")
    reference = build(weights=None, width_mult=0.25, dilated="output_stride" in options)
    compare(reference, mobilenet_v3(size, width=0.25, **options), ends, [(37, 51)])


TIMM = {
    "mobilenetv1_100": (mobilenet_v1(standardize=CENTRED), mobilenet_timm.V1_NAMES),
    "mobilenetv2_050": (mobilenet_v2(width=0.5, last=0), mobilenet_timm.V2_NAMES),
    "mobilenetv3_small_100": (mobilenet_v3("small", epsilon=1e-5), mobilenet_timm.v3_names("small")),
    "tf_mobilenetv3_small_100": (mobilenet_v3("small", padding="SAME"), mobilenet_timm.v3_names("small")),
}


@pytest.mark.parametrize("name", TIMM)
def test_equals_timm(name):
    """The maps that it takes as features."""
    torchvision_or_skip()
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    torch.manual_seed(0)
    theirs = randomise(timm.create_model(name, pretrained=False, features_only=True))
    model, rules = TIMM[name]
    variables, image = convert(state(theirs), shapes_of(model), rules), random_image(64, 96)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    with torch.no_grad():
        maps = theirs(to_torch(model.standardize(image)))
    for k, reference in enumerate(maps, 1):
        assert_agree(ours[f"c{k}"], reference)


def test_counts_are_the_published_ones():
    """torchvision's count with their classifiers, which are not ours; version 1 as in its paper (4.2 million)."""
    assert count(mobilenet_v2()) == 3_504_872 - 1281 * 1000
    assert count(mobilenet_v3("large")) == 5_483_032 - 961 * 1280 - 1281 * 1000
    assert count(mobilenet_v3("small")) == 2_542_856 - 577 * 1024 - 1025 * 1000
    assert count(mobilenet_v1()) == 4_231_976 - 1025 * 1000
    assert count(mobilenet_v2(last=0)) == count(mobilenet_v2()) - 320 * 1280 - 2 * 1280


def test_same_padding_puts_the_odd_zero_at_the_end():
    """At stride 2 an even map shifts by one pixel between the paddings; an odd one does not."""
    torch_like, tensorflow_like = (mobilenet_v2(width=0.1, padding=padding) for padding in ("torch", "SAME"))
    for size, alike in (((33, 33), True), ((32, 32), False)):
        image = random_image(*size)
        variables = random_variables(torch_like, image, train=False)
        ours, theirs = (
            jax.jit(lambda v, x, m=m: m.apply(v, x, train=False)["c1"])(variables, image)
            for m in (torch_like, tensorflow_like)
        )
        assert np.allclose(ours, theirs, atol=1e-4) == alike


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: mobilenet_v2(output_stride=4), "there are 8, 16 and 32"),
        (lambda: mobilenet_v2(padding="same"), "there are 'torch' and 'SAME'"),
        (lambda: mobilenet_v3(out_maps="middle"), "there are 'first' and 'last'"),
        (lambda: mobilenet_v3("medium"), "there are 'large' and 'small'"),
        (lambda: mobilenet_timm.v3_names("medium"), "there are 'large' and 'small'"),
    ],
)
def test_mistakes_are_named(fault, message):
    with pytest.raises(BadInput, match=message):
        shapes_of(fault())


# Real weights


def photograph(name, side=224):
    """One of scikit-image's photographs, the middle square resized."""
    pytest.importorskip("skimage", reason="the photographs are scikit-image's (extra 'test')")
    from PIL import Image
    from skimage import data

    image = Image.fromarray(getattr(data, name)())
    edge = min(image.size)
    left, top = (image.size[0] - edge) // 2, (image.size[1] - edge) // 2
    return jnp.asarray(image.crop((left, top, left + edge, top + edge)).resize((side, side)))[None]


CATS, CUPS = range(281, 286), (504, 967, 968)
"""ImageNet's house cats; coffee mug, espresso, cup."""


def tensorflow_conv(weights, i, x, stride=1):
    """Convolution number i with TensorFlow's padding, written out."""
    weight, bias = (torch.from_numpy(weights[f"{i:02d}.{leaf}"].astype(np.float32)) for leaf in ("weight", "bias"))
    k = weight.shape[2]
    pads = []
    for n in (x.shape[3], x.shape[2]):
        total = max((-(-n // stride) - 1) * stride + k - n, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, bias, stride=stride, groups=x.shape[1] if weight.shape[1] == 1 else 1)


def test_real_v2_gives_torch_its_numbers_and_knows_a_cat():
    with np.load(weights_or_skip("mobilenetv2_imagenet") / "tf2_ptq_dequantised_bnfolded_fp16.npz") as file:
        weights = dict(file)
    model = mobilenet.mobilenet_v2_tensorflow()
    variables = convert(weights, shapes_of(model), mobilenet.FOLDED_NAMES)
    call = jax.jit(lambda v, x: model.apply(v, x, train=False)["c5"])
    for name, expected in (("chelsea", CATS), ("coffee", CUPS)):
        image = photograph(name)
        x = to_torch(image) / 127.5 - 1
        x = F.relu6(tensorflow_conv(weights, 0, x, 2))
        x = tensorflow_conv(weights, 2, F.relu6(tensorflow_conv(weights, 1, x)))
        strided = (3, 9, 18, 39)
        for i in range(3, 51, 3):
            y = F.relu6(tensorflow_conv(weights, i, x))
            y = F.relu6(tensorflow_conv(weights, i + 1, y, 2 if i in strided else 1))
            y = tensorflow_conv(weights, i + 2, y)
            x = x + y if x.shape == y.shape else y
        x = F.relu6(tensorflow_conv(weights, 51, x))
        ours = call(variables, image)
        assert_agree(ours, x)
        scores = np.asarray(ours).mean((0, 1, 2)) @ weights["52.weight"][:, :, 0, 0].T.astype(np.float32)
        assert int(np.argmax(scores + weights["52.bias"])) - 1 in expected


def test_real_v1_gives_torch_its_numbers_and_knows_a_cat():
    with np.load(weights_or_skip("mobilenetv1_025_imagenet") / "weights.npz") as file:
        weights = dict(file)
    model = mobilenet_v1(width=0.25, activation="leaky_relu")
    variables = convert(weights, shapes_of(model), mobilenet.RETINAFACE_NAMES)
    call = jax.jit(lambda v, x: model.apply(v, x, train=False)["c5"])
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}

    def layer(x, conv, norm, **options):
        x = F.conv2d(x, tensors[f"{conv}.weight"], **options)
        mean, var, scale, bias = (tensors[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.leaky_relu(F.batch_norm(x, mean, var, scale, bias), 0.1)

    blocks = [f"stage1.{i}" for i in range(1, 6)] + [f"stage2.{i}" for i in range(6)] + ["stage3.0", "stage3.1"]
    for name, expected in (("chelsea", CATS), ("coffee", CUPS)):
        image = photograph(name)
        x = layer(to_torch(model.standardize(image)), "stage1.0.0", "stage1.0.1", stride=2, padding=1)
        for block in blocks:
            stride = 2 if block in ("stage1.2", "stage1.4", "stage2.0", "stage3.0") else 1
            x = layer(x, f"{block}.0", f"{block}.1", stride=stride, padding=1, groups=x.shape[1])
            x = layer(x, f"{block}.3", f"{block}.4")
        ours = call(variables, image)
        assert_agree(ours, x)
        scores = np.asarray(ours).mean((0, 1, 2)) @ weights["fc.weight"].T + weights["fc.bias"]
        assert set(np.argsort(scores)[-5:].tolist()) & set(expected)
