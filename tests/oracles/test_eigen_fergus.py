"""Eigen and Fergus' network: layer by layer as the authors' release, against the same layers in torch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from jaxseg.errors import BadInput
from jaxseg.models.depth import eigen_fergus as ef
from jaxseg.registry import create_small
from jaxseg.tasks.maps import Cells
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch

CELLS3, CELLS2 = Cells(5, 2, 6), Cells(5, 4, 6)


@functools.cache
def small(name):
    model, image = create_small(name), random_image(228, 304, batch=1)
    return model, random_variables(model, image), image


def scale1(r, model, image):
    """The classifier's convolutions, 0.01 of the last pool flattened channel by channel, and two dense layers."""
    if isinstance(model.backbone, ef.VGG):
        x = image - torch.tensor([123.68, 116.779, 103.939])[:, None, None]
        for k, convs in enumerate(model.backbone.blocks, 1):
            for i in range(1, convs + 1):
                x = F.relu(r["backbone"].conv(f"conv{k}_{i}", x, padding=int(k > 1)))
            x = F.max_pool2d(x, 2)
    else:
        x = image - 128
        for i, (stride, padding) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1)), 1):
            x = r["backbone"].conv(f"conv{i}", x, stride=stride, padding=padding)
            x = F.relu(F.max_pool2d(x, 3, 2) if i in (1, 2, 5) else x)
            x = F.local_response_norm(x, 5, 1e-4, 0.75, 1.0) if i in (1, 2) else x
    weight = r.tensor("full1", "kernel").permute(3, 2, 0, 1).flatten(1)
    x = F.relu(F.linear((0.01 * x).flatten(1), weight, r.tensor("full1", "bias")))
    x = F.relu(F.linear(x, r.tensor("full2", "kernel")[0, 0].T, r.tensor("full2", "bias")))
    x = x.reshape(len(x), model.width, 14, 19)
    tent = torch.tensor([0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25])
    kernel = (tent[:, None] * tent).expand(model.width, 1, 7, 7)
    return F.conv_transpose2d(x, kernel, stride=4, groups=model.width)[:, :, 2:57, 2:76]


def stacks(r, x, tasks, layers):
    """Of each task 5x5 convolutions with ReLUs, and one without."""
    found = {}
    for task in tasks:
        y = x
        for i in range(layers):
            y = F.relu(r.conv(f"{task}{i + 2}", y, padding=2))
        found[task] = r.conv(f"{task}{layers + 2}", y, padding=2)
        if "bias" in r.variables["params"] and task == "depth":
            found[task] = found[task] + torch.from_numpy(np.array(r.variables["params"]["bias"])).permute(2, 0, 1)
        if task == "normals":
            found[task] = found[task] / torch.sqrt((found[task] ** 2).sum(1, keepdim=True) + 1e-4)
    return found


def reference(r, model, image):
    pixels = F.pad((image - 109.31410628) / 76.18328376, (1, 1, 1, 1))
    x = F.max_pool2d(F.relu(r["scale2"].conv("conv1", pixels, stride=2)), 3, 2)
    second = stacks(r["scale2"], torch.cat([scale1(r, model, image), x], 1), model.tasks, 3)
    told = [F.interpolate(x, scale_factor=2, mode="nearest")[:, :, :-1, :-1] for x in second.values()]
    x = F.max_pool2d(F.relu(r["scale3"].conv("conv1", pixels, stride=2)), 3, 1)
    told = torch.cat(told, 1)
    return second, stacks(r["scale3"], torch.cat([told, x[:, told.shape[1] :]], 1), model.tasks, 2)


def agree(outputs, theirs, cells):
    assert_agree(cells.of(jnp.log(outputs["depth"]))[..., None] / 0.45723134, theirs["depth"])
    assert_agree(cells.of(outputs["logits"]), theirs["labels"])
    unit = theirs["normals"] / theirs["normals"].norm(dim=1, keepdim=True)
    assert_agree(cells.of(outputs["normal"]), unit)


@pytest.mark.parametrize("name", [pytest.param("eigen_fergus_vgg16", marks=pytest.mark.slow), "eigen_fergus_alexnet"])
def test_equals_the_layers_of_the_release(name):
    model, variables, image = small(name)
    second, third = reference(Reader(variables), model, to_torch(image.astype(jnp.float32)))
    agree(jax.jit(model.apply)(variables, image), third, CELLS3)
    if name == "eigen_fergus_alexnet":
        agree(jax.jit(model.clone(scales=2).apply)(variables, image), second, CELLS2)


