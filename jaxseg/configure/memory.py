"""How many images of a size a training step has room for."""

import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxseg.ops.backend import using

SHARE = 0.5
"""Of the memory that may be used; the rest is for workspaces, copies and everybody else."""

KEPT = 4
"""Arrays of the size of a convolution's result that training keeps: the result, its normalised and activated forms,
and a gradient."""


def available() -> int:
    """Return the memory in bytes of one device: the accelerator's, or this machine's.

    >>> available() > 2**28
    True
    """
    device = jax.local_devices()[0]
    stats = None if device.platform == "cpu" else device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # another system
        return 8 * 2**30


def images_that_fit(model: Any, size: tuple[int, int], bands: int, memory: int) -> int:
    """Return how many images of a size fit into a training step, estimated from the network's program.

    Counted are the results of convolutions and matrix products, :data:`KEPT` times, beside parameters, gradients and
    the optimizer's two averages. Nothing is compiled.

    >>> from jaxseg.models.semantic.unet import unet
    >>> net = unet(num_classes=2, depth=1, width=2)
    >>> images_that_fit(net, (64, 64), 3, 2**30) > 10 * images_that_fit(net, (256, 256), 3, 2**30) > 0
    True

    Args:
      model: a linen module.
      size: height and width.
      bands: of an image.
      memory: bytes of the device.
    """
    image = jax.ShapeDtypeStruct((1, *size, bands), np.uint8)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    program = jax.make_jaxpr(using("xla")(lambda v, x: model.apply(v, x, train=False)))(variables, image).jaxpr
    values = sum(_values(program))
    states = 4 * sum(leaf.size * 4 for leaf in jax.tree.leaves(variables["params"]))
    each = KEPT * values * np.dtype(getattr(model, "dtype", np.float32)).itemsize
    return max(0, int((SHARE * memory - states) // max(each, 1)))


def _values(program: Any) -> Iterator[int]:
    """Yield the sizes of the results of convolutions and products, within inner programs too."""
    for equation in program.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield from (int(np.prod(out.aval.shape)) for out in equation.outvars)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "eqns"):
                    yield from _values(inner)
                elif hasattr(inner, "jaxpr"):
                    yield from _values(inner.jaxpr)
