"""EfficientNet: torch layer by layer; TensorFlow's padding; after which blocks the maps are taken."""

import jax
import pytest

from jaxseg.backbones.efficientnet import EfficientNet, MBConv, efficientnet, smp_names, timm_names
from jaxseg.errors import BadInput
from jaxseg.weights.names import convert, restore
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch

ROWS = (MBConv(16, 16, 4), MBConv(24, 96, 4, 5, 2), MBConv(24, 144, 6, 5), MBConv(32, 144, 6, 3, 2))


def theirs(reader, model, image, pads):
    """Maps after the stem and each block; ``pads`` are the zeros before and behind the map that each convolves."""

    def norm(part, name, x):
        return part.norm(f"{name}_norm", x, eps=model.epsilon)

    def padded(x, ends):
        return F.pad(x, (*ends, *ends))

    x = reader.conv("stem_conv", padded(to_torch(model.standardize(image)), pads[0]), stride=2)
    maps = [F.silu(norm(reader, "stem", x))]
    for i, (row, ends) in enumerate(zip(model.blocks, pads[1:], strict=True), 1):
        part, x, y = reader[f"block{i}"], maps[-1], maps[-1]
        if row.expanded != x.shape[1]:
            y = F.silu(norm(part, "expand", part.conv("expand", y)))
        y = part.conv("depthwise", padded(y, ends), stride=row.stride, groups=row.expanded)
        y = F.silu(norm(part, "depthwise", y))
        gain = part["squeeze"].conv("reduce", y.mean((2, 3), keepdim=True))
        y = y * torch.sigmoid(part["squeeze"].conv("expand", F.silu(gain)))
        y = norm(part, "project", part.conv("project", y))
        maps.append(x + y if x.shape == y.shape else y)
    return maps


@pytest.mark.parametrize(
    ("options", "size", "pads"),
    [
        ({}, (37, 50), ((1, 1), (1, 1), (2, 2), (2, 2), (1, 1))),
        ({"padding": "SAME", "epsilon": 1e-3}, (64, 32), ((0, 1), (1, 1), (1, 2), (2, 2), (0, 1))),
        # Fixed for images of 30, whose maps have 15 and 8: the odd side is padded evenly, whatever the image's.
        ({"padding": "SAME", "resolution": 30}, (64, 32), ((0, 1), (1, 1), (2, 2), (2, 2), (0, 1))),
    ],
    ids=["torch", "TensorFlow", "fixed"],
)
def test_equals_torch_layer_by_layer(options, size, pads):
    model = EfficientNet(ROWS, stem=16, out_maps=(0, 1, 2, 3, 4), **options)
    image = random_image(*size)
    variables = random_variables(model, image, train=False)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    for k, x in enumerate(theirs(Reader(variables), model, image, pads), 1):
        assert_agree(ours[f"c{k}"], x)


def test_the_scaled_networks_have_the_published_channels():
    """Of the maps and of the stem, as segmentation-models-pytorch lists them."""
    expected = {
        "b0": (16, 32, (24, 40, 112, 320)),
        "b3": (26, 40, (32, 48, 136, 384)),
        "b7": (55, 64, (48, 80, 224, 640)),
    }
    for name, (blocks, stem, channels) in expected.items():
        net = efficientnet(name)
        assert (len(net.blocks), net.stem) == (blocks, stem)
        assert tuple(net.blocks[i - 1].features for i in net.out_maps[1:]) == channels
    assert efficientnet("b0").out_maps == (0, 3, 5, 9, 16)
    with pytest.raises(BadInput, match="no EfficientNet is called 'b9'"):
        efficientnet("b9")


def test_stages_that_keep_their_resolution_are_dilated():
    """From the map on that the library has at 1/16, or from the block after the stride on, as in timm."""
    stage = efficientnet("b0", output_stride=16)._spreads()
    assert stage[8:10] == [(1, 1), (1, 2)]  # c4 of the library's B0 is that of block 9
    assert set(stage[9:]) == {(1, 2)}
    after = efficientnet("b0", "timm", output_stride=8)._spreads()
    assert after[5:7] == [(1, 1), (1, 2)]
    assert after[11:13] == [(1, 2), (1, 4)]


@pytest.mark.parametrize(("version", "names"), [("smp", smp_names), ("timm", timm_names)])
def test_every_weight_has_a_name(version, names):
    """Twice the same for the two versions, whose blocks are one network's."""
    model = efficientnet("b1", version)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64), train=False))
    few = jax.tree.map(lambda leaf: jax.numpy.zeros(tuple(min(n, 3) for n in leaf.shape)), target)
    there = restore(jax.device_get(few), names("b1"))
    assert sum(not name.endswith("num_batches_tracked") for name in there) == len(jax.tree.leaves(target))
    assert jax.tree.structure(convert(there, few, names("b1"))) == jax.tree.structure(few)
