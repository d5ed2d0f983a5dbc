"""Optimizers and schedules against torch's, and against their formulas."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.errors import BadInput
from jaxseg.train import optim
from jaxseg.train.optim import SGD, Adam, AdamW, Constant, Cosine, Milestones, OneCycle, Poly, StepDecay, Warmup

STEPS = 12


def grads_of(step):
    rng = np.random.default_rng(step)
    return {
        "conv": {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)},
        "norm": {"scale": rng.normal(size=2)},
    }


def float32(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def ours(optimizer):
    """Parameters after ``STEPS`` updates by fixed gradients."""
    params = float32(grads_of(99))
    tx = optimizer.build(STEPS)
    opt_state = tx.init(params)
    for step in range(STEPS):
        updates, opt_state = tx.update(float32(grads_of(step)), opt_state, params)
        params = optax.apply_updates(params, updates)
    return jax.tree.leaves(params)


def theirs(build, *, schedule=None, groups=lambda path: {}, clip=None):
    """The same by an optimizer of torch; ``groups`` gives each path its options."""
    torch = pytest.importorskip("torch")
    leaves = jax.tree_util.tree_leaves_with_path(float32(grads_of(99)))
    params = [torch.nn.Parameter(torch.from_numpy(np.array(leaf))) for _, leaf in leaves]
    optimizer = build(
        torch, [{"params": [p], **groups(optim.path_of(path))} for p, (path, _) in zip(params, leaves, strict=True)]
    )
    scheduler = schedule(torch.optim.lr_scheduler, optimizer) if schedule else None
    for step in range(STEPS):
        for param, grad in zip(params, jax.tree.leaves(float32(grads_of(step))), strict=True):
            param.grad = torch.from_numpy(np.array(grad))
        if clip:
            torch.nn.utils.clip_grad_norm_(params, clip)
        optimizer.step()
        if scheduler:
            scheduler.step()
    return [param.detach().numpy() for param in params]


def close(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6)


def test_sgd_with_momentum_and_coupled_decay_is_torchs():
    close(
        ours(SGD(0.1, momentum=0.9, weight_decay=0.05)),
        theirs(lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05)),
    )


def test_nesterov_is_torchs():
    close(
        ours(SGD(0.1, momentum=0.8, nesterov=True)),
        theirs(lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True)),
    )


def test_sgd_without_momentum_is_the_formula():
    params, tx = float32(grads_of(99)), SGD(0.5, momentum=0.0).build(1)
    updates, _ = tx.update(float32(grads_of(0)), tx.init(params), params)
    close(jax.tree.leaves(updates), [-0.5 * g for g in jax.tree.leaves(float32(grads_of(0)))])


def test_bias_rules_are_torchs_parameter_groups():
    rules = {"conv/bias": {"lr": 0.2, "weight_decay": 0.0}, "norm/scale": {"weight_decay": 0.0}}
    close(
        ours(SGD(0.1, weight_decay=0.05, no_decay=(r"bias$", r"^norm/"), lr_multipliers=((r"bias$", 2.0),))),
        theirs(
            lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05),
            groups=lambda path: rules.get(path, {}),
        ),
    )


def test_the_first_matching_rate_counts_and_zero_freezes():
    params, tx = (
        float32(grads_of(99)),
        SGD(0.1, weight_decay=0.1, lr_multipliers=(("kernel", 0.0), ("conv", 3.0))).build(1),
    )
    updates, _ = tx.update(float32(grads_of(0)), tx.init(params), params)
    plain = SGD(0.1, weight_decay=0.1).build(1)
    reference, _ = plain.update(float32(grads_of(0)), plain.init(params), params)
    assert not np.any(updates["conv"]["kernel"])
    close(
        [updates["conv"]["bias"], updates["norm"]["scale"]], [3 * reference["conv"]["bias"], reference["norm"]["scale"]]
    )


def test_adam_with_l2_is_torchs_adam():
    close(
        ours(Adam(0.01, weight_decay=0.1)),
        theirs(lambda torch, p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
    )


def test_adamw_is_torchs_adamw_and_not_its_adam():
    decoupled = theirs(lambda torch, p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1))
    close(ours(AdamW(0.01, weight_decay=0.1)), decoupled)
    with pytest.raises(AssertionError):
        close(ours(Adam(0.01, weight_decay=0.1)), decoupled)


def test_clipping_by_global_norm_is_torchs():
    close(
        ours(SGD(0.1, clip=0.7)),
        theirs(lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.9), clip=0.7),
    )


def test_decay_takes_part_after_clipping():
    params, tx = float32(grads_of(99)), SGD(1.0, momentum=0.0, weight_decay=0.5, clip=1e-9).build(1)
    updates, _ = tx.update(float32(grads_of(0)), tx.init(params), params)
    close(jax.tree.leaves(updates), [-0.5 * p for p in jax.tree.leaves(params)])


def test_a_schedule_drives_the_optimizer():
    close(
        ours(SGD(Poly(0.1, power=0.9))),
        theirs(
            lambda torch, p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
            schedule=lambda lib, o: lib.PolynomialLR(o, total_iters=STEPS, power=0.9),
        ),
    )


def warm_up(lib, optimizer):
    rise = lib.LinearLR(optimizer, 0.25, total_iters=4)
    fall = lib.PolynomialLR(optimizer, total_iters=STEPS - 4, power=0.9)
    return lib.SequentialLR(optimizer, [rise, fall], milestones=[4])


SCHEDULES = {
    "poly": (Poly(0.1, 0.9), lambda lib, o: lib.PolynomialLR(o, total_iters=STEPS, power=0.9)),
    "step": (StepDecay(0.1, every=5, factor=0.3), lambda lib, o: lib.StepLR(o, 5, 0.3)),
    "milestones": (Milestones(0.1, at=(3, 7)), lambda lib, o: lib.MultiStepLR(o, [3, 7])),
    "cosine": (Cosine(0.1, 0.02), lambda lib, o: lib.CosineAnnealingLR(o, STEPS, eta_min=0.02)),
    "one-cycle": (OneCycle(0.1), lambda lib, o: lib.OneCycleLR(o, 0.1, STEPS)),
    "one-cycle, long rise": (
        OneCycle(0.1, 0.5, 10.0, 100.0),
        lambda lib, o: lib.OneCycleLR(o, 0.1, STEPS, pct_start=0.5, div_factor=10.0, final_div_factor=100.0),
    ),
    "warm-up": (Warmup(4, Poly(0.1, 0.9), start=0.25), warm_up),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_torchs(name):
    torch = pytest.importorskip("torch")
    ours, build = SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own advice on its order of calls
        schedule = build(torch.optim.lr_scheduler, optimizer)
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    np.testing.assert_allclose([float(ours.build(STEPS)(t)) for t in range(STEPS)], rates, rtol=1e-4, atol=1e-8)


def test_schedules_by_hand():
    def at(schedule, t):
        return float(schedule.build(100)(jnp.asarray(t, jnp.int32)))

    np.testing.assert_allclose(at(Poly(2.0, power=0.5, end=1.0), 75), 1.0 + 0.25**0.5, rtol=1e-6)
    np.testing.assert_allclose([at(Cosine(1.0), t) for t in (0, 50, 100, 999)], [1.0, 0.5, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose([at(StepDecay(1.0, 30, 0.5), t) for t in (29, 30, 90)], [1.0, 0.5, 0.125], rtol=1e-6)
    np.testing.assert_allclose(
        [at(Warmup(10, Constant(3.0)), t) for t in (0, 5, 10, 50)], [0.0, 1.5, 3.0, 3.0], rtol=1e-6
    )
    np.testing.assert_allclose(at(OneCycle(1.0, 0.5), 49), 1.0, rtol=1e-6)


def test_the_curve_of_an_optimizer_is_its_schedules():
    for kind in (SGD, Adam, AdamW):
        assert float(kind(0.25).schedule(10)(7)) == 0.25
        assert float(kind(Poly(1.0, 1.0)).schedule(10)(5)) == 0.5


def test_optimizers_and_schedules_are_values():
    assert SGD(Poly(0.1)) == SGD(Poly(0.1)) != SGD(Poly(0.2))
    assert hash(Adam(Warmup(5, Cosine(0.1)))) == hash(Adam(Warmup(5, Cosine(0.1))))
    assert dataclasses.replace(SGD(0.1), clip=1.0).clip == 1.0


def test_mistakes_are_told():
    unchecked = SGD(0.1)
    object.__setattr__(unchecked, "learning_rate", "fast")  # only the tests hold constructors to their types
    with pytest.raises(BadInput, match=r"learning_rate is 'fast'.*Poly"):
        unchecked.build(10)
    with pytest.raises(BadInput, match=r"no parameter matches 'biass'.*conv/bias"):
        optim.check_multipliers(SGD(0.1, lr_multipliers=(("biass", 2.0),)), grads_of(0))
    with pytest.raises(BadInput, match="is not a regular expression"):
        optim.check_multipliers(SGD(0.1, no_decay=("(",)), grads_of(0))
    optim.check_multipliers(SGD(0.1, lr_multipliers=((r"bias$", 2.0),), no_decay=("absent",)), grads_of(0))
