"""Layer-wise learning-rate decay: layers near the image, which pretraining has settled, learn more slowly."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxseg.errors import BadInput


def layer_decay(model: Any, decay: float, *, part: str = "backbone") -> tuple[tuple[str, float], ...]:
    r"""Return ``lr_multipliers`` that fall by ``decay`` from layer to layer, from the end of a part to the image.

    The layers are the modules directly inside the part, in the order in which they are first called: the stem, each
    block; a normalisation belongs to the layer before it. The last has ``decay``, the one before ``decay**2``, and so
    on; everything outside of the part keeps the whole rate. The result is a plain tuple, for
    ``AdamW(..., lr_multipliers=layer_decay(model, 0.8))``.

    Args:
      model: a linen module.
      decay: factor from a layer to the one before it, above 0 and at most 1; 0.65 to 0.9 are usual.
      part: path of the module.

    Raises:
      BadInput: ``decay`` is out of range, or the model has no such part with layers inside.

    >>> from jaxseg.registry import create_small
    >>> layer_decay(create_small("segformer_b0"), 0.5)[-1]
    ('^backbone/norm4/', 0.5)

    Reference:
      Clark et al. 2020, arXiv:2003.10555, appendix A; Bao et al. 2022, arXiv:2106.08254.
    """
    if not 0 < decay <= 1:
        raise BadInput(f"layer decay is {decay}, but must be above 0 and at most 1")
    inside = tuple(part.split("/"))
    seen: dict[str, None] = {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = context.module.path
        if path[: len(inside)] == inside and len(path) > len(inside):
            seen.setdefault(path[len(inside)])
        return call(*args, **kwargs)

    side = model.input_size(4, 4) if hasattr(model, "input_size") else (64, 64)
    image = jax.ShapeDtypeStruct((1, *side, getattr(model, "in_channels", 3)), np.uint8)
    with nn.intercept_methods(note):
        shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    tree = shapes["params"]
    for step in inside:
        tree = tree.get(step, {})
    layers = [layer for layer in seen if layer in tree]
    if not layers:
        raise BadInput(f"layer decay: the model has no layers in {part!r}; it has {', '.join(shapes['params'])}")
    number, depths = 0, {}
    for layer in layers:
        number += "norm" not in layer or not depths
        depths[layer] = number
    return tuple((f"^{part}/{layer}/", decay ** (number + 1 - depth)) for layer, depth in depths.items())