SHAPES = {
    "eigen_fergus_vgg16": {
        "backbone/conv1_1": (226, 302, 64),
        "backbone/conv1_2": (224, 300, 64),
        "backbone/conv5_3": (14, 18, 512),
        "full1": (1, 1, 4096),
    },
    "eigen_fergus_alexnet": {
        "backbone/conv1": (56, 75, 96),
        "backbone/conv2": (27, 37, 256),
        "backbone/conv5": (13, 18, 256),
    },
}
SHARED = {
    "full2": (1, 1, 64 * 14 * 19),
    "scale2/conv1": (111, 149, 96),
    "scale2/depth2": (55, 74, 64),
    "scale2/normals5": (55, 74, 3),
    "scale3/conv1": (111, 149, 96),
    "scale3/depth3": (109, 147, 64),
    "scale3/depth4": (109, 147, 1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_maps_have_the_sizes_of_the_paper(name):
    """Depths of convolutions, fully connected layers, 55x74 and 109x147 cells."""
    model, image = getattr(ef, name)(), jax.ShapeDtypeStruct((1, 228, 304, 3), jnp.uint8)
    run = functools.partial(model.init_with_output, jax.random.key(0), capture_intermediates=True)
    seen = jax.eval_shape(run, image)[1]["intermediates"]
    for path, shape in (SHAPES[name] | SHARED).items():
        tree = seen
        for part in path.split("/"):
            tree = tree[part]
        assert tree["__call__"][0].shape[1:] == shape, path


SCALE_1 = 14_714_688 + 132_124_672 + 69_747_328
STACKS = 5 * 64 * 5 * 5 * 64 + 5 * 64 + 5 * 5 * (160 - 64 + 96 - 64) * 64
"""Weights of the five hidden layers of a task at both scales: 160 channels go in at scale 2, 96 at scale 3."""


@pytest.mark.parametrize(("task", "channels"), [("depth", 1), ("normals", 3), ("labels", 40)])
def test_single_tasks_have_their_own_stacks_alone(task, channels):
    """Scale 1, two 9x9 convolutions of 96 filters, the hidden layers, two last ones, and depth's map of biases."""
    count = SCALE_1 + 2 * 96 * (9 * 9 * 3 + 1) + STACKS + 2 * channels * (5 * 5 * 64 + 1)
    count += 55 * 74 if task == "depth" else 0
    tasks = (task,)
    shapes = jax.eval_shape(
        ef.eigen_fergus_vgg16(tasks=tasks).init, jax.random.key(0), jnp.zeros((1, 228, 304, 3), jnp.uint8)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_images_of_other_sizes_are_seen_at_240x320_in_their_middle():
    model, variables, _ = small("eigen_fergus_alexnet")
    image = random_image(240, 320, batch=1)
    whole, middle = (jax.jit(model.apply)(variables, x) for x in (image, image[:, 6:234, 8:312]))
    for key, value in middle.items():
        np.testing.assert_allclose(whole[key][:, 6:234, 8:312], value, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(whole[key][:, 0, 20], value[:, 0, 12], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_scale_3_learns_on_crops_what_it_predicts_on_the_whole():
    model, variables, image = small("eigen_fergus_alexnet")
    pair = jnp.concatenate([image, image])
    whole = jax.jit(model.apply)(variables, pair)

    @jax.jit
    def step(params, key):
        outputs = model.clone(crop=(55, 74)).apply({"params": params}, pair, train=True, rngs={"sample": key})
        cells = jnp.where(CELLS3.of(outputs["computed"]), CELLS3.of(outputs["depth"]), 0.0)
        return jnp.sum(cells**2), outputs

    slope, outputs = jax.grad(step, has_aux=True)(variables["params"], jax.random.key(1))
    computed = np.asarray(CELLS3.of(outputs["computed"]))
    assert computed.reshape(2, -1).sum(1).tolist() == [55 * 74] * 2
    assert (computed[0] != computed[1]).any()
    inner = np.stack([binary_erosion(row, np.ones((13, 13))) for row in computed])  # beyond, zeros are seen
    assert inner.sum() == 2 * 43 * 62
    for key in ("depth", "normal", "logits"):
        ours, theirs = (np.asarray(CELLS3.of(x[key]))[inner] for x in (outputs, whole))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
    learns = {part: any(bool(jnp.any(leaf)) for leaf in jax.tree.leaves(tree)) for part, tree in slope.items()}
    assert learns == {"backbone": False, "full1": False, "full2": False, "scale2": False, "scale3": True}


def test_mistakes_are_named():
    image = jnp.zeros((1, 228, 304, 3), jnp.uint8)
    for fields, message in (
        ({"tasks": ("normals", "depth")}, "in this order"),
        ({"tasks": ("depht",)}, "'depht'"),
    ):
        with pytest.raises(BadInput, match=message):
            jax.eval_shape(ef.eigen_fergus_vgg16(**fields).init, jax.random.key(0), image)
