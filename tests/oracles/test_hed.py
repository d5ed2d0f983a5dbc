"""HED in both geometries against its layers in torch."""

import jax
import numpy as np
import pytest

from jaxseg.backbones.vgg import VGG, VGG16
from jaxseg.layers.standardize import CAFFE
from jaxseg.models.boundary.hed import HED, KERAS_NAMES
from jaxseg.weights.names import convert
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch


def caffe_filler(stride):
    """The kernel of a deconvolution that enlarges bilinearly."""
    line = 1 - torch.abs(torch.arange(2.0 * stride) - (stride - 0.5)) / stride
    return (line[:, None] * line[None])[None, None]


def reference(variables, image, padding):
    """Blocks of VGG-16; what its side outputs say of the image, and the fused score, NCHW.

    A cell of stride s lies on the middle of its s pixels, a deconvolution without padding puts it s / 2 further on.
    """
    r, (height, width) = Reader(variables), image.shape[1:3]
    x = to_torch(CAFFE(image))
    sides = []
    for block, count in enumerate(VGG16, 1):
        x = F.max_pool2d(x, 2, ceil_mode=True) if block > 1 else x
        for i in range(1, count + 1):
            x = F.relu(r["backbone"].conv(f"conv{block}_{i}", x, padding=padding if (block, i) == (1, 1) else 1))
        side, stride = r.conv(f"side{block}", x), 2 ** (block - 1)
        if padding == 1:
            side = F.interpolate(side, (height, width), mode="bilinear")
        else:
            side = F.conv_transpose2d(side, caffe_filler(stride), stride=stride) if stride > 1 else side
            begin = padding - 1 + stride // 2
            side = side[:, :, begin : begin + height, begin : begin + width]
        sides.append(side)
    sides = torch.cat(sides, 1)
    return sides, r.conv("fuse", sides)


@pytest.mark.parametrize(("geometry", "padding"), [("resized", 1), ("caffe", 35)])
def test_it_equals_its_layers(geometry, padding):
    backbone = VGG(width=4, first_padding=padding, ceil_mode=True, out_maps="before", standardize=CAFFE)
    net, image = HED(backbone, geometry), random_image(43, 58)
    variables = random_variables(net, image)
    found = jax.jit(net.apply)(variables, image)
    sides, fused = reference(variables, image, padding)
    assert_agree(found["side_logits"], sides)
    assert_agree(found["boundary_logits"][..., None], fused)


def test_an_edge_of_the_authors_geometry_lies_where_it_is_in_the_image():
    """A square in the middle of an image whose padded size is a multiple of 16 has its side outputs in the middle."""
    backbone = VGG((1, 1, 1, 1, 1), width=1, first_padding=35, ceil_mode=True, out_maps="before", standardize=CAFFE)
    net, image = HED(backbone, "caffe"), np.zeros((1, 108, 108, 3), np.uint8)
    image[:, 36:72, 36:72] = 255
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype) / leaf.size, shapes)
    sides = np.asarray(jax.jit(net.apply)(ones, image)["side_logits"][0])
    for side in np.moveaxis(sides, -1, 0):
        np.testing.assert_allclose(side, side[::-1, ::-1], rtol=1e-3)


def test_names_of_the_public_keras_weights_fill_the_network():
    net, image = HED(VGG(width=2, out_maps="before", ceil_mode=True)), random_image(32, 32)
    variables = random_variables(net, image)
    source, params = {}, variables["params"]
    for block, count in enumerate(VGG16, 1):
        for i in range(count):
            layer = f"block{block}.layers.conv2d{f'_{i}' if i else ''}.vars"
            own = params["backbone"][f"conv{block}_{i + 1}"]
            source |= {f"{layer}.0": np.asarray(own["kernel"]), f"{layer}.1": np.asarray(own["bias"])}
    for theirs, ours in (*((f"dsn{k}", f"side{k}") for k in range(1, 6)), ("fuse", "fuse")):
        source |= {f"{theirs}.vars.0": np.asarray(params[ours]["kernel"])}
        source |= {f"{theirs}.vars.1": np.asarray(params[ours]["bias"])}
    jax.tree.map(np.testing.assert_array_equal, convert(source, variables, KERAS_NAMES), variables)
