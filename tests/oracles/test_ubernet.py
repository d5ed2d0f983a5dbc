"""UberNet beside its layers in torch; what is deferred equals what is not; memory by the number of tasks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.models.multitask.ubernet import HEADS, TASKS
from jaxseg.ops.codings import INCLUSIVE
from jaxseg.ops.deferred import resolved
from jaxseg.registry import create_model, create_small
from jaxseg.tasks.boundary import Boundary
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.normals import Normals
from jaxseg.tasks.regions import ProposalLoss, RegionLoss
from jaxseg.tasks.saliency import Saliency
from jaxseg.tasks.semantic import Semantic
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch

SIZE, SIDES = (40, 50), (65, 65)
TWICE = ProposalLoss(inside=True, weight=2.0)
TWICE_REGIONS = RegionLoss(beta=1.0, coding=INCLUSIVE, weight=2.0)


def tasks_of(model):
    semantic, parts = Semantic(model.num_classes), Semantic(model.num_parts)
    known = {"edg": Boundary(), "nrm": Normals(), "sal": Saliency(), "seg": semantic, "sbd": semantic, "prt": parts}
    known["det"] = Detection(model.detector.num_classes, proposal_loss=TWICE, region_loss=TWICE_REGIONS)
    return MultiTask({name: known[name] for name in model.heads})


def batch_of(size, batch=1):
    rng = np.random.default_rng(0)
    at = (batch, *size)
    label = jnp.asarray(rng.integers(0, 3, at), jnp.int32)
    normal = rng.normal(size=(*at, 3))
    return {
        "image": random_image(size[0], size[1], batch),
        "edg/boundary": jnp.asarray(rng.random(at) < 0.2),
        "sal/saliency": jnp.asarray(rng.random(at) < 0.5),
        "nrm/normal": jnp.asarray(normal / np.linalg.norm(normal, axis=-1, keepdims=True), jnp.float32),
        **{f"{name}/label": label for name in ("seg", "sbd", "prt")},
        "det/boxes": jnp.broadcast_to(jnp.asarray([[4.0, 5.0, 28.0, 30.0], [0, 0, 0, 0]]), (batch, 2, 4)),
        "det/valid": jnp.broadcast_to(jnp.asarray([True, False]), (batch, 2)),
        "det/classes": jnp.ones((batch, 2), jnp.int32),
        "real": jnp.ones(batch, bool),
    }


def scores(reader, image, name, stride):
    """The fused scores of a task and those of its three scales, at the size of the padded image."""
    x = F.pad(image, (0, SIDES[1] - image.shape[3], 0, SIDES[0] - image.shape[2]), mode="replicate")
    target = [(side - 1) // stride + 1 for side in SIDES]
    scales = []
    for scale in (1, 2, 4):
        y = x if scale == 1 else F.avg_pool2d(x, 3, scale, 1)
        maps = []
        for k in range(1, 6):
            y = F.relu(reader["trunk"]["backbone"].conv(f"conv{k}_1", y, padding=1 + (k == 5), dilation=1 + (k == 5)))
            mean, var = (
                reader.tensor(f"norm{scale}_{k}", leaf, "batch_stats")[:, None, None] for leaf in ("mean", "var")
            )
            maps.append(10 * (y - mean) / torch.sqrt(var + 1))
            y = F.max_pool2d(y, 3, 2 if k < 4 else 1, 1)
        y = F.relu(reader["trunk"].conv("fc6", F.avg_pool2d(y, 3, 1, 1), padding=12, dilation=12))
        maps.append(F.relu(reader["trunk"].conv("fc7", y)))
        each = [one(reader, f"{name}_skip{i}", m) for i, m in enumerate(maps, 1)]
        each = [F.interpolate(m, target, mode="bilinear", align_corners=True) for m in each]
        scales.append(one(reader, f"{name}_fuse", torch.cat(each, 1)))
    fused = one(reader, f"{name}_fuse_scales", torch.cat(scales, 1))
    return [F.interpolate(m, SIDES, mode="bilinear", align_corners=True) for m in (fused, *scales)]


def one(reader, name, x):
    return F.conv2d(x, reader.tensor(name, "kernel").T[:, :, None, None], reader.tensor(name, "bias"))


def test_equals_its_layers_in_torch():
    model, image = create_small("ubernet_vgg16", heads=("edg", "seg")), random_image(*SIZE)
    variables = random_variables(model, image)
    found = jax.jit(model.apply)(variables, image)
    x, reader = to_torch(model.standardize(image)), Reader(variables)
    crop = lambda m: m[:, :, : SIZE[0], : SIZE[1]]  # noqa: E731
    edges = [crop(m[:, 1:] - m[:, :1]) for m in scores(reader, x, "edg", 1)]
    assert_agree(found["edg/boundary_logits"][..., None], edges[0])
    assert_agree(found["edg/side_logits"], torch.cat(edges[1:], 1))
    labels = [crop(m) for m in scores(reader, x, "seg", 8)]
    assert_agree(found["seg/logits"], labels[0])
    for stride, side in zip((1, 2, 4), labels[1:], strict=True):
        assert_agree(found[f"seg/aux_logits_{stride}"], side)


def loss_of(model, *, deferred):
    task = tasks_of(model)

    def loss(params, state, batch):
        variables = {"params": params, **state}
        inputs = task.inputs(batch, train=True)
        outputs, _ = model.apply(variables, **inputs, train=True, mutable=["batch_stats"], rngs=KEYS)
        if not deferred:
            outputs = {f"{k.split('/')[0]}/{key}": v for k, d in outputs.items() for key, v in resolved({k: d}).items()}
        terms = task.loss(outputs, batch)
        return sum(term.weight * term.sum / jnp.maximum(term.count, 1.0) for term in terms.values())

    return loss


KEYS = {"dropout": jax.random.key(0), "sample": jax.random.key(1)}


@pytest.mark.slow
def test_detection_has_a_gradient_where_there_are_boxes_and_none_where_there_are_not():
    model, batch = create_small("ubernet_vgg16", heads=("det",)), batch_of((33, 33))
    variables = random_variables(model, batch["image"])
    both = jax.jit(jax.value_and_grad(loss_of(model, deferred=True)))
    state = {"batch_stats": variables["batch_stats"]}
    value, slope = both(variables["params"], state, {**batch, "det/present": jnp.ones(1, bool)})
    assert np.isfinite(float(value))
    assert float(value) > 0
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slope))
    kernels = {name: leaf["kernel"] for name, leaf in slope["detector"]["rpn"].items()}
    kernels |= {name: leaf["kernel"] for name, leaf in slope["detector"]["box_predictor"].items()}
    kernels |= {
        "fc6": slope["detector"]["box_head"]["fc6"]["kernel"],
        "trunk": slope["trunk"]["backbone"]["conv5_1"]["kernel"],
    }
    assert [name for name, leaf in kernels.items() if not leaf.any()] == []
    value, slope = both(variables["params"], state, {**batch, "det/present": jnp.zeros(1, bool)})
    assert float(value) == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(slope))


@pytest.mark.slow
def test_deferred_losses_have_the_gradient_of_plain_ones_and_absent_tasks_none():
    model, batch = create_small("ubernet_vgg16", heads=("nrm", "seg")), batch_of((33, 33))
    variables = random_variables(model, batch["image"])
    state = {"batch_stats": variables["batch_stats"]}
    later, plain = (jax.jit(jax.value_and_grad(loss_of(model, deferred=d))) for d in (True, False))
    (value, slope), (expected, wanted) = (
        later(variables["params"], state, batch),
        plain(variables["params"], state, batch),
    )
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for (path, leaf), other in zip(jax.tree_util.tree_leaves_with_path(slope), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-3, atol=1e-6, err_msg=jax.tree_util.keystr(path))
    assert any(leaf.any() for leaf in jax.tree.leaves(slope["nrm_skip1"]))
    alone = later(variables["params"], state, {**batch, "nrm/present": jnp.zeros(1, bool)})[1]
    assert not any(leaf.any() for leaf in jax.tree.leaves(alone["nrm_skip1"]))
    assert alone["seg_skip1"]["kernel"].any()


def test_the_trunk_has_the_facts_parameters():
    model = create_model("ubernet_vgg16")
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(33, 33)))["params"]
    count = lambda tree: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert count(shapes["trunk"]) == 20_483_904
    own = {name: count({key: leaf for key, leaf in shapes.items() if key.startswith(name)}) for name in HEADS}
    assert count(shapes["detector"]) == 122_372_785
    assert own == {"edg": 5_044, "nrm": 7_593, "sal": 5_044, "seg": 56_553, "sbd": 56_553, "prt": 17_969}


def test_an_unknown_task_is_refused():
    with pytest.raises(BadInput, match="no task of UberNet is called 'dep'"):
        jax.eval_shape(
            lambda: create_small("ubernet_vgg16", heads=("dep",)).init(jax.random.key(0), random_image(33, 33))
        )


def needs(heads, size=129):
    """Bytes of temporaries, arguments and results of a compiled gradient of the full network with these tasks."""
    model, batch = create_model("ubernet_vgg16", heads=heads), batch_of((size, size))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), batch["image"]))
    state = {"batch_stats": variables["batch_stats"]}
    lowered = jax.jit(jax.grad(loss_of(model, deferred=True))).lower(variables["params"], state, batch)
    found: Any = lowered.compile().memory_analysis()
    return found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes


@pytest.mark.slow
def test_memory_hardly_grows_with_the_number_of_tasks():
    """Detection comes first: its layers have six times the trunk's parameters, which are there in any order."""
    found = {number: needs(TASKS[::-1][:number]) for number in (1, 3, 5, 7)}
    print({number: f"{count / 1e6:.0f} MB" for number, count in found.items()})
    assert max(found.values()) <= 1.25 * found[1]
