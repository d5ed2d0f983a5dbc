"""Run a network on a padded image as on the image itself: its convolutions see zeros beyond the image's own part.

Zero padding at the border is part of what a network computes. On a larger canvas each convolution therefore has its
input zeroed where, on the image alone, the border would be; the sizes are those that a trace of the network on the
image alone goes through. What convolutions compute is then the same; global averages, attention and pools with padding
of their own still see the rest of the canvas.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.forward import forward
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.standardize import Standardize

EXTENT = "conv_sizes"
"""Key under which a batch on the host carries the sizes of :func:`conv_sizes`."""


def conv_sizes(model: Any, task: Any, variables: Any, image: jax.ShapeDtypeStruct) -> np.ndarray:
    """Return rows and columns of every convolution's input, in the order of the calls, i32[calls 2]; nothing is run.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model, image = unet(num_classes=3, depth=1, width=2), jax.ShapeDtypeStruct((1, 7, 9, 3), np.uint8)
      >>> variables = jax.eval_shape(model.init, jax.random.key(0), image)
      >>> conv_sizes(model, Semantic(3), variables, image)[0].tolist()
      [8, 10]
    """
    seen: list[tuple[int, int]] = []

    def note(next_call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if _is_convolution(context):
            seen.append(args[0].shape[1:3])
        return next_call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(forward(model, task), variables, {"image": image})
    return np.asarray(seen, np.int32).reshape(-1, 2)


@contextlib.contextmanager
def within(sizes: jax.Array) -> Iterator[None]:
    """Zero the input of each convolution beyond the sizes that :func:`conv_sizes` found for the image alone.

    Example:
      >>> conv, x = Conv(1, 1, use_bias=False), jnp.ones((1, 4, 4, 1))
      >>> with within(jnp.array([[2, 3]])):
      ...     y = conv.apply({"params": {"kernel": jnp.ones((1, 1, 1, 1))}}, x)
      >>> y[0, :, :, 0].astype(int).tolist()
      [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    number = 0

    def mask(next_call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal number
        if not _is_convolution(context):
            return next_call(*args, **kwargs)
        (rows, columns), number = sizes[number], number + 1
        x = args[0]
        inside = (jnp.arange(x.shape[1]) < rows)[:, None] & (jnp.arange(x.shape[2]) < columns)[None]
        return next_call(jnp.where(inside[None, :, :, None], x, 0), *args[1:], **kwargs)

    with nn.intercept_methods(mask):
        yield


def neutral_pixel(model: Any) -> np.ndarray | None:
    """Return the pixel that standardisation turns into zeros, f32[c]; None where the network does not say.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> [round(float(value), 1) for value in neutral_pixel(unet())]
      [123.7, 116.3, 103.5]
    """
    todo = [model]
    while todo:
        part = todo.pop()
        if isinstance(part, Standardize):
            if not part.mean or part.order not in ("rgb", "bgr", "bands"):
                return None
            mean = np.asarray(part.mean, np.float32) / part.scale
            return mean[::-1] if part.order == "bgr" else mean
        if dataclasses.is_dataclass(part):
            values = [vars(part).get(field.name) for field in dataclasses.fields(part)]
            todo += [value for value in values if dataclasses.is_dataclass(value) and not isinstance(value, type)]
    return None


def _is_convolution(context: nn.module.InterceptorContext) -> bool:
    return isinstance(context.module, Conv | ConvTranspose) and context.method_name == "__call__"
