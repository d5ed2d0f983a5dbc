"""Training and evaluation steps as pure functions; placements put them on devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxseg.forward import forward
from jaxseg.train.asynchronous import rows_of
from jaxseg.train.freeze import frozen_statistics, without_gradient, without_update
from jaxseg.train.state import State

STREAMS = ("dropout", "sample")
"""The random streams that a network may draw from in training: "dropout" differs between microbatches, "sample" is the
same for all of them, so that what is drawn by the number of an example does not depend on how batches are cut."""

_SAMPLE = 2**31


def make_train_step(
    model: Any,
    task: Any,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema: float | None = None,
    rate: Callable[[Any], Any] | None = None,
    axis_name: str | None = None,
    freeze: tuple[str, ...] = (),
) -> Callable[[State, Any], tuple[State, dict[str, Any]]]:
    """Return ``step(state, batch) -> (state, metrics)``.

    The loss is the sum over the task's terms of ``weight * sum / max(count, 1)``. Sums and counts run over all
    microbatches and, with ``axis_name``, over all devices, so the gradient does not depend on how the batch is split,
    except through batch normalisation, whose statistics are per microbatch.

    >>> import optax
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> from jaxseg.train.state import create
    >>> model, task, tx = unet(num_classes=2, depth=1, width=2), Semantic(2), optax.sgd(0.1)
    >>> batch = {"image": jnp.zeros((1, 8, 8, 3), jnp.uint8), "label": jnp.zeros((1, 8, 8), jnp.int32)}
    >>> state = jax.eval_shape(lambda key: create(key, model, task, tx, batch), jax.random.key(0))
    >>> sorted(jax.eval_shape(make_train_step(model, task, tx), state, batch)[1])
    ['grad_norm', 'loss', 'loss/cross_entropy']

    Args:
      model: a linen module.
      task: gives inputs and loss.
      tx: an optax transformation.
      accumulate: number of microbatches; microbatch ``m`` takes rows ``m, m + accumulate, ...``, so that each has its
        share of every device's rows. The counts of all of them are needed before the first gradient: if they do not
        depend on the network's outputs, the compiler drops the network from that first pass.
      ema: decay of the moving averages; early on at most ``(1 + step) / (10 + step)``, so that the initial weights fade
        quickly.
      rate: learning rate by step, reported in the metrics.
      axis_name: mapped axis over which the batch is split, if any.
      freeze: variables that do not change, see :mod:`jaxseg.train.freeze`.

    Returns:
      The step. Its metrics are scalars: ``loss``, ``loss/<term>`` (unweighted means), ``grad_norm`` (before clipping)
      and ``learning_rate``.
    """

    def terms_of(params: Any, model_state: Any, key: Any, m: Any, batch: Any) -> tuple[dict[str, Any], Any]:
        own = jax.random.fold_in(key, m)
        rngs = dict(zip(STREAMS, (jax.random.fold_in(own, 0), jax.random.fold_in(key, _SAMPLE)), strict=True))
        inputs = task.inputs(batch, train=True)
        with frozen_statistics(freeze):
            outputs, changed = model.apply(
                {"params": params, **model_state}, **inputs, train=True, mutable=list(model_state), rngs=rngs
            )
        return task.loss(outputs, batch), {**model_state, **changed}

    def counts(params: Any, model_state: Any, key: Any, batch: Any) -> dict[str, Any]:
        def of(m: Any, micro: Any) -> dict[str, Any]:
            terms, _ = terms_of(params, model_state, key, m, micro)
            return {name: _scalar(term.count) for name, term in terms.items()}

        _, found = jax.lax.scan(lambda c, x: (c, of(*x)), None, (jnp.arange(accumulate), batch))
        return jax.tree.map(lambda c: _over(c.sum(), axis_name), found)

    def gradient(params: Any, model_state: Any, key: Any, m: Any, batch: Any, known: dict[str, Any] | None) -> Any:
        def loss(p: Any) -> tuple[Any, Any]:
            terms, changed = terms_of(without_gradient(p, freeze), model_state, key, m, batch)
            total = known
            if total is None:
                total = {name: _over(_scalar(term.count), axis_name) for name, term in terms.items()}
            divisors = {name: jnp.maximum(jax.lax.stop_gradient(count), 1.0) for name, count in total.items()}
            means = {name: _scalar(t.sum) / divisors[name] for name, t in terms.items()}
            value = sum((means[name] * t.weight for name, t in terms.items()), jnp.zeros((), jnp.float32))
            return value, (changed, {"loss": value, **{f"loss/{name}": mean for name, mean in means.items()}})

        grads, (changed, means) = jax.grad(loss, has_aux=True)(params)
        return grads, changed, means

    def accumulated(params: Any, model_state: Any, key: Any, batch: Any) -> Any:
        if accumulate == 1:
            return gradient(params, model_state, key, 0, batch, None)
        micro = jax.tree.map(lambda x: _microbatches(x, accumulate), batch)
        known = counts(params, model_state, key, micro)

        def add(carry: Any, x: Any) -> Any:
            total, kept = carry
            grads, changed, means = gradient(params, kept, key, x[0], x[1], known)
            return (jax.tree.map(jnp.add, total, grads), changed), means

        zeros = jax.tree.map(jnp.zeros_like, params)
        (grads, changed), means = jax.lax.scan(add, (zeros, model_state), (jnp.arange(accumulate), micro))
        return grads, changed, jax.tree.map(lambda x: x.sum(0), means)

    def step(state: State, batch: Any) -> tuple[State, dict[str, Any]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        grads, model_state, means = accumulated(state.params, state.model_state, key, batch)
        grads, means = _over((grads, means), axis_name)
        rows = _over(rows_of(batch), axis_name)
        updates, opt_state = optax.with_extra_args_support(tx).update(grads, state.opt_state, state.params, rows=rows)
        updates = without_update(updates, freeze)
        params = optax.apply_updates(state.params, updates)
        averages = state.ema
        if ema is not None:
            averages = _average(averages, {"params": params, **model_state}, ema, state.step)
        metrics = {**means, "grad_norm": _norm(grads)}
        if rate is not None:
            metrics["learning_rate"] = rate(state.step)
        new = state.replace(
            step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state, ema=averages
        )
        return new, metrics

    return step


def make_eval_step(model: Any, task: Any) -> Callable[[Any, Any], dict[str, Any]]:
    """Return ``observe(variables, batch)``: each metric's observation of the predictions, by the metric's name.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=2), jnp.zeros((1, 8, 8, 3), jnp.uint8)
    >>> batch = {"image": image, "label": jnp.zeros((1, 8, 8), jnp.int32)}
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), image)
    >>> sorted(jax.eval_shape(make_eval_step(model, Semantic(2)), variables, batch))
    ['boundary', 'confusion']
    """
    metrics, predict = task.metrics(), forward(model, task)

    def observe(variables: Any, batch: Any) -> dict[str, Any]:
        predictions = predict(variables, batch)
        return {name: metric.observe(predictions, batch) for name, metric in metrics.items()}

    return observe


def make_statistics_step(model: Any, task: Any) -> Callable[[Any, Any, Any], Any]:
    """Return ``statistics(variables, batch, number)``: the ``batch_stats`` of that batch alone, in training mode.

    Every BatchNorm layer updates to ``momentum * old + (1 - momentum) * new`` without exposing its momentum, which is
    recovered as the slope in ``old``; ``new`` is the value at ``old = 0`` divided by one minus the slope. ``number`` is
    the batch's, for the dropout masks.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, batch = unet(num_classes=2, depth=1, width=2), {"image": jnp.zeros((1, 8, 8, 3), jnp.uint8)}
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), batch["image"])
    >>> step = make_statistics_step(model, Semantic(2))
    >>> sorted(jax.eval_shape(step, variables, batch, jnp.int32(0)))[0]
    'bottom_norm1'
    """

    def statistics(variables: Any, batch: Any, number: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(0), number)
        rngs = {name: jax.random.fold_in(key, i) for i, name in enumerate(STREAMS)}
        inputs = task.inputs(batch, train=True)

        def after(old: Any) -> Any:
            given = {**variables, "batch_stats": old}
            return model.apply(given, **inputs, train=True, mutable=["batch_stats"], rngs=rngs)[1]["batch_stats"]

        old = variables["batch_stats"]
        kept, momentum = jax.jvp(after, (jax.tree.map(jnp.zeros_like, old),), (jax.tree.map(jnp.ones_like, old),))

        def new(value: Any, k: Any, m: Any) -> Any:
            return jnp.where(m == 1.0, value, k / jnp.where(m == 1.0, 1.0, 1.0 - m))  # 1: a layer that keeps its own

        return jax.tree.map(new, old, kept, momentum)

    return statistics


def _average(averages: Any, values: Any, decay: float, step: Any) -> Any:
    t = step.astype(jnp.float32)
    keep = jnp.minimum(decay, (1.0 + t) / (10.0 + t))

    def mix(old: Any, new: Any) -> Any:
        return keep * old + (1.0 - keep) * new if jnp.issubdtype(new.dtype, jnp.floating) else new

    return jax.tree.map(mix, averages, values)


def _microbatches(x: Any, number: int) -> Any:
    return jnp.moveaxis(x.reshape(x.shape[0] // number, number, *x.shape[1:]), 1, 0)


def _norm(tree: Any) -> Any:
    return jnp.sqrt(sum((jnp.sum(jnp.square(_scalar(x))) for x in jax.tree.leaves(tree)), jnp.zeros(())))


def _scalar(x: Any) -> Any:
    return jnp.asarray(x).astype(jnp.float32)


def _over(tree: Any, axis_name: str | None) -> Any:
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)
