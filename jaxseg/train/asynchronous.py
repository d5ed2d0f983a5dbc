"""Asynchronous updates: each group of parameters moves once it has seen enough images of its own task.

Images carry labels of some tasks only. A task with few of them would move on the gradient of one or two images, while
the shared trunk sees all. Here gradients of a group are gathered until its images fill its own effective batch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from jaxseg.errors import BadInput
from jaxseg.train.optim import Optimizer, Schedule

Tree = dict[str, Any]


@dataclass(frozen=True)
class Asynchronous:
    """Let groups of parameters gather gradients until they have seen their own number of images.

    A group's gradients are averaged over its images, step by step weighted by how many each step had. Its schedule
    counts its own updates. A step of training says how many rows of the batch carry each task's labels
    (``task/present``).

    >>> from jaxseg.train.optim import SGD
    >>> tx = Asynchronous(SGD(1.0, momentum=0.0), images=2, groups=(("^seg", "seg", 4),)).build(10)
    >>> params = {"seg": {"kernel": jnp.ones(())}, "trunk": {"kernel": jnp.ones(())}}
    >>> updates, state = tx.update(params, tx.init(params), params, rows={"real": jnp.asarray(2.0)})
    >>> float(updates["seg"]["kernel"]), float(updates["trunk"]["kernel"])
    (0.0, -1.0)

    Attributes:
      optimizer: of every group, each with a state of its own.
      images: effective batch of the parameters of no group.
      groups: of ``(path, task, images)``: parameters whose path matches the expression, the task whose labels count,
        and the effective batch.

    Reference:
      Kokkinos 2017, arXiv:1609.02132, section 3.2.
    """

    optimizer: Optimizer
    images: int
    groups: tuple[tuple[str, str, int], ...] = ()

    def schedule(self, total_steps: int) -> Schedule:
        """Return the optimizer's rate by update."""
        return self.optimizer.schedule(total_steps)

    def build(self, total_steps: int) -> optax.GradientTransformationExtraArgs:
        """Return the transformation; its ``update`` takes ``rows``, the images of the step by ``real`` or task."""
        inner = self.optimizer.build(total_steps)
        sizes = [self.images, *(size for _, _, size in self.groups)]

        def split(tree: Any) -> list[Tree]:
            """Return the leaves of the rest and of every group, by path."""
            parts: list[Tree] = [{} for _ in sizes]
            for path, leaf in flatten(tree).items():
                hits = [i for i, (rule, _, _) in enumerate(self.groups, 1) if re.search(rule, path)]
                parts[hits[0] if hits else 0][path] = leaf
            for (rule, _, _), part in zip(self.groups, parts[1:], strict=True):
                if not part:
                    raise BadInput(f"groups: no parameter matches {rule!r} that no group before it has")
            return parts

        def init(params: Any) -> Any:
            return [
                {
                    "inner": inner.init(cast(Any, part)),
                    "sum": jax.tree.map(jnp.zeros_like, part),
                    "images": jnp.zeros(()),
                }
                for part in split(params)
            ]

        def update(updates: Any, state: Any, params: Any = None, **given: Any) -> Any:
            rows = given["rows"]
            moved, kept = {}, []
            names = [None, *(task for _, task, _ in self.groups)]
            for name, size, old, grad, part in zip(names, sizes, state, split(updates), split(params), strict=True):
                new = rows["real"] if name is None else rows.get(f"{name}/present", rows["real"])
                gathered = jax.tree.map(lambda s, g, n=new: s + g * n, old["sum"], grad)
                images = old["images"] + new
                full = images >= size
                mean = jax.tree.map(lambda s, n=images: s / jnp.maximum(n, 1.0), gathered)
                change, after = inner.update(cast(Any, mean), old["inner"], cast(Any, part))
                moved |= jax.tree.map(lambda leaf, f=full: jnp.where(f, leaf, jnp.zeros_like(leaf)), change)
                kept.append(
                    {
                        "inner": jax.tree.map(lambda a, b, f=full: jnp.where(f, a, b), after, old["inner"]),
                        "sum": jax.tree.map(lambda s, f=full: jnp.where(f, jnp.zeros_like(s), s), gathered),
                        "images": jnp.where(full, 0.0, images),
                    }
                )
            return traverse_util.unflatten_dict(moved, sep="/"), kept

        return optax.GradientTransformationExtraArgs(init, update)


def flatten(tree: Any) -> dict[str, Any]:
    """Return the leaves of nested dicts by path.

    >>> flatten({"seg": {"bias": 1}})
    {'seg/bias': 1}
    """
    return traverse_util.flatten_dict(tree, sep="/")


def rows_of(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many rows of a batch are real, and how many of them carry each task's labels, f32[].

    >>> rows = rows_of({"real": jnp.asarray([True, True]), "seg/present": jnp.asarray([False, True])})
    >>> {name: float(count) for name, count in rows.items()}
    {'real': 2.0, 'seg/present': 1.0}
    """
    size = next(iter(batch.values())).shape[0]
    real = batch.get("real", jnp.ones(size, bool))
    own = {name: jnp.logical_and(real, value) for name, value in batch.items() if name.endswith("/present")}
    return {name: value.sum().astype(jnp.float32) for name, value in {"real": real, **own}.items()}
