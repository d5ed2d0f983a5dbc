"""Xception-65 against timm, every map, at every output stride, with a shorter and narrower network."""

import dataclasses
import functools

import jax
import pytest

from jaxseg.backbones.xception import TIMM_NAMES, xception
from jaxseg.errors import BadInput
from jaxseg.weights.names import convert
from tests.oracles.torch_side import F, assert_agree, random_image, randomise, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip

WIDTH = 1 / 8

torchvision_or_skip()  # timm imports it


def timm_xception(output_stride):
    aligned = pytest.importorskip("timm.models.xception_aligned", reason="the oracle is timm")

    def block(c_in, c_out, stride=1, **options):
        return {"in_chs": c_in, "out_chs": c_out, "stride": stride, **options}

    rows = [
        *(block(8, 16, 2), block(16, 32, 2), block(32, 91, 2), block(91, 91), block(91, 91)),
        block(91, (91, 128, 128), 2),
        block(128, (192, 192, 256), no_skip=True, start_with_relu=False),
    ]
    norm = functools.partial(torch.nn.BatchNorm2d, eps=1e-3)
    network = aligned.XceptionAligned(rows, output_stride=output_stride, norm_layer=norm)
    # timm's stem is not scaled, and its first block would take 64 channels.
    network.stem[1] = aligned.ConvNormAct(32, 8, kernel_size=3, norm_layer=norm)
    return network


@pytest.mark.parametrize(("output_stride", "size"), [(32, (64, 96)), (16, (37, 51)), (8, (51, 37))])
def test_equals_timm(output_stride, size):
    theirs = timm_xception(output_stride)
    randomise(theirs)
    model = xception(width=WIDTH, middle=2, output_stride=output_stride)
    model = dataclasses.replace(model, stem=(32, 8))
    image = random_image(*size)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(convert(state(theirs), target, TIMM_NAMES), image)
    with torch.no_grad():
        x = theirs.stem(to_torch(model.standardize(image)))
        for i, block in enumerate(theirs.blocks):
            taps = []
            hook = block.stack.conv2.register_forward_hook(lambda *call, taps=taps: taps.append(call[-1].clone()))
            x = block(x)
            hook.remove()
            if i in (0, 1, 2, 5):
                assert_agree(ours[f"c{(0, 1, 2, 5).index(i) + 1}"], taps[0])
        assert_agree(ours["c5"], x)
    assert torch.equal(F.relu(x), x)


def test_the_count_is_timms():
    timm = pytest.importorskip("timm", reason="the oracle is timm")
    with torch.device("meta"):
        theirs = timm.create_model("xception65", num_classes=0)
    model = xception()
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(33, 33), train=False))
    ours = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert ours == sum(p.numel() for p in theirs.parameters())
    assert round(ours / 1e6, 2) == 37.87


def test_mistakes_are_named():
    model = xception(output_stride=4)
    with pytest.raises(BadInput, match="output stride 4 of Xception"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(33, 33), train=False))
