"""ESPNet against the layer table of the fact sheet under the authors' names, and against their trained network."""

import jax
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.layers.standardize import Standardize
from jaxseg.models.semantic.espnet import CAMVID, TORCH_NAMES, espnet, espnet_c
from jaxseg.weights.names import convert
from tests.oracles.drawn import Drawn
from tests.oracles.torch_side import F, assert_agree, random_image, to_torch, torch
from tests.shared_data import weights_or_skip


def norm_act(d, name, x):
    return d.prelu(f"{name}.act", d.norm(f"{name}.bn", x, 1e-3), x.shape[1])


def pyramid(d, name, x, out, size=1, stride=1):
    n = out // 5
    x = d.conv(f"{name}.c1.conv", x, n, size, stride=stride, padding=size // 2)
    d1 = d.conv(f"{name}.d1.conv", x, out - 4 * n, 3, padding=1)
    d2, d4, d8, d16 = (d.conv(f"{name}.d{i}.conv", x, n, 3, padding=i, dilation=i) for i in (2, 4, 8, 16))
    return torch.cat([d1, d2, d2 + d4, d2 + d4 + d8, d2 + d4 + d8 + d16], 1)


def encoder(d, x, classes, p, q, prefix="encoder."):
    """Maps at 1/2 and 1/4 and scores at 1/8."""
    small = F.avg_pool2d(x, 3, stride=2, padding=1)
    smaller = F.avg_pool2d(small, 3, stride=2, padding=1)
    x = norm_act(d, f"{prefix}level1", d.conv(f"{prefix}level1.conv", x, 16, 3, stride=2, padding=1))
    half = norm_act(d, f"{prefix}b1", torch.cat([x, small], 1))
    x = first = norm_act(d, f"{prefix}level2_0", pyramid(d, f"{prefix}level2_0", half, 64, 3, 2))
    for i in range(p):
        x = norm_act(d, f"{prefix}level2.{i}.bn", x + pyramid(d, f"{prefix}level2.{i}", x, 64))
    quarter = norm_act(d, f"{prefix}b2", torch.cat([x, first, smaller], 1))
    x = first = norm_act(d, f"{prefix}level3_0", pyramid(d, f"{prefix}level3_0", quarter, 128, 3, 2))
    for i in range(q):
        x = norm_act(d, f"{prefix}level3.{i}.bn", x + pyramid(d, f"{prefix}level3.{i}", x, 128))
    x = norm_act(d, f"{prefix}b3", torch.cat([first, x], 1))
    return half, quarter, d.conv(f"{prefix}classifier.conv", x, classes, 1)


def decoder(d, half, quarter, score, classes):
    x = d.transposed("up_l3.0", d.norm("br", score, 1e-3), classes, 2, stride=2)
    x = torch.cat([d.conv("level3_C.conv", quarter, classes, 1), x], 1)
    x = norm_act(d, "combine_l2_l3.0", x)
    x = norm_act(d, "combine_l2_l3.1.bn", pyramid(d, "combine_l2_l3.1", x, classes))
    x = norm_act(d, "up_l2.1", d.transposed("up_l2.0", x, classes, 2, stride=2))
    x = norm_act(d, "conv", d.conv("conv.conv", torch.cat([x, half], 1), classes, 3, padding=1))
    return d.transposed("classifier", x, classes, 2, stride=2)


def prepared(image):
    """As the authors' data loader: BGR, minus mean, by deviation, by 255; filled up with zeros to a multiple of 8."""
    mean = torch.tensor([110.33102643, 108.40886315, 105.03319369]).reshape(1, 3, 1, 1)
    std = torch.tensor([72.12571015, 72.69074534, 69.90434816]).reshape(1, 3, 1, 1)
    x = (to_torch(image).flip(1) - mean) / std / 255
    return F.pad(x, (0, -x.shape[3] % 8, 0, -x.shape[2] % 8))


def imported(model, image, state):
    return convert(state, jax.eval_shape(model.init, jax.random.key(0), image), TORCH_NAMES)


@pytest.mark.parametrize(("size", "classes", "p", "q"), [((64, 48), 12, 1, 2), ((37, 51), 7, 2, 1)])
def test_espnet_equals_the_layer_table(size, classes, p, q):
    model, image, d = espnet(classes, p=p, q=q), random_image(*size), Drawn()
    theirs = decoder(d, *encoder(d, prepared(image), classes, p, q), classes)[:, :, : size[0], : size[1]]
    assert_agree(jax.jit(model.apply)(imported(model, image, d.state), image)["logits"], theirs)


def test_the_encoder_alone_equals_its_part():
    """The authors' encoder has no prefix in its own files."""
    model, image, d = espnet_c(9, p=1, q=1), random_image(40, 24), Drawn()
    _, _, score = encoder(d, prepared(image), 9, 1, 1, prefix="")
    ours = jax.jit(model.apply)(imported(model, image, d.state), image)["logits"]
    assert_agree(ours, F.interpolate(score, scale_factor=8, mode="nearest"))


def test_fewer_classes_than_branches_are_refused():
    with pytest.raises(BadInput, match="at least 5, not 4"):
        jax.eval_shape(espnet(4).init, jax.random.key(0), random_image(32, 32))


def test_the_authors_camvid_network_gives_its_golden_logits():
    folder = weights_or_skip("espnet_camvid")
    with np.load(folder / "weights.npz") as file:
        state = dict(file)
    golden = np.load(folder / "golden.npz")
    mean, std = np.asarray(CAMVID.mean, np.float32), np.asarray(CAMVID.std, np.float32)
    raw = np.rint(golden["net_input"].transpose(0, 2, 3, 1) * std + mean)[..., ::-1].astype(np.uint8)

    exact = espnet(standardize=Standardize())  # its input is standardised already
    variables = imported(exact, raw, state)
    logits = np.asarray(jax.jit(exact.apply)(variables, golden["net_input"].transpose(0, 2, 3, 1))["logits"])
    expected, step = golden["logits_strided"].transpose(0, 2, 3, 1), int(golden["stride"])
    np.testing.assert_allclose(logits[:, ::step, ::step], expected, atol=1e-3)
    np.testing.assert_array_equal(logits.argmax(-1), golden["argmax"])

    from_pixels = np.asarray(jax.jit(espnet().apply)(variables, raw)["logits"])
    np.testing.assert_allclose(from_pixels, logits, atol=1e-3)
