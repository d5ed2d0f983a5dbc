"""Both colorization networks against their layers in torch, with the names of the public weights."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.models.colorization.colorization import ECCV16, ECCV16_NAMES, SIGGRAPH17, SIGGRAPH17_NAMES
from jaxseg.ops.lab import rgb_to_lab
from jaxseg.weights.names import convert
from tests.oracles.drawn import Drawn
from tests.oracles.torch_side import F, assert_agree, random_image, to_torch, torch

WIDTH = 4
FAST = {"xla_backend_optimization_level": 0}


def trunk(d, x, strided):
    """Blocks 1 to 7; the maps after blocks 1, 2, 3 and 7. The steps are in the last convolution or between blocks."""
    kept = []
    plan = ((1, 2, 1), (2, 2, 1), (4, 3, 1), (8, 3, 1), (8, 3, 2), (8, 3, 2), (8, 3, 1))
    for number, (features, count, dilation) in enumerate(plan, 1):
        halves = number <= 3
        for i in range(count):
            stride = 2 if strided and halves and i == count - 1 else 1
            options = {"bias": True, "padding": dilation, "dilation": dilation, "stride": stride}
            x = F.relu(d.conv(f"model{number}.{2 * i}", x, features * WIDTH, 3, **options))
        x = d.norm(f"model{number}.{2 * count}", x, 1e-5)
        kept.append(x)
        x = x[:, :, ::2, ::2] if halves and not strided else x
    return *kept[:3], x


def eccv16(d, lightness):
    x = trunk(d, lightness, strided=True)[3]
    x = F.relu(d.transposed("model8.0", x, 4 * WIDTH, 4, bias=True, stride=2, padding=1))
    for place in (2, 4):
        x = F.relu(d.conv(f"model8.{place}", x, 4 * WIDTH, 3, bias=True, padding=1))
    logits = d.conv("model8.6", x, 313, 1, bias=True)
    ab = d.conv("model_out", logits.softmax(1), 2, 1)
    return logits, 110 * F.interpolate(ab, scale_factor=4, mode="bilinear")


def siggraph17(d, given):
    one, two, three, x = trunk(d, given, strided=False)
    for number, features, skip, of in ((8, 4, three, 3), (9, 2, two, 2), (10, 2, one, 1)):
        up = d.transposed(f"model{number}up.0", x, features * WIDTH, 4, bias=True, stride=2, padding=1)
        up = up[:, :, : skip.shape[2], : skip.shape[3]]
        short = d.conv(f"model{of}short{number}.0", skip, features * WIDTH, 3, bias=True, padding=1)
        x = F.relu(up + short)
        for place in (1, 3) if number == 8 else (1,):
            x = d.conv(f"model{number}.{place}", x, features * WIDTH, 3, bias=True, padding=1)
            x = F.leaky_relu(x, 0.2) if number == 10 else F.relu(x)
        x = x if number == 10 else d.norm(f"model{number}.{5 if number == 8 else 3}", x, 1e-5)
        if number == 8:
            logits = d.conv("model_class.0", x, 529, 1, bias=True)
    return logits, 110 * torch.tanh(d.conv("model_out.0", x, 2, 1, bias=True))


def agree(net, names, d, image, theirs, **given):
    shapes = jax.eval_shape(net.init, jax.random.key(0), image)
    variables = convert(d.state, shapes, names)
    found = jax.jit(net.apply, compiler_options=FAST)(variables, image, **given)
    for key, reference in zip(("ab_logits", "ab"), theirs, strict=True):
        assert_agree(found[key], reference)


def test_the_network_of_2016_equals_its_layers():
    image, d = random_image(40, 56), Drawn()
    with torch.no_grad():
        theirs = eccv16(d, to_torch((rgb_to_lab(np.asarray(image))[..., :1] - 50) / 100))
    agree(ECCV16(WIDTH), ECCV16_NAMES, d, image, theirs)


def test_the_network_of_2017_equals_its_layers_with_hints():
    image, d = random_image(37, 50), Drawn()
    rng = np.random.default_rng(1)
    hints, where = rng.uniform(-80, 80, (1, 37, 50, 2)).astype(np.float32), rng.random((1, 37, 50)) < 0.1
    lightness = (rgb_to_lab(np.asarray(image))[..., :1] - 50) / 100
    mask = where[..., None].astype(np.float32)
    with torch.no_grad():
        theirs = siggraph17(d, to_torch(np.concatenate([lightness, hints * mask / 110, mask - 0.5], -1)))
    agree(
        *(SIGGRAPH17(WIDTH), SIGGRAPH17_NAMES, d, image, theirs),
        hints=jnp.asarray(hints),
        hint_valid=jnp.asarray(where),
    )
