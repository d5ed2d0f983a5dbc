"""The published LinkNet against its layer table in torch functional calls."""

import jax
import numpy as np

from jaxseg.backbones.resnet import ResNet
from jaxseg.models.semantic.linknet import LinkNet, linknet
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch


def block(r, x, stride):
    """1x1, full convolution 3x3, 1x1, each with normalisation and ReLU."""
    x = F.relu(r["reduce"].norm("norm", r["reduce"].conv("conv", x)))
    x = r["up"].transposed("conv", x, stride=stride, padding=1, output_padding=stride - 1)
    x = F.relu(r["up"].norm("norm", x))
    return F.relu(r["expand"].norm("norm", r["expand"].conv("conv", x)))


def reference(r, maps):
    x = block(r["block4"], maps["c5"], 2) + maps["c4"]
    x = block(r["block3"], x, 2) + maps["c3"]
    x = block(r["block2"], x, 2) + maps["c2"]
    x = block(r["block1"], x, 1)
    head = r["head_up"]
    x = F.relu(head.norm("norm", head.transposed("conv", x, stride=2, padding=1, output_padding=1)))
    x = F.relu(r["head_conv"].norm("norm", r["head_conv"].conv("conv", x, padding=1)))
    return r.transposed("classifier", x, stride=2)


def test_equals_the_layer_table():
    backbone = ResNet(depths=(1, 1, 1, 1), bottleneck=False, width=8)
    model = LinkNet(backbone=backbone, num_classes=3, features=6)
    image = random_image(37, 51)
    variables = random_variables(model, image)
    trunk = {c: tree["backbone"] for c, tree in variables.items()}
    call = jax.jit(lambda v, t, x, p: (model.apply(v, x)["logits"], backbone.apply(t, p, train=False)))
    for h, w in [(37, 51), (64, 32)]:
        image = random_image(h, w)
        padded = np.pad(np.asarray(image), ((0, 0), (0, -h % 32), (0, -w % 32), (0, 0)), mode="edge")
        logits, maps = call(variables, trunk, image, padded)
        theirs = reference(Reader(variables), {k: to_torch(x) for k, x in maps.items()})
        assert isinstance(theirs, torch.Tensor)
        assert_agree(logits, theirs[:, :, :h, :w])


def test_published_size():
    """11.5 million parameters (the paper's Table 3), with Cityscapes' 20 classes and to that precision."""
    shapes = jax.eval_shape(lambda: linknet(20).init(jax.random.key(0), random_image(32, 32)))
    assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) / 1e6, 1) == 11.5
