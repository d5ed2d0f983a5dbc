"""Optimizers and schedules as values: frozen dataclasses that build optax transformations.

A recipe holds ``SGD(Poly(0.01), weight_decay=5e-4, no_decay=(r"bias$",))``; ``build(total_steps)`` returns the optax
transformation. Parameters are addressed by their path joined with "/", ``"conv1/kernel"``, and selected by regular
expressions that may match anywhere in it (``re.search``).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxseg.errors import BadInput

Schedule = Callable[[Any], Any]
"""Learning rate by update, counted from 0, as optax's schedules."""


@runtime_checkable
class ScheduleConfig(Protocol):
    """Configuration of a learning-rate schedule."""

    def build(self, total_steps: int) -> Schedule:
        """Return the schedule over ``total_steps`` updates, counted from 0."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """Configuration of an optimizer."""

    def build(self, total_steps: int) -> optax.GradientTransformation:
        """Return the transformation from gradients to parameter updates."""
        ...

    def schedule(self, total_steps: int) -> Schedule:
        """Return the learning rate by update, before ``lr_multipliers``."""
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, as in torch: ``v <- momentum v + g``, ``p <- p - rate v``.

    >>> tx = SGD(Poly(0.1), momentum=0.0, lr_multipliers=((r"^encoder", 0.0),)).build(total_steps=10)
    >>> params = {"encoder": jnp.ones(()), "head": jnp.ones(())}
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> {name: round(float(update), 3) for name, update in updates.items()}
    {'encoder': -0.0, 'head': -0.1}

    Attributes:
      learning_rate: a number or a schedule.
      momentum: decay of the velocity.
      nesterov: step along ``g + momentum v`` instead of ``v``.
      weight_decay: L2, ``g <- g + weight_decay p`` before the momentum, as in Caffe and torch.
      no_decay: paths of parameters without decay.
      lr_multipliers: ``(path, multiplier)`` of the learning rate; the first match counts. Caffe's doubled bias rate is
        ``((r"bias$", 2.0),)``; 0 freezes.
      clip: maximum global norm of the gradient, None for no limit. Applied before the decay.
    """

    learning_rate: float | ScheduleConfig
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = ()
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    clip: float | None = None

    def build(self, total_steps: int) -> optax.GradientTransformation:
        """Return the optax chain for a training of ``total_steps`` updates."""
        core = optax.trace(self.momentum, self.nesterov) if self.momentum else optax.identity()
        return _chain(self, total_steps, _decay(self), core)

    def schedule(self, total_steps: int) -> Schedule:
        """Return the learning rate by update, before ``lr_multipliers``."""
        return _schedule(self.learning_rate, total_steps)


