"""What the oracles in torch share: our variables as torch tensors, numbers that exercise every layer, one measure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxseg.weights.names import convert, restore

torch = pytest.importorskip("torch", reason="the oracle is PyTorch (extra 'parity')")
F = torch.nn.functional


class Reader:
    """The layers of one module of ours as torch calls, by name: kernels HWIO -> OIHW."""

    def __init__(self, variables):
        self.variables = {c: tree for c, tree in variables.items() if tree}

    def __getitem__(self, name):
        return Reader({c: tree.get(name, {}) for c, tree in self.variables.items()})

    def tensor(self, name, leaf, collection="params"):
        return torch.from_numpy(np.array(self.variables[collection][name][leaf]))

    def conv(self, name, x, **options):
        kernel = self.tensor(name, "kernel").permute(3, 2, 0, 1)
        bias = self.tensor(name, "bias") if "bias" in self.variables["params"][name] else None
        return F.conv2d(x, kernel, bias, **options)

    def transposed(self, name, x, **options):
        kernel = self.tensor(name, "kernel").permute(2, 3, 0, 1)
        bias = self.tensor(name, "bias") if "bias" in self.variables["params"][name] else None
        return F.conv_transpose2d(x, kernel, bias, **options)

    def norm(self, name, x, eps=1e-5):
        mean, var = (self.tensor(name, leaf, "batch_stats") for leaf in ("mean", "var"))
        return F.batch_norm(x, mean, var, self.tensor(name, "scale"), self.tensor(name, "bias"), eps=eps)


def random_variables(model, image, **call):
    """Variables of the model with every leaf random, also those that start at zero or one."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, **call))
    rng = np.random.default_rng(0)
    draw = {
        "kernel": lambda s: rng.normal(size=s) * (2 / np.prod(s[:-1])) ** 0.5,
        "bias": lambda s: rng.normal(size=s) * 0.1,
        "scale": lambda s: rng.uniform(0.5, 1.5, s),
        "mean": lambda s: rng.normal(size=s) * 0.1,
        "var": lambda s: rng.uniform(0.5, 1.5, s),
        "alpha": lambda s: rng.uniform(0.1, 0.4, s),
    }
    flat = traverse_util.flatten_dict(shapes)
    return traverse_util.unflatten_dict({k: jnp.asarray(draw[k[-1]](v.shape), v.dtype) for k, v in flat.items()})


def initial_params(model, image):
    """What the model's own initialisers draw, from a generator that compiles fast."""
    return jax.jit(model.init)(jax.random.key(0, impl="rbg"), image)["params"]


def randomise(module):
    """The torch module with random affine parameters and statistics of its normalisations, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.GroupNorm | torch.nn.LayerNorm):
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
            layer.bias.data.normal_(0, 0.1, generator=generator)
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def state(module):
    """The module's state dict as NumPy arrays."""
    return {name: value.numpy() for name, value in module.state_dict().items()}


def random_image(height, width, batch=1, seed=0):
    """u8[b h w 3]."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), dtype=np.uint8))


def to_torch(x):
    """NHWC array -> NCHW float tensor."""
    return torch.from_numpy(np.array(x, np.float32)).permute(0, 3, 1, 2)


def assert_agree(ours, theirs, tolerance=1e-4):
    """The largest difference is at most that share of the largest reference value, which is not nothing."""
    reference = theirs.detach().permute(0, 2, 3, 1).numpy()
    assert ours.shape == reference.shape
    peak = np.abs(reference).max()
    assert peak > 0
    assert np.abs(np.asarray(ours) - reference).max() / peak <= tolerance


def draw(module):
    """The torch module with every parameter and statistic random, in evaluation mode: none is as it was initialised."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            matrix = value.ndim > 1 and "pos" not in name and "token" not in name
            value.normal_(0, value[0].numel() ** -0.5 if matrix else 0.2, generator=generator)
            if value.ndim == 1 and not name.endswith("bias"):
                value.add_(1)
        for name, value in module.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1, generator=generator)
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def assert_maps(net, rules, theirs, run, sizes, *, keys=("c2", "c3", "c4", "c5"), extra=()):
    """The encoder with the module's weights gives the maps that ``run(module, image)`` gives, and gives them back.

    ``extra`` are parts that the module does not have and the maps do not depend on.
    """
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), random_image(64, 64), train=False))
    own = {k: v for k, v in traverse_util.flatten_dict(shapes).items() if k[1] not in extra}
    variables = convert(state(theirs), traverse_util.unflatten_dict(own), rules)
    back = restore(variables, rules)
    source = theirs.state_dict()
    assert back.keys() <= source.keys()
    for name, value in back.items():
        if not name.endswith(("qkv.bias", "num_batches_tracked")):
            np.testing.assert_array_equal(value, source[name].numpy(), err_msg=name)
    if extra:
        zeros = {k: np.zeros(v.shape, v.dtype) for k, v in traverse_util.flatten_dict(shapes).items()}
        variables = traverse_util.unflatten_dict(zeros | traverse_util.flatten_dict(variables))
    call = jax.jit(lambda v, x: net.apply(v, x, train=False))
    for size in sizes:
        image = random_image(*size)
        with torch.no_grad():
            references = run(theirs, to_torch(net.standardize(image)))
        ours = call(variables, image)
        for key, reference in zip(keys, references, strict=True):
            assert_agree(ours[key], reference)
