"""U^2-Net against its layers in torch, and U^2-NetP with its published weights against their output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseg
from jaxseg.layers.standardize import IMAGENET
from jaxseg.models.saliency.u2net import TORCH_NAMES, U2Net
from jaxseg.weights.names import convert
from tests.oracles.drawn import Drawn
from tests.oracles.torch_side import F, assert_agree, random_image, to_torch, torch
from tests.shared_data import weights_or_skip

INNER, OUTER = 4, 6


def layer(d, name, x, features, dilation=1):
    """REBNCONV: its convolution has a bias in spite of the normalisation behind it."""
    x = d.conv(f"{name}.conv_s1", x, features, 3, bias=True, padding=dilation, dilation=dilation)
    return F.relu(d.norm(f"{name}.bn_s1", x, 1e-5))


def up(x, like):
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def pool(x):
    return F.max_pool2d(x, 2, stride=2, ceil_mode=True)


def rsu(d, name, x, height):
    start = layer(d, f"{name}.rebnconvin", x, OUTER)
    x, down = start, []
    for level in range(1, height):
        x = layer(d, f"{name}.rebnconv{level}", x if level == 1 else pool(x), INNER)
        down.append(x)
    x = layer(d, f"{name}.rebnconv{height}", x, INNER, 2)
    for level in range(height - 1, 0, -1):
        x = torch.cat([up(x, down[level - 1]), down[level - 1]], 1)
        x = layer(d, f"{name}.rebnconv{level}d", x, OUTER if level == 1 else INNER)
    return start + x


def rsu4f(d, name, x):
    start = layer(d, f"{name}.rebnconvin", x, OUTER)
    one = layer(d, f"{name}.rebnconv1", start, INNER)
    two = layer(d, f"{name}.rebnconv2", one, INNER, 2)
    three = layer(d, f"{name}.rebnconv3", two, INNER, 4)
    four = layer(d, f"{name}.rebnconv4", three, INNER, 8)
    x = layer(d, f"{name}.rebnconv3d", torch.cat([four, three], 1), INNER, 4)
    x = layer(d, f"{name}.rebnconv2d", torch.cat([x, two], 1), INNER, 2)
    return start + layer(d, f"{name}.rebnconv1d", torch.cat([x, one], 1), OUTER)


def reference(d, x):
    """The fused score and the six of the sides, NCHW."""
    one = rsu(d, "stage1", x, 7)
    two = rsu(d, "stage2", pool(one), 6)
    three = rsu(d, "stage3", pool(two), 5)
    four = rsu(d, "stage4", pool(three), 4)
    five = rsu4f(d, "stage5", pool(four))
    six = rsu4f(d, "stage6", pool(five))
    five = rsu4f(d, "stage5d", torch.cat([up(six, five), five], 1))
    four = rsu(d, "stage4d", torch.cat([up(five, four), four], 1), 4)
    three = rsu(d, "stage3d", torch.cat([up(four, three), three], 1), 5)
    two = rsu(d, "stage2d", torch.cat([up(three, two), two], 1), 6)
    one = rsu(d, "stage1d", torch.cat([up(two, one), one], 1), 7)
    sides = [
        d.conv(f"side{i}", x, 1, 3, bias=True, padding=1) for i, x in enumerate((one, two, three, four, five, six), 1)
    ]
    sides = torch.cat([sides[0], *(up(side, sides[0]) for side in sides[1:])], 1)
    return d.conv("outconv", sides, 1, 1, bias=True), sides


def test_it_equals_its_layers():
    image = random_image(70, 49) // 2  # its own largest value is not white
    pixels = np.asarray(image, np.float32)
    d = Drawn()
    with torch.no_grad():
        fused, sides = reference(d, to_torch(IMAGENET(jnp.asarray(255 * pixels / pixels.max()))))
    net = U2Net(((INNER, OUTER),) * 11)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)
    variables = convert(d.state, shapes, TORCH_NAMES)
    found = jax.jit(net.apply, compiler_options={"xla_backend_optimization_level": 0})(variables, image)
    assert_agree(found["side_logits"], sides)
    assert_agree(found["saliency_logits"][..., None], fused)


@pytest.mark.slow
def test_the_published_weights_give_their_output():
    folder = weights_or_skip("u2netp_saliency")
    run = jaxseg.import_weights(folder / "u2netp.onnx", "u2netp", fields={"norm": "none"})
    assert [(t.height, t.width) for t in run.geometry] == [(320, 320)]
    with np.load(folder / "golden.npz") as golden:
        image, fused, last = golden["input_rgb_uint8"][None], golden["d0"], golden["d6"]
    found = jax.jit(run.model.apply)(run.variables, image)
    p, side = (np.asarray(jax.nn.sigmoid(found[key]))[0] for key in ("saliency_logits", "side_logits"))
    assert np.abs(p - fused).max() < 5e-4
    assert np.abs(side[..., 5] - last).max() < 1e-3  # kept in 16 bits