@dataclass(frozen=True)
class Adam:
    """Adam with L2 regularisation: ``weight_decay p`` is added to the gradient before the moments, as in torch's Adam.

    The remaining attributes are those of :class:`SGD`.

    >>> tx = Adam(1e-3).build(total_steps=10)
    >>> updates, _ = tx.update(jnp.ones(()), tx.init(jnp.ones(())), jnp.ones(()))
    >>> round(float(updates), 6)
    -0.001

    Reference:
      Kingma and Ba 2015, arXiv:1412.6980.
    """

    learning_rate: float | ScheduleConfig = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = ()
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    clip: float | None = None

    def build(self, total_steps: int) -> optax.GradientTransformation:
        """Return the optax chain for a training of ``total_steps`` updates."""
        return _chain(self, total_steps, _decay(self), _adam(self))

    def schedule(self, total_steps: int) -> Schedule:
        """Return the learning rate by update, before ``lr_multipliers``."""
        return _schedule(self.learning_rate, total_steps)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay: ``p <- p - rate (adam + weight_decay p)``.

    The remaining attributes are those of :class:`SGD`.

    >>> tx = AdamW(1e-3, weight_decay=1.0).build(total_steps=10)
    >>> updates, _ = tx.update(jnp.ones(()), tx.init(jnp.ones(())), jnp.ones(()))
    >>> round(float(updates), 6)
    -0.002

    Reference:
      Loshchilov and Hutter 2019, arXiv:1711.05101.
    """

    learning_rate: float | ScheduleConfig = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-2
    no_decay: tuple[str, ...] = ()
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    clip: float | None = None

    def build(self, total_steps: int) -> optax.GradientTransformation:
        """Return the optax chain for a training of ``total_steps`` updates."""
        return _chain(self, total_steps, _adam(self), _decay(self))

    def schedule(self, total_steps: int) -> Schedule:
        """Return the learning rate by update, before ``lr_multipliers``."""
        return _schedule(self.learning_rate, total_steps)


@dataclass(frozen=True)
class Constant:
    """Constant learning rate.

    >>> float(Constant(0.5).build(total_steps=10)(7))
    0.5
    """

    value: float

    def build(self, total_steps: int) -> Schedule:
        """Return the learning rate by update."""
        return lambda step: jnp.full((), self.value, jnp.float32)


@dataclass(frozen=True)
class Poly:
    """Polynomial decay ``end + (value - end) (1 - step / total)^power``, the schedule of DeepLab and PSPNet.

    >>> float(Poly(0.5, power=1.0).build(total_steps=10)(5))
    0.25
    """

    value: float
    power: float = 0.9
    end: float = 0.0

    def build(self, total_steps: int) -> Schedule:
        """Return the learning rate by update."""
        return lambda step: self.end + (self.value - self.end) * (1.0 - _share(step, total_steps)) ** self.power


@dataclass(frozen=True)
class StepDecay:
    """Step decay ``value factor^floor(step / every)``.

    >>> float(StepDecay(1.0, every=4, factor=0.5).build(total_steps=10)(8))
    0.25
    """

    value: float
    every: int
    factor: float = 0.1

    def build(self, total_steps: int) -> Schedule:
        """Return the learning rate by update."""
        return lambda step: self.value * self.factor ** _float(jnp.asarray(step) // self.every)


@dataclass(frozen=True)
class Milestones:
    """Multiply ``value`` by ``factor`` at each of the steps ``at``.

    >>> float(Milestones(1.0, at=(3, 6), factor=0.5).build(total_steps=10)(6))
    0.25
    """

    value: float
    at: tuple[int, ...]
    factor: float = 0.1

    def build(self, total_steps: int) -> Schedule:
        """Return the learning rate by update."""
        at = jnp.asarray(self.at, jnp.int32)
        return lambda step: self.value * self.factor ** _float(jnp.sum(at <= jnp.asarray(step)))


@dataclass(frozen=True)
class Cosine:
    """Cosine decay from ``value`` to ``end``.

    >>> round(float(Cosine(1.0).build(total_steps=10)(5)), 3)
    0.5

    Reference:
      Loshchilov and Hutter 2017, arXiv:1608.03983.
    """

    value: float
    end: float = 0.0

    def build(self, total_steps: int) -> Schedule:
        """Return the learning rate by update."""
        return lambda step: _ease(self.value, self.end, _share(step, total_steps))


@dataclass(frozen=True)
class OneCycle:
    """Rise from ``value / start`` to ``value`` over the share ``warmup`` of steps, fall to ``value / start / final``.

    Both along half a cosine, in torch's two-phase form.

    >>> schedule = OneCycle(1.0).build(total_steps=10)
    >>> [round(float(schedule(step)), 2) for step in (0, 2, 9)]
    [0.04, 1.0, 0.0]

    Reference:
      Smith and Topin 2017, arXiv:1708.07120.
    """

    value: float
    warmup: float = 0.3
    start: float = 25.0
    final: float = 1e4

    def build(self, total_steps: int) -> Schedule:
        """Return the learning rate by update."""
        top = self.warmup * total_steps - 1.0
        low = self.value / self.start

        def rate(step: Any) -> Array:
            t = _float(step)
            up = _ease(low, self.value, jnp.clip(t / max(top, 1e-9), 0.0, 1.0))
            rest = jnp.clip((t - top) / max(total_steps - 1.0 - top, 1e-9), 0.0, 1.0)
            return jnp.where(t <= top, up, _ease(self.value, low / self.final, rest))

        return rate


@dataclass(frozen=True)
class Warmup:
    """Linear warm-up over ``steps`` updates, from ``start`` times the initial rate of ``then``, followed by ``then``.

    ``then`` starts after the warm-up and runs over the remaining updates.

    >>> schedule = Warmup(4, then=1.0).build(total_steps=10)
    >>> [float(schedule(step)) for step in (0, 2, 4)]
    [0.0, 0.5, 1.0]
    """

    steps: int
    then: float | ScheduleConfig
    start: float = 0.0

    def build(self, total_steps: int) -> Schedule:
        """Return the learning rate by update."""
        after = _schedule(self.then, max(total_steps - self.steps, 1))

        def rate(step: Any) -> Array:
            t = _float(step)
            line = self.start + (1.0 - self.start) * t / max(self.steps, 1)
            return jnp.where(t < self.steps, line * after(0), after(jnp.maximum(jnp.asarray(step) - self.steps, 0)))

        return rate


def path_of(path: Any) -> str:
    """Return a tree path as "/"-joined text, as rules match it.

    >>> [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path({"conv1": {"kernel": 0}})]
    ['conv1/kernel']
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def check_multipliers(optimizer: Any, params: Any) -> None:
    """Raise if a learning-rate multiplier matches no parameter.

    >>> check_multipliers(SGD(0.1, lr_multipliers=(("kernel", 2.0),)), {"conv1": {"kernel": 0}})

    Raises:
      BadInput: an expression of ``lr_multipliers`` or ``no_decay`` is not a regular expression, or one of
        ``lr_multipliers`` matches no path.
    """
    paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in [p for p, _ in getattr(optimizer, "lr_multipliers", ())] + list(getattr(optimizer, "no_decay", ())):
        try:
            re.compile(pattern)
        except re.error as error:
            raise BadInput(f"{pattern!r} in the optimizer is not a regular expression: {error}") from error
    for pattern, _ in getattr(optimizer, "lr_multipliers", ()):
        if not any(re.search(pattern, path) for path in paths):
            raise BadInput(
                f"lr_multipliers: no parameter matches {pattern!r}; paths look like {paths[0]!r}, {paths[-1]!r}"
            )


