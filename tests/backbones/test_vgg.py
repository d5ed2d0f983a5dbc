"""VGG against torchvision, and the variants that torchvision does not have against the same layers in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.backbones.vgg import (
    TORCHVISION_CLASSIFIER,
    VGG,
    VGG11,
    VGG13,
    VGG16,
    VGG19,
    VGGClassifier,
    torchvision_names,
)
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import UNIT
from jaxseg.weights.names import convert
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
from tests.torchvision_cpu import torchvision_or_skip


def parameters(model, *args, **call):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *args, **call))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_vgg16_has_the_published_count():
    assert parameters(VGG(), random_image(32, 32), train=False) == 14_714_688
    features = jnp.zeros((1, 7, 7, 512), jnp.float32)
    assert parameters(VGGClassifier(), features, train=False) == 119_545_856


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(("blocks", "letter"), [(VGG11, "A"), (VGG13, "B"), (VGG16, "D"), (VGG19, "E")])
def test_equals_torchvision(blocks, letter, norm):
    vgg = torchvision_or_skip().models.vgg
    width = 8
    layers = [v if v == "M" else v * width // 64 for v in vgg.cfgs[letter]]
    reference = randomise(torch.nn.ModuleDict({"features": vgg.make_layers(layers, batch_norm=norm == "batch")}))
    model = VGG(blocks=blocks, width=width, norm=norm, standardize=UNIT)
    sizes = [(64, 64), (45, 67)] if letter in "AD" else [(45, 67)]
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(*sizes[0]), train=False))
    variables = convert(state(reference), target, torchvision_names(blocks, norm))
    for size in sizes:
        image = random_image(*size)
        ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
        x, pools = to_torch(image) / 255, []
        for layer in reference["features"]:
            x = layer(x)
            if isinstance(layer, torch.nn.MaxPool2d):
                pools.append(x)
        for k, pool in enumerate(pools, 1):
            assert_agree(ours[f"c{k}"], pool)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_last_map_of_a_stride_is_the_one_before_the_next_pool(norm):
    """As segmentation-models-pytorch and timm take them."""
    model, image = VGG(VGG11, width=4, norm=norm, out_maps="last"), random_image(64, 96)
    variables = random_variables(model, image, train=False)
    maps = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    r, x = Reader(variables), to_torch(model.standardize(image))
    for k, convs in enumerate(VGG11, 1):
        for i in range(1, convs + 1):
            x = r.conv(f"conv{k}_{i}", x, padding=1)
            x = F.relu(r.norm(f"norm{k}_{i}", x) if norm == "batch" else x)
        if k > 1:
            assert_agree(maps[f"c{k - 1}"], x)
        x = F.max_pool2d(x, 2)
    assert_agree(maps["c5"], x)


def test_classifier_equals_the_fully_connected_layers():
    linear = torch.nn.Linear
    reference = torch.nn.ModuleDict(
        {"classifier": torch.nn.ModuleList([linear(4 * 49, 12), *[torch.nn.Identity()] * 2, linear(12, 12)])}
    )
    model = VGGClassifier(12)
    window = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 7, 4)), jnp.float32)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), window, train=False))
    variables = convert(state(reference), target, TORCHVISION_CLASSIFIER)
    fc6, _, _, fc7 = reference["classifier"]
    theirs = F.relu(fc7(F.relu(fc6(to_torch(window).flatten(1)))))
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, window)
    assert_agree(ours, theirs[:, :, None, None])


@pytest.mark.parametrize(("stride", "size", "fc"), [(8, (40, 56), 4), (16, (48, 51), 2)])
def test_removed_pools_become_dilation(stride, size, fc):
    """Every map at a coarser position equals the strided network's, which sees the same pixels (FCN section 3.2)."""
    image = random_image(*size)
    model = VGG(blocks=VGG11, width=4, norm="batch", output_stride=stride)
    variables = random_variables(model, image, train=False)
    maps = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    assert maps["c5"].shape[1:3] == tuple(s // stride for s in size)
    r = Reader(variables)
    x = to_torch(model.standardize(image))
    for k, convs in enumerate(VGG11, 1):
        dilation = {(5, 8): 2}.get((k, stride), 1)
        for i in range(1, convs + 1):
            x = F.relu(r.norm(f"norm{k}_{i}", r.conv(f"conv{k}_{i}", x, padding=dilation, dilation=dilation)))
        if 2**k <= stride:
            x = F.max_pool2d(x, 2)
        assert_agree(maps[f"c{k}"], x)
    head = VGGClassifier(8, kernel_size=2, dilation=fc)
    weights = random_variables(head, maps["c5"], train=False)
    y = F.relu(Reader(weights).conv("fc6", x, dilation=fc))
    assert_agree(head.apply(weights, maps["c5"], train=False), F.relu(Reader(weights).conv("fc7", y)))


def test_valid_front_end_sizes():
    """Without padding, pools 4 and 5: (900 - 372) / 8 pixels remain after a 7x7 window dilated by 4."""
    model = VGG(width=2, output_stride=8, padding=0, first_padding=0)
    maps = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), random_image(900, 900), train=False)[0])
    assert [maps[f"c{k}"].shape[1] for k in (1, 2, 3, 4, 5)] == [448, 222, 108, 102, 90]
    assert 90 - 4 * 6 == (900 - 372) / 8


