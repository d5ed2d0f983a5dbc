"""ENet against the layer table of the fact sheet, written independently in torch functional calls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.semantic.enet import PORT_NAMES, enet, enet_port
from jaxseg.weights.names import convert
from tests.oracles.drawn import Drawn
from tests.oracles.torch_side import assert_agree, random_image, to_torch
from tests.shared_data import weights_or_skip

torch = pytest.importorskip("torch", reason="the oracle is PyTorch (extra 'parity')")
F = torch.nn.functional


class Reader:
    """Walks our variables as torch tensors: kernels HWIO -> OIHW, transposed kernels HWIO -> IOHW."""

    def __init__(self, params, stats):
        self.params, self.stats = params, stats

    def __getitem__(self, name):
        return Reader(self.params[name], self.stats.get(name, {}))

    def tensor(self, name):
        return torch.from_numpy(np.array(self.params[name]))

    def conv(self, name, x, **options):
        p = self.params[name]
        kernel = torch.from_numpy(np.array(p["kernel"])).permute(3, 2, 0, 1)
        bias = torch.from_numpy(np.array(p["bias"])) if "bias" in p else None
        return F.conv2d(x, kernel, bias, **options)

    def transposed(self, name, x, **options):
        p = self.params[name]
        kernel = torch.from_numpy(np.array(p["kernel"])).permute(2, 3, 0, 1)
        return F.conv_transpose2d(x, kernel, torch.from_numpy(np.array(p["bias"])), **options)

    def norm(self, name, x):
        p, s = self.params[name], self.stats[name]
        mean, var, scale, bias = (torch.from_numpy(np.array(a)) for a in (s["mean"], s["var"], p["scale"], p["bias"]))
        return F.batch_norm(x, mean, var, scale, bias, training=False, eps=1e-3)

    def act(self, name, x):
        return F.prelu(x, self.tensor_of(name)) if name in self.params else F.relu(x)

    def tensor_of(self, name):
        return torch.from_numpy(np.array(self.params[name]["alpha"]))


def bottleneck(r, x, main):
    y = r.act("act1", r.norm("norm1", r.conv("reduce", x)))
    y = r.act("act2", r.norm("norm2", main(y)))
    y = r.norm("norm3", r.conv("expand", y))
    return r.act("act", x + y)


def down(r, x, features):
    y = r.act("act1", r.norm("norm1", r.conv("reduce", x, stride=2)))
    y = r.act("act2", r.norm("norm2", r.conv("conv", y, padding=1)))
    y = r.norm("norm3", r.conv("expand", y))
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    pooled = F.pad(pooled, (0, 0, 0, 0, 0, features - x.shape[1]))
    return r.act("act", pooled + y), indices


def up(r, x, indices):
    main = F.max_unpool2d(r.norm("main_norm", r.conv("main", x)), indices, 2)
    y = F.relu(r.norm("norm1", r.conv("reduce", x)))
    y = F.relu(r.norm("norm2", r.transposed("conv", y, stride=2, padding=1, output_padding=1)))
    return F.relu(main + r.norm("norm3", r.conv("expand", y)))


def reference(r, image):
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    x = (torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255 - mean) / std
    height, width = x.shape[2:]
    x = F.pad(x, (0, -width % 8, 0, -height % 8))
    b = r["initial"]
    x = torch.cat([b.conv("conv", x, stride=2, padding=1), F.max_pool2d(x, 2)], 1)
    x = b.act("act", b.norm("norm", x))
    x, indices1 = down(r["stage1_down"], x, 64)
    for i in range(1, 5):
        b = r[f"stage1_{i}"]
        x = bottleneck(b, x, lambda y, b=b: b.conv("conv", y, padding=1))
    x, indices2 = down(r["stage2_down"], x, 128)
    for stage in (2, 3):
        for i, rate in enumerate((1, 2, 0, 4, 1, 8, 0, 16), 1):  # 0: the asymmetric pair of five
            b = r[f"stage{stage}_{i}"]
            if rate:
                x = bottleneck(b, x, lambda y, b=b, d=rate: b.conv("conv", y, padding=d, dilation=d))
            else:
                x = bottleneck(
                    b, x, lambda y, b=b: b.conv("conv_column", b.conv("conv_row", y, padding=(0, 2)), padding=(2, 0))
                )
    x = up(r["stage4_up"], x, indices2)
    for i in (1, 2):
        b = r[f"stage4_{i}"]
        x = bottleneck(b, x, lambda y, b=b: b.conv("conv", y, padding=1))
    x = up(r["stage5_up"], x, indices1)
    b = r["stage5_1"]
    x = bottleneck(b, x, lambda y: b.conv("conv", y, padding=1))
    return r.transposed("fullconv", x, stride=2)[:, :, :height, :width].permute(0, 2, 3, 1).numpy()


def random_variables(model):
    """Every leaf random, BatchNorm statistics and slopes included, so that no swapped leaf goes unseen."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return rng.normal(size=leaf.shape, scale=np.sqrt(2 / np.prod(leaf.shape[:3]))).astype(np.float32)
        low, high = (0.5, 1.5) if name in ("var", "scale") else (-0.3, 0.3)
        return rng.uniform(low, high, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.mark.parametrize("size", [(64, 96), (51, 77)])
def test_logits_equal_the_layer_table_in_torch(size):
    model = enet()
    variables = random_variables(model)
    image = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    ours = np.asarray(jax.jit(model.apply)(variables, image)["logits"])
    theirs = reference(Reader(variables["params"], variables["batch_stats"]), image)
    assert ours.shape == (2, *size, 11)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_encoder_alone_is_the_papers_first_stage():
    model = enet(decoder=False)
    image = jnp.zeros((1, 64, 96, 3), jnp.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == 338_156 + 128 * 11 + 11  # fact sheet, section 9: encoder, plus its 1x1 classifier
    logits = jax.eval_shape(model.apply, shapes, image)["logits"]
    assert logits.shape == (1, 64, 96, 11)


def port_bottleneck(d, name, x, inner, main, slopes=1):
    """iArunava's block: what differs between its kinds is ``main``; its decoder has ReLU, that is no slope."""
    act = (lambda i, y: d.prelu(f"{name}.prelu{i}", y, slopes)) if slopes else (lambda i, y: F.relu(y))
    y = act(1, d.norm(f"{name}.batchnorm.a", d.conv(f"{name}.conv1", x, inner, 1), 1e-5))
    y = act(2, d.norm(f"{name}.batchnorm.b", main(name, y), 1e-5))
    return act, y


def port_regular(d, name, x, dilation=1, slopes=1):
    inner = x.shape[1] // 4

    def main(name, y):
        return d.conv(f"{name}.conv2", y, inner, 3, bias=True, padding=dilation, dilation=dilation)

    def asymmetric(name, y):
        y = d.conv(f"{name}.conv21", y, inner, (1, 5), padding=(0, 2))
        return d.conv(f"{name}.conv22", y, inner, (5, 1), padding=(2, 0))

    act, y = port_bottleneck(d, name, x, inner, main if dilation else asymmetric, slopes)
    return act(3, x + d.norm(f"{name}.batchnorm2", d.conv(f"{name}.conv3", y, x.shape[1], 1), 1e-5))


def port_down(d, name, x, features):
    inner = x.shape[1] // 4
    act, y = port_bottleneck(
        d, name, x, inner, lambda name, y: d.conv(f"{name}.conv2", y, inner, 3, bias=True, stride=2, padding=1)
    )
    y = d.norm(f"{name}.batchnorm2", d.conv(f"{name}.conv3", y, features, 1), 1e-5)
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    return act(3, y + F.pad(pooled, (0, 0, 0, 0, 0, features - x.shape[1]))), indices


def port_up(d, name, x, indices, features):
    inner = x.shape[1] // 4
    y = F.relu(d.norm(f"{name}.batchnorm.a", d.transposed(f"{name}.convt1", x, inner, 1), 1e-5))
    y = d.transposed(f"{name}.convt2", y, inner, 3, stride=2, padding=1, output_padding=1)
    y = F.relu(d.norm(f"{name}.batchnorm.b", y, 1e-5))
    y = d.norm(f"{name}.batchnorm2", d.transposed(f"{name}.convt3", y, features, 1), 1e-5)
    main = F.max_unpool2d(d.conv(f"{name}.main_conv", x, features, 1, bias=True), indices, 2)
    return F.relu(y + main)


def port(d, image, classes):
    """The whole port on RGB from 0 to 1, sides multiples of 8."""
    x = to_torch(image) / 255
    side = F.max_pool2d(x, 2)
    x = d.norm("init.batchnorm", d.conv("init.conv", x, 13, 3, bias=True, stride=2, padding=1), 1e-5)
    x = d.prelu("init.prelu", torch.cat([x, side], 1), 16)
    x, indices1 = port_down(d, "b10", x, 64)
    for i in range(1, 5):
        x = port_regular(d, f"b1{i}", x)
    x, indices2 = port_down(d, "b20", x, 128)
    for stage in (2, 3):
        for i, rate in enumerate((1, 2, 0, 4, 1, 8, 0, 16), 1):
            x = port_regular(d, f"b{stage}{i}", x, rate)
    x = port_up(d, "b40", x, indices2, 64)
    for i in (1, 2):
        x = port_regular(d, f"b4{i}", x, slopes=0)
    x = port_up(d, "b50", x, indices1, 16)
    x = port_regular(d, "b51", x, slopes=0)
    return d.transposed("fullconv", x, classes, 3, stride=2, padding=1, output_padding=1)


def imported(model, image, state):
    return convert(state, jax.eval_shape(model.init, jax.random.key(0), image), PORT_NAMES)


@pytest.mark.parametrize("size", [(48, 64), (37, 50)])
def test_the_port_equals_its_own_layers(size):
    model, image, d = enet_port(5), random_image(*size), Drawn()
    padded = jnp.pad(image, ((0, 0), (0, -size[0] % 8), (0, -size[1] % 8), (0, 0)))
    theirs = port(d, padded, 5)[:, :, : size[0], : size[1]]
    assert_agree(jax.jit(model.apply)(imported(model, image, d.state), image)["logits"], theirs)


def test_the_ports_camvid_weights_give_its_logits():
    with np.load(weights_or_skip("enet_camvid") / "enet_camvid_250_recal.npz") as file:
        state = dict(file)
    model, image = enet_port(), random_image(96, 120)
    ours = jax.jit(model.apply)(imported(model, image, state), image)["logits"]
    assert_agree(ours, port(Drawn(state), image, 12))
