"""Optimizers and schedules as values: frozen dataclasses that build optax chains.

A recipe holds ``SGD(Poly(0.01), weight_decay=5e-4, no_decay=(r"bias$",))``; ``build(total_steps)`` makes the optax
transformation. Parameters are addressed by their path joined with "/", ``"conv1/kernel"``, and chosen by regular
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
"""Learning rate of an update, counted from 0: what optax calls a schedule."""


@runtime_checkable
class ScheduleConfig(Protocol):
    """How the learning rate moves over ``total_steps`` updates."""

    def build(self, total_steps: int) -> Schedule:
        """The rate of update 0, 1, ..., float32."""
        ...


@runtime_checkable
class Optimizer(Protocol):
    """What a stage is trained with."""

    def build(self, total_steps: int) -> optax.GradientTransformation:
        """The chain from gradients to what is added to the parameters."""
        ...

    def schedule(self, total_steps: int) -> Schedule:
        """The learning rate of update 0, 1, ..., before the multipliers of ``lr_multipliers``."""
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, as in torch: ``v <- momentum v + g``, ``p <- p - rate v``.

    Attributes:
      learning_rate: a number or a schedule.
      momentum: share of the velocity that stays.
      nesterov: step along ``g + momentum v`` instead of ``v``.
      weight_decay: L2, ``g <- g + weight_decay p`` before the momentum, as in Caffe and torch.
      no_decay: paths whose parameters are not decayed.
      lr_multipliers: ``(path, multiplier)`` of the learning rate; the first that matches counts. Caffe's doubled bias
        rate is ``((r"bias$", 2.0),)``; 0 freezes.
      clip: largest global norm of the gradient, None for no limit. Applied before the decay.
    """

    learning_rate: float | ScheduleConfig
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = ()
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    clip: float | None = None

    def build(self, total_steps: int) -> optax.GradientTransformation:
        """The optax chain for a training of ``total_steps`` updates."""
        core = optax.trace(self.momentum, self.nesterov) if self.momentum else optax.identity()
        return _chain(self, total_steps, _decay(self), core)

    def schedule(self, total_steps: int) -> Schedule:
        """The learning rate of update 0, 1, ..., before the multipliers."""
        return _schedule(self.learning_rate, total_steps)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) with L2: ``weight_decay p`` joins the gradient before the moments, as torch's Adam does.

    The remaining attributes are those of :class:`SGD`.
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
        """The optax chain for a training of ``total_steps`` updates."""
        return _chain(self, total_steps, _decay(self), _adam(self))

    def schedule(self, total_steps: int) -> Schedule:
        """The learning rate of update 0, 1, ..., before the multipliers."""
        return _schedule(self.learning_rate, total_steps)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled decay (Loshchilov & Hutter 2019): ``p <- p - rate (adam + weight_decay p)``.

    The remaining attributes are those of :class:`SGD`.
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
        """The optax chain for a training of ``total_steps`` updates."""
        return _chain(self, total_steps, _adam(self), _decay(self))

    def schedule(self, total_steps: int) -> Schedule:
        """The learning rate of update 0, 1, ..., before the multipliers."""
        return _schedule(self.learning_rate, total_steps)


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    value: float

    def build(self, total_steps: int) -> Schedule:
        """The rate of update 0, 1, ..."""
        return lambda step: jnp.full((), self.value, jnp.float32)


@dataclass(frozen=True)
class Poly:
    """``end + (value - end) (1 - step / total)^power``: DeepLab's and PSPNet's schedule."""

    value: float
    power: float = 0.9
    end: float = 0.0

    def build(self, total_steps: int) -> Schedule:
        """The rate of update 0, 1, ..."""
        return lambda step: self.end + (self.value - self.end) * (1.0 - _share(step, total_steps)) ** self.power


@dataclass(frozen=True)
class StepDecay:
    """``value factor^floor(step / every)``."""

    value: float
    every: int
    factor: float = 0.1

    def build(self, total_steps: int) -> Schedule:
        """The rate of update 0, 1, ..."""
        return lambda step: self.value * self.factor ** _float(jnp.asarray(step) // self.every)


@dataclass(frozen=True)
class Milestones:
    """``value`` times ``factor`` for each of the steps ``at`` that is past."""

    value: float
    at: tuple[int, ...]
    factor: float = 0.1

    def build(self, total_steps: int) -> Schedule:
        """The rate of update 0, 1, ..."""
        at = jnp.asarray(self.at, jnp.int32)
        return lambda step: self.value * self.factor ** _float(jnp.sum(at <= jnp.asarray(step)))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from ``value`` to ``end`` (Loshchilov & Hutter 2017)."""

    value: float
    end: float = 0.0

    def build(self, total_steps: int) -> Schedule:
        """The rate of update 0, 1, ..."""
        return lambda step: _ease(self.value, self.end, _share(step, total_steps))


@dataclass(frozen=True)
class OneCycle:
    """Up from ``value / start`` to ``value`` in the share ``warmup`` of the steps, down to ``value / start / final``.

    Both ways along half a cosine (Smith & Topin 2017, in torch's two-phase form).
    """

    value: float
    warmup: float = 0.3
    start: float = 25.0
    final: float = 1e4

    def build(self, total_steps: int) -> Schedule:
        """The rate of update 0, 1, ..."""
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
    """A straight line from ``start`` times the rate of ``then`` over ``steps`` updates, and then the schedule ``then``.

    ``then`` begins when the line ends and has the remaining updates to itself.
    """

    steps: int
    then: float | ScheduleConfig
    start: float = 0.0

    def build(self, total_steps: int) -> Schedule:
        """The rate of update 0, 1, ..."""
        after = _schedule(self.then, max(total_steps - self.steps, 1))

        def rate(step: Any) -> Array:
            t = _float(step)
            line = self.start + (1.0 - self.start) * t / max(self.steps, 1)
            return jnp.where(t < self.steps, line * after(0), after(jnp.maximum(jnp.asarray(step) - self.steps, 0)))

        return rate


def path_of(path: Any) -> str:
    """A tree path as the "/"-joined text that rules are matched against."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def check_multipliers(optimizer: Any, params: Any) -> None:
    """Refuse a multiplier that no parameter would feel.

    Raises:
      BadInput: an expression of ``lr_multipliers`` is no regular expression or matches no path.
    """
    paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in [p for p, _ in getattr(optimizer, "lr_multipliers", ())] + list(getattr(optimizer, "no_decay", ())):
        try:
            re.compile(pattern)
        except re.error as error:
            raise BadInput(f"{pattern!r} in the optimizer is no regular expression: {error}") from error
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