def wide_in_torch(layers, image, blocks, padding, stride):
    """Every block's map, with nothing left out."""
    x, maps = to_torch(VGG().standardize(image)), {}
    for k, convs in enumerate(blocks, 1):
        dilation = 2 if (k, stride) == (5, 8) else 1
        for i in range(1, convs + 1):
            layer, pad = layers[f"conv{k}_{i}"], padding if k == i == 1 else dilation
            x = F.relu(F.conv2d(x, layer["kernel"].permute(3, 2, 0, 1), layer["bias"], padding=pad, dilation=dilation))
        x = maps[f"c{k}"] = F.max_pool2d(x, 2, ceil_mode=True) if 2**k <= stride else x
    return maps


def as_tensors(params):
    return {
        name: {leaf: torch.from_numpy(np.array(a)).requires_grad_() for leaf, a in layer.items()}
        for name, layer in params.items()
    }


@pytest.mark.parametrize(
    ("size", "padding", "stride"), [((1, 1), 100, 32), ((20, 33), 100, 32), ((31, 46), 37, 32), ((30, 21), 64, 8)]
)
def test_wide_padding_equals_the_whole_computation(size, padding, stride):
    """Rows of the margin are computed once and repeated; every map is that of the full convolutions."""
    image = random_image(*size)
    model = VGG(width=2, first_padding=padding, ceil_mode=True, output_stride=stride)
    variables = random_variables(model, image, train=False)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    theirs = wide_in_torch(as_tensors(variables["params"]), image, VGG16, padding, stride)
    for name, x in theirs.items():
        assert_agree(ours[name], x)


def test_wide_padding_has_the_whole_gradient():
    image, blocks = random_image(15, 22), (2, 1, 1)
    model = VGG(blocks=blocks, width=2, first_padding=60, ceil_mode=True)
    variables = random_variables(model, image, train=False)

    def pattern(shape):
        """A different factor at every place, so that no two rows of the margin count alike."""
        return np.resize(np.random.default_rng(0).normal(size=997).astype(np.float32), shape)

    @jax.jit
    @jax.grad
    def gradient(variables):
        maps = model.apply(variables, image, train=False)
        return sum(jnp.sum(x * pattern(x.shape)) for x in maps.values())

    ours, layers = gradient(variables)["params"], as_tensors(variables["params"])
    maps = wide_in_torch(layers, image, blocks, 60, 32)
    sum((x * to_torch(pattern(x.permute(0, 2, 3, 1).shape))).sum() for x in maps.values()).backward()
    for name, layer in layers.items():
        for leaf, value in layer.items():
            reference = value.grad.numpy()
            assert np.abs(ours[name][leaf] - reference).max() <= 1e-4 * np.abs(reference).max(), (name, leaf)


def test_ceil_mode_keeps_the_ragged_edge():
    model, image = VGG(blocks=VGG11, width=2, ceil_mode=True), random_image(33, 32)
    maps = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image, train=False)[0])
    assert [maps[f"c{k}"].shape[1:3] for k in (1, 2, 5)] == [(17, 16), (9, 8), (2, 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 4}, "there are 8, 16 and 32"),
        ({"out_maps": "all"}, "there are 'first', 'last' and 'before'"),
        ({"out_maps": "last", "output_stride": 8}, "'last' of VGG at output stride 8"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(BadInput, match=message):
        VGG(**options).init(jax.random.key(0), random_image(32, 32), train=False)