def _chain(optimizer: Any, total_steps: int, *core: optax.GradientTransformation) -> optax.GradientTransformation:
    clip = optax.identity() if optimizer.clip is None else optax.clip_by_global_norm(optimizer.clip)
    rate = optax.scale_by_learning_rate(_schedule(optimizer.learning_rate, total_steps))
    return optax.chain(clip, *core, rate, _multiply(optimizer.lr_multipliers))


def _adam(optimizer: Any) -> optax.GradientTransformation:
    adam = optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            return adam.update(updates, state, params)

    return optax.GradientTransformation(adam.init, update)


def _decay(optimizer: Any) -> optax.GradientTransformation:
    if not optimizer.weight_decay:
        return optax.identity()

    def decayed(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: not any(re.search(rule, path_of(path)) for rule in optimizer.no_decay), params
        )

    return optax.add_decayed_weights(optimizer.weight_decay, decayed)


def _multiply(lr_multipliers: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    if not lr_multipliers:
        return optax.identity()

    def scale(path: Any, update: Array) -> Array:
        name = path_of(path)
        return update * next((factor for rule, factor in lr_multipliers if re.search(rule, name)), 1.0)

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates))


def _schedule(rate: Any, total_steps: int) -> Schedule:
    if isinstance(rate, int | float):
        return Constant(float(rate)).build(total_steps)
    if not isinstance(rate, ScheduleConfig):
        raise BadInput(f"learning_rate is {rate!r}, but must be a number or a schedule such as Poly(0.01)")
    return rate.build(total_steps)


def _float(step: Any) -> Array:
    return jnp.asarray(step).astype(jnp.float32)


def _share(step: Any, total_steps: int) -> Array:
    return jnp.clip(_float(step) / max(total_steps, 1), 0.0, 1.0)


def _ease(begin: float, end: float, share: Array) -> Array:
    return end + (begin - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
