"""Normalisation against torch, and the statistics of a batch that is spread over devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxseg.errors import BadInput
from jaxseg.layers.norm import BatchNorm, GroupNorm, LayerNorm, make_norm, moments
from jaxseg.types import DATA_AXIS

SHAPE = (4, 5, 6, 8)


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(3.0, 2.0, SHAPE).astype(np.float32)


def test_batch_norm_equals_torch_in_training_and_at_test(maps):
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch (extra 'parity')")
    theirs = torch.nn.BatchNorm2d(8, momentum=0.1, eps=1e-3)
    ours = BatchNorm(momentum=0.9, epsilon=1e-3)
    variables = ours.init(jax.random.key(0), jnp.asarray(maps), train=True)
    source = torch.from_numpy(maps).permute(0, 3, 1, 2).requires_grad_()
    reference = theirs(source)
    weight = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    (reference * torch.from_numpy(weight).permute(0, 3, 1, 2)).sum().backward()

    def run(x):
        out, changed = ours.apply(variables, x, train=True, mutable=["batch_stats"])
        return (out * weight).sum(), (out, changed)

    gradient, (out, changed) = jax.grad(run, has_aux=True)(jnp.asarray(maps))
    np.testing.assert_allclose(out, reference.detach().permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(gradient, source.grad.permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], theirs.running_mean, rtol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["var"], theirs.running_var, rtol=1e-5)

    theirs.eval()
    out = ours.apply({**variables, **changed}, jnp.asarray(maps), train=False)
    np.testing.assert_allclose(out, theirs(source).detach().permute(0, 2, 3, 1), atol=1e-5)


def test_statistics_of_some_rows_are_those_of_these_rows_alone(maps):
    layer, there = BatchNorm(), jnp.asarray([True, False, True, False])
    variables = layer.init(jax.random.key(0), jnp.asarray(maps), train=True)
    run = partial(layer.apply, variables, train=True, mutable=["batch_stats"])
    alone, expected = run(jnp.asarray(maps[::2]))
    spoilt = maps.copy()
    spoilt[1::2] = 1e3
    out, changed = run(jnp.asarray(spoilt), where=there)
    np.testing.assert_allclose(out[::2], alone, atol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), changed, expected)
    out, changed = run(jnp.asarray(spoilt), where=jnp.zeros(4, bool))
    assert bool(jnp.isfinite(out).all())
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"])


def test_moments_stay_exact_far_from_zero():
    x = np.random.default_rng(0).normal(1e4, 1.0, (8, 32, 32, 2)).astype(np.float32)
    mean, var = moments(jnp.asarray(x))
    np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var((0, 1, 2)), rtol=1e-3)


@pytest.mark.parametrize("spread", ["pmap", "shard_map"])
def test_batch_norm_uses_the_global_batch(maps, spread):
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), jnp.asarray(maps), train=True)
    run = partial(layer.apply, train=True, mutable=["batch_stats"])
    whole, changed = run(variables, jnp.asarray(maps))
    if spread == "pmap":
        out, stats = jax.pmap(run, DATA_AXIS, in_axes=(None, 0))(variables, maps[:, None])
        out, stats = out[:, 0], jax.tree.map(lambda s: s[3], stats)
    else:
        mesh = jax.sharding.Mesh(np.array(jax.devices()), (DATA_AXIS,))
        out, stats = jax.shard_map(run, mesh=mesh, in_specs=(P(), P(DATA_AXIS)), out_specs=(P(DATA_AXIS), P()))(
            variables, jnp.asarray(maps)
        )
    np.testing.assert_allclose(out, whole, atol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), stats, changed)


@pytest.mark.parametrize(("kind", "groups"), [("group", 4), ("instance", 8), ("layer", 1)])
def test_group_norm_equals_torch(maps, kind, groups):
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch (extra 'parity')")
    layer = GroupNorm(groups=4) if kind == "group" else make_norm(kind)()
    params = {"scale": np.linspace(0.5, 2, 8, dtype=np.float32), "bias": np.linspace(-1, 1, 8, dtype=np.float32)}
    out = layer.apply({"params": params}, jnp.asarray(maps), train=True)
    source = torch.from_numpy(maps).permute(0, 3, 1, 2)
    scale, bias = torch.from_numpy(params["scale"]), torch.from_numpy(params["bias"])
    reference = torch.nn.functional.group_norm(source, groups, scale, bias)
    np.testing.assert_allclose(out, reference.permute(0, 2, 3, 1), atol=1e-5)


def test_group_norm_names_the_misfit():
    with pytest.raises(BadInput, match="6 channels do not split into 4 groups"):
        GroupNorm(groups=4).init(jax.random.key(0), jnp.zeros((1, 2, 2, 6)), train=False)


def test_no_norm_is_the_identity_and_a_typo_offers_the_nearest(maps):
    assert (make_norm("none")().apply({}, jnp.asarray(maps), train=True) == maps).all()
    with pytest.raises(BadInput, match="did you mean 'batch'"):
        make_norm("bacth")


def test_layer_norm_of_pixels_equals_torch(maps):
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch (extra 'parity')")
    ours = LayerNorm(epsilon=1e-3)
    rng = np.random.default_rng(1)
    scale, bias = (rng.normal(size=8).astype(np.float32) for _ in range(2))
    out = ours.apply({"params": {"scale": scale, "bias": bias}}, jnp.asarray(maps), train=False)
    reference = torch.nn.functional.layer_norm(
        torch.from_numpy(maps), (8,), torch.from_numpy(scale), torch.from_numpy(bias), eps=1e-3
    )
    np.testing.assert_allclose(out, reference, atol=1e-5)
