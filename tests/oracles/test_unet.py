"""U-Net against the layer table of the paper's Figure 1, in torch functional calls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.conversion.importer import from_file
from jaxseg.conversion.rules import rules_of
from jaxseg.errors import BadInput
from jaxseg.models.semantic.unet import unet, unet_original
from jaxseg.weights.names import restore
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


def grey(image):
    """Luma around zero."""
    x = (to_torch(image) / 255 * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    return (x - 0.5) / 0.25


def imagenet(image):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (to_torch(image) / 255 - mean[:, None, None]) / std[:, None, None]


def test_original_equals_figure_1():
    """Valid convolutions, pools, and skips cropped by 4, 16, 40 and 88 pixels a side, before the upsampled."""
    model, image = unet_original(width=4, num_classes=3), random_image(188, 204)
    variables = random_variables(model, image)
    r = Reader(variables)
    x, skips = grey(image), []
    for level in range(4):
        for i in (1, 2):
            x = F.relu(r.conv(f"encoder{level}_conv{i}", x))
        skips.append(x)
        x = F.max_pool2d(x, 2)
    for i in (1, 2):
        x = F.relu(r.conv(f"bottom_conv{i}", x))
    for level, border in ((3, 4), (2, 16), (1, 40), (0, 88)):
        x = r.transposed(f"decoder{level}_up", x, stride=2)
        x = torch.cat([skips[level][:, :, border:-border, border:-border], x], 1)
        for i in (1, 2):
            x = F.relu(r.conv(f"decoder{level}_conv{i}", x))
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], r.conv("classifier", x))


@pytest.mark.parametrize(
    ("depth", "norm", "size"), [(3, "batch", (40, 56)), (2, "batch", (37, 50)), (1, "none", (9, 7))]
)
def test_same_padded_equals_its_table(depth, norm, size):
    model, image = unet(num_classes=5, depth=depth, width=4, norm=norm), random_image(*size)
    variables = random_variables(model, image)
    r = Reader(variables)

    def block(name, x):
        for i in (1, 2):
            x = r.conv(f"{name}_conv{i}", x, padding=1)
            x = F.relu(r.norm(f"{name}_norm{i}", x) if norm == "batch" else x)
        return x

    (h, w), m = size, 2**depth
    x, skips = F.pad(imagenet(image), (0, -w % m, 0, -h % m)), []
    for level in range(depth):
        x = block(f"encoder{level}", x)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = block("bottom", x)
    for level in reversed(range(depth)):
        x = torch.cat([skips[level], r.transposed(f"decoder{level}_up", x, stride=2)], 1)
        x = block(f"decoder{level}", x)
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], r.conv("classifier", x)[:, :, :h, :w])


class Milesial(torch.nn.Module):
    """milesial/Pytorch-UNet with transposed convolutions, by the names of its state dicts."""

    def __init__(self, classes, width):
        super().__init__()
        nn = torch.nn

        def double(c_in, c_out):
            block, layers = nn.Module(), []
            for c in (c_in, c_out):
                layers += [nn.Conv2d(c, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
            block.double_conv = nn.Sequential(*layers)
            return block

        self.inc = double(3, width)
        for k in range(1, 5):
            down, up = nn.Module(), nn.Module()
            down.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), double(width << (k - 1), width << k))
            up.up = nn.ConvTranspose2d(width << (5 - k), width << (4 - k), 2, stride=2)
            up.conv = double(width << (5 - k), width << (4 - k))
            self.add_module(f"down{k}", down)
            self.add_module(f"up{k}", up)
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        maps = [self.inc.double_conv(x)]
        for k in range(1, 5):
            pool, block = self.get_submodule(f"down{k}").maxpool_conv
            maps.append(block.double_conv(pool(maps[-1])))
        x = maps.pop()
        for k in range(1, 5):
            up = self.get_submodule(f"up{k}")
            x = up.conv.double_conv(torch.cat([maps.pop(), up.up(x)], 1))
        return self.outc.conv(x)


def test_milesial_s_weights_come_in_give_its_logits_and_go_back(tmp_path):
    """31,037,698 parameters at two classes, as in its README's network; pixels from 0 to 1."""
    torch.manual_seed(0)
    theirs = randomise(Milesial(3, 4)).eval()
    torch.save({**theirs.state_dict(), "mask_values": [0, 1, 2]}, tmp_path / "checkpoint.pth")
    made = from_file(tmp_path / "checkpoint.pth", "unet", fields={"num_classes": 3, "width": 4})
    assert made.implementation == "milesial"
    assert made.report[-1] == "statistics of pixels: the range of the image's type as 0..1 (as milesial has them)"
    image = random_image(48, 64)
    with torch.no_grad():
        expected = theirs(to_torch(image) / 255)
    assert_agree(jax.jit(made.model.apply)(made.variables, image)["logits"], expected)
    back = restore(made.variables, rules_of(made.model)["milesial"])
    for name, value in state(theirs).items():
        np.testing.assert_array_equal(back[name], value)
    with torch.device("meta"):
        assert sum(p.numel() for p in Milesial(2, 64).parameters()) == 31_037_698
    shapes = jax.eval_shape(lambda: unet(num_classes=2).init(jax.random.key(0), image))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 31_037_698
    with pytest.raises(BadInput, match="no rules"):
        rules_of(unet(depth=3))


