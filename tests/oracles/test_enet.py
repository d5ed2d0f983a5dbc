"""ENet against the layer table of the fact sheet, written independently in torch functional calls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.semantic.enet import enet

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