def test_dropout_ends_the_contracting_path():
    """Only in training, and only there: with the last two levels' maps silenced nothing but their biases remains."""
    model, image = unet_original(width=2, dropout=1.0 - 1e-9), random_image(188, 188)
    variables = random_variables(model, image)

    def call(key):
        return model.apply(variables, image, train=True, rngs={"dropout": key}, capture_intermediates=True)

    maps = jax.jit(lambda key: call(key)[1])(jax.random.key(0))["intermediates"]
    assert not maps["encoder3_dropout"]["__call__"][0].any()
    assert not maps["bottom_dropout"]["__call__"][0].any()
    assert maps["encoder2_conv2"]["__call__"][0].any()


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (250, 572, r"height 250 does not fit U-Net's valid convolutions \(16 m \+ 60, from 188\); nearest: 252"),
        (572, 100, "width 100 does not fit .*; nearest: 188"),
        (196, 188, "height 196 does not fit .*; nearest: 188 or 204"),
    ],
)
def test_sizes_that_do_not_fit_are_named(height, width, message):
    model = unet_original(width=2)
    with pytest.raises(BadInput, match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(height, width)))


def test_sizes_follow_the_figure():
    model = unet_original()
    assert model.valid_size(572, 572) == (388, 388)
    assert model.valid_size(188, 204) == (4, 20)
    assert model.input_size(388, 4) == (572, 188)
    for rows in range(1, 60):
        height, _ = model.input_size(rows, rows)
        covered = model.valid_size(height, height)[0]
        assert rows <= covered < rows + 16


def test_valid_size_is_what_comes_out():
    model = unet_original(width=2)
    for size in (188, 204, 572):
        shape = jax.eval_shape(lambda s=size: model.init_with_output(jax.random.key(0), random_image(s, s))[0])
        assert shape["logits"].shape[1:3] == model.valid_size(size, size)


def test_any_size_has_logits_everywhere():
    """The padding inside leaves no trace in the shape, and even a single row has finite logits to the last pixel."""
    model = unet(num_classes=2, depth=3, width=2, norm="instance")
    image = random_image(1, 5)
    logits = jax.jit(model.apply)(random_variables(model, image), image)["logits"]
    assert logits.shape == (1, 1, 5, 2)
    assert np.isfinite(logits).all()


def test_patches_are_a_pixel_shuffle_around_the_network():
    """With patch 2 the body sees 2x2 blocks as channels; every logit still belongs to its own pixel."""
    model = unet(num_classes=3, depth=2, width=4, patch=2, norm="instance")
    image = random_image(21, 30)
    variables = random_variables(model, image)
    logits = jax.jit(model.apply)(variables, image)["logits"]
    assert logits.shape == (1, 21, 30, 3)
    assert variables["params"]["encoder0_conv1"]["kernel"].shape == (3, 3, 12, 4)
    assert variables["params"]["classifier"]["kernel"].shape == (1, 1, 4, 12)

    only = jnp.zeros(12).at[4 * 1 + 2 * 1 + 0].set(1.0)
    params = variables["params"] | {"classifier": {"kernel": jnp.zeros((1, 1, 4, 12)), "bias": only}}
    marked = jax.jit(model.apply)(variables | {"params": params}, image)["logits"]
    expected = np.zeros((1, 21, 30, 3))
    expected[0, 1::2, 0::2, 1] = 1.0
    np.testing.assert_array_equal(marked, expected)
