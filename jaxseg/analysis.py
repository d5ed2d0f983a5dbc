"""Analyse a network without weights or training: parameters, FLOPs, stride and receptive field.

Models declare none of it: everything is read off shapes and the traced program, in XLA's form
(:mod:`jaxseg.ops.backend`). Nothing is compiled or computed.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.ops.backend import using

LARGEST = 4096
"""Side of the image for receptive fields; fields beyond half of it count as the whole image."""


def fitting_size(model: Any, side: int) -> tuple[int, int]:
    """Return height and width of the smallest square image of at least ``side`` pixels that the model takes.

    >>> import jaxseg
    >>> fitting_size(jaxseg.create_model("unet"), 64)
    (64, 64)

    Raises:
      BadInput: no size up to ``side + 511`` fits.
    """
    if not hasattr(model, "valid_size"):
        return side, side
    for size in range(side, side + 512):
        try:
            model.valid_size(size, size)
        except BadInput:
            continue
        return size, size
    raise BadInput(f"the network takes no square image of {side} to {side + 511} pixels")


def parameters(model: Any) -> int:
    """Return the number of trained parameters.

    >>> import jaxseg
    >>> parameters(jaxseg.create_model("unet", num_classes=2, depth=1, width=2))
    486
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0), _image(*fitting_size(model, 64), _channels(model)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def operations(function: Callable[..., Any], *arguments: Any) -> float:
    """Count the floating-point operations of convolutions and matrix products; a multiply-add counts as two.

    Loops count once per iteration.

    >>> operations(lambda a, b: a @ b, jnp.ones((2, 3)), jnp.ones((3, 4)))
    48.0

    Args:
      function: any function of arrays.
      arguments: arrays or their shapes.
    """
    return _operations(jax.make_jaxpr(using("xla")(function))(*arguments).jaxpr)


def gflops(model: Any, height: int, width: int) -> float:
    """Return the operations for one image in billions, counted as by ``operations``.

    Transposed convolutions are counted without the zeros between their inputs.

    >>> import jaxseg
    >>> model = jaxseg.create_model("unet", num_classes=2, depth=1, width=2)
    >>> gflops(model, 128, 64) == 2 * gflops(model, 64, 64)
    True
    """
    return _operations(_program(model, height, width, None)[0]) / 1e9


class ReceptiveField(NamedTuple):
    """Stride, receptive field and offset of a network, along rows.

    ``stride`` is the distance in pixels between cells of the coarsest map, and ``offset`` the pixel on which its first
    cell is centred: negative inside a padding, None if every cell sees the whole image. ``field`` is the number of rows
    of the image that reach one row of the logits, the maximum over one output stride; None if it is the whole image, or
    indistinguishable from it.

    >>> ReceptiveField(stride=32, field=404, offset=12.5).stride
    32
    """

    stride: int
    field: int | None
    offset: float | None


def receptive_field(model: Any) -> ReceptiveField:
    """Return stride and offset of a network's coarsest map, and the receptive field of its logits.

    >>> import jaxseg
    >>> receptive_field(jaxseg.create_model("unet", depth=1, width=2))
    ReceptiveField(stride=2, field=18, offset=0.5)
    """
    height, width = fitting_size(model, LARGEST)[0], fitting_size(model, 64)[1]
    logits, *maps = _trace_rows(model, height, width)
    coarsest = max(rows.stride for rows in maps)
    stride = max(round(coarsest), 1)
    offset = next((at for rows in reversed(maps) if rows.stride == coarsest for at in _offset(rows, height)), None)
    half = len(logits.first) // 2
    middle = slice(half - stride, half + stride)
    first, last = logits.first[middle], logits.last[middle]
    if first.min() <= 0 or last.max() >= height - 1:
        return ReceptiveField(stride, None, offset)
    return ReceptiveField(stride, int((last - first).max()) + 1, offset)


def _offset(rows: "Rows", height: int) -> list[float]:
    """Return the centre of a map's first cell, traced back from the middle; empty if that sees the whole image."""
    i = len(rows.first) // 2
    if len(rows.first) < 2 or rows.first[i] <= 0 or rows.last[i] >= height - 1:
        return []
    return [float((rows.first[i] + rows.last[i]) / 2 - rows.stride * i)]


class Geometry(NamedTuple):
    """Where the cells of a map lie on the image: cell i is centred on pixel ``offset + stride * i``.

    ``field`` is the number of pixels that one cell sees, the maximum over one period. It is None if that is the whole
    image, and the offset is then NaN.

    >>> Geometry(field=3, stride=2.0, offset=0.0).field
    3
    """

    field: int | None
    stride: float
    offset: float


def geometry(function: Callable[[Any], Any], *, height: int = LARGEST, width: int = 64) -> Geometry:
    """Return field, stride and offset of the map that a function computes from an image, along rows.

    Two maps are aligned by cropping the finer one at the difference of their offsets over its stride, as Caffe's
    ``coord_map``. If neighbouring cells see unequally, as after an upsampling, the offset is a mean.

    >>> from jaxseg.ops.pool import max_pool
    >>> geometry(lambda x: max_pool(x, 2))
    Geometry(field=2, stride=2.0, offset=0.5)

    Args:
      function: takes an image ``f32[1 height width 3]`` and returns a map.
      height: of the image.
      width: of the image.
    """
    closed = jax.make_jaxpr(using("xla")(function))(_image(height, width))
    rows, *on_the_way = _follow(closed.jaxpr, [Rows(1.0, np.arange(height), np.arange(height))], closed.consts)
    centre, count = (rows.first + rows.last) / 2, len(rows.first)
    if rows.first[count // 2] <= 0 or rows.last[count // 2] >= height - 1:
        return Geometry(field=None, stride=rows.stride, offset=math.nan)
    # The stride that was followed is exact but for matrix products, whose edges do not count.
    arm = 1 << max(count // 4, 2).bit_length() - 2
    stride = float(centre[count // 2 + arm] - centre[count // 2 - arm]) / (2 * arm)
    period = max(round(max(other.stride for other in (rows, *on_the_way)) / stride), 1)
    middle = np.arange(count // 2, count // 2 + period)
    return Geometry(
        field=int((rows.last - rows.first)[middle].max()) + 1,
        stride=stride,
        offset=float((centre[middle] - stride * middle).mean()),
    )


def recipes_of(name: str) -> list[str]:
    """Return the names of the shipped recipes that use the model.

    >>> "unet_scenes" in recipes_of("unet")
    True
    """
    from jaxseg.recipe_files import builds, shipped

    return [recipe for recipe, path in shipped().items() if builds(path, name)]


def _image(height: int, width: int, channels: int = 3) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)


def _channels(model: Any) -> int:
    return model.in_channels if hasattr(model, "in_channels") else 3


def _program(model: Any, height: int, width: int, key: str | None) -> tuple[Any, list[Any]]:
    """Return the traced program from image and variables to an output, None for all outputs, and its constants."""
    image = _image(height, width, _channels(model))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    leaves, tree = jax.tree.flatten(variables)

    def forward(image: Any, *leaves: Any) -> Any:
        found = model.apply(jax.tree.unflatten(tree, leaves), image, train=False)
        return found if key is None else found[key]

    closed = jax.make_jaxpr(using("xla")(forward))(image, *leaves)
    return closed.jaxpr, closed.consts


def _inner(equation: Any) -> Iterator[Any]:
    """Return the programs inside an equation; of branches, the last one.

    The scalar functions of scatters and reductions are none of them.
    """
    if equation.primitive.name.startswith(("scatter", "reduce")):
        return
    branches = equation.params.get("branches")
    if branches:
        yield branches[-1].jaxpr
        return
    for value in equation.params.values():
        if hasattr(value, "jaxpr") and hasattr(value.jaxpr, "eqns"):
            yield value.jaxpr
        elif hasattr(value, "eqns"):
            yield value


def _operations(program: Any) -> float:
    total = 0.0
    for equation in program.eqns:
        turns = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        total += _cost(equation) + turns * sum(_operations(inner) for inner in _inner(equation))
    return total


def _cost(equation: Any) -> float:
    name = equation.primitive.name
    if name == "conv_general_dilated":
        spec = equation.params["dimension_numbers"].rhs_spec
        kernel = equation.invars[1].aval.shape
        taps = math.prod(kernel) // kernel[spec[0]]
        zeros = math.prod(equation.params["lhs_dilation"])
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * taps / zeros
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * depth
    return 0.0


class Rows(NamedTuple):
    """Rows of the image that reach each row of a map: ``first[i]`` to ``last[i]``; none if first exceeds last.

    ``stride`` is the number of image rows between two rows of the map, ``axis`` the axis of the map's rows.

    >>> Rows(1.0, np.arange(4), np.arange(4)).axis
    1
    """

    stride: float
    first: np.ndarray
    last: np.ndarray
    axis: int = 1


NOTHING = 1 << 40
"""First row of an empty range; its last is -1."""


def _trace_rows(model: Any, height: int, width: int) -> list[Rows]:
    """Return the rows that reach the logits, followed by those that reach every map on the way."""
    program, constants = _program(model, height, width, "logits")
    image = Rows(1.0, np.arange(height), np.arange(height))
    return _follow(program, [image, *[None] * (len(program.invars) - 1)], constants)


def _follow(program: Any, given: list[Rows | None], constants: list[Any]) -> list[Rows]:
    """Return ``_trace_rows`` of a program with given inputs; None for an input that does not depend on the image."""
    known = {v: rows for v, rows in zip(program.invars, given, strict=True) if rows is not None}
    values = dict(zip(program.constvars, constants, strict=False))
    seen = []
    for equation in program.eqns:
        operands = [None if hasattr(v, "val") else known.get(v) for v in equation.invars]
        if all(rows is None for rows in operands):
            continue
        result = None
        for inner in _inner(equation):
            result, *on_the_way = _follow(inner, operands[len(operands) - len(inner.invars) :], [])
            seen += on_the_way
        if result is None:
            result = _through(
                equation, operands, [None if hasattr(v, "val") else values.get(v) for v in equation.invars]
            )
        known.update((v, result) for v in equation.outvars)
        seen.append(result)
    results = [known[v] for v in program.outvars if not hasattr(v, "val") and v in known]
    return [_union(results), *seen]


def _through(equation: Any, operands: list[Rows | None], values: list[Any]) -> Rows:
    """Return the rows that reach an equation's result."""
    name, p = equation.primitive.name, equation.params
    x = max((rows for rows in operands if rows is not None), key=lambda rows: len(rows.first))
    shape, axis = equation.outvars[0].aval.shape, x.axis
    if name == "conv_general_dilated":
        k = equation.invars[1].aval.shape[p["dimension_numbers"].rhs_spec[2]]
        return _window(x, k, p["window_strides"][0], _pair(p["padding"][0]), p["lhs_dilation"][0], p["rhs_dilation"][0])
    if name.startswith("reduce_window"):
        size, strides, pads = p["window_dimensions"][axis], p["window_strides"][axis], _pair(p["padding"][axis])
        return _window(x, size, strides, pads, p["base_dilation"][axis], p["window_dilation"][axis])
    if name == "pad":
        low, high, between = p["padding_config"][axis]
        return _window(x, 1, 1, _pair((low, high)), between + 1, 1)
    if name == "slice":
        step = p["strides"][axis] if p["strides"] else 1
        cut = slice(p["start_indices"][axis], p["limit_indices"][axis], step)
        return Rows(x.stride * step, x.first[cut], x.last[cut], axis)
    if name == "rev" and axis in p["dimensions"]:
        return Rows(x.stride, x.first[::-1], x.last[::-1], axis)
    if name == "concatenate" and p["dimension"] == axis:
        lengths = [v.aval.shape[axis] for v in equation.invars]
        parts = [_nothing(n) if rows is None else rows for rows, n in zip(operands, lengths, strict=True)]
        first, last = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        return Rows(x.stride, first, last, axis)
    if name == "dot_general":
        return _product(equation, operands, values)
    if name.startswith("reduce_") and "axes" in p:
        rows = _whole(x) if axis in p["axes"] else x
        return rows._replace(axis=max(axis - sum(a < axis for a in p["axes"]), 0))
    if name == "transpose":
        return x._replace(axis=p["permutation"].index(axis))
    if name == "broadcast_in_dim":
        kept = p["broadcast_dimensions"]
        # An operand whose rows were reduced away has no such axis; its result has them at the first one that is new.
        new = [a for a in range(len(shape)) if a not in kept]
        axis = kept[axis] if axis < len(kept) and (len(x.first) > 1 or not new) else (new or [0])[0]
    elif name == "squeeze":
        axis -= sum(a < axis for a in p["dimensions"])
    elif name == "reshape":
        before = math.prod(equation.invars[0].aval.shape[:axis])
        moved = [a for a, n in enumerate(shape) if n == len(x.first) and math.prod(shape[:a]) == before]
        axis = moved[-1] if moved and len(x.first) != 1 else axis
    length = shape[axis] if len(shape) > axis else 1
    seen = [rows for rows in operands if rows is not None]
    places = slice(*INDEX_OPERANDS.get(name.split("-")[0], (0, 0)))
    if name == "sort" or any(rows is not None for rows in operands[places]):
        # Indices computed from the image may move any row anywhere.
        return _stretched(_union([_whole(rows) for rows in seen]), length, 0)._replace(axis=axis)
    doubt = 0 if name in ("reshape", "broadcast_in_dim", "squeeze") else 1
    return _union([_stretched(rows, length, doubt)._replace(axis=axis) for rows in seen])


INDEX_OPERANDS = {"gather": (1, 2), "scatter": (1, 2), "dynamic_slice": (1, None), "dynamic_update_slice": (2, None)}
"""Operands of an equation that hold indices."""


def _product(equation: Any, operands: list[Rows | None], values: list[Any]) -> Rows:
    """Return the rows after a matrix product: unchanged over channels, mixed by a known matrix over rows."""
    contracted, batched = equation.params["dimension_numbers"]
    side = 0 if operands[0] is not None else 1
    x = operands[side]
    assert x is not None
    ranks = [len(v.aval.shape) for v in equation.invars]
    free = [[a for a in range(ranks[s]) if a not in (*contracted[s], *batched[s])] for s in (0, 1)]
    if x.axis in batched[side]:
        return x._replace(axis=batched[side].index(x.axis))
    if x.axis in free[side]:
        return x._replace(axis=len(batched[0]) + (len(free[0]) if side else 0) + free[side].index(x.axis))
    other, matrix = 1 - side, values[1 - side]
    if matrix is None or np.ndim(matrix) != 2:
        return _whole(x)
    mixes = np.asarray(matrix).astype(np.float32) != 0
    mixes = mixes if contracted[other][0] == 1 else mixes.T
    first = np.where(mixes, x.first, NOTHING).min(axis=1)
    last = np.where(mixes, x.last, -1).max(axis=1)
    axis = len(batched[0]) + (len(free[0]) if other else 0)
    return Rows(x.stride * len(x.first) / len(first), first, last, axis)


def _window(x: Rows, size: int, stride: int, pads: tuple[int, int], spread: int, dilation: int) -> Rows:
    """Return the rows seen by a sliding window over a map that is dilated, then padded or (below 0) cropped."""
    wide = _nothing((len(x.first) - 1) * spread + 1)
    wide.first[::spread], wide.last[::spread] = x.first, x.last
    (before, after), span = pads, (size - 1) * dilation + 1
    cut = slice(max(-before, 0), len(wide.first) - max(-after, 0))
    border = [_nothing(max(n, 0)) for n in (before, after)]
    first = np.concatenate([border[0].first, wide.first[cut], border[1].first])
    last = np.concatenate([border[0].last, wide.last[cut], border[1].last])
    count = (len(first) - span) // stride + 1
    taps = [slice(k * dilation, k * dilation + (count - 1) * stride + 1, stride) for k in range(size)]
    return _union([Rows(x.stride * stride / spread, first[tap], last[tap], x.axis) for tap in taps])


def _pair(pads: Any) -> tuple[int, int]:
    return int(pads[0]), int(pads[1])


def _stretched(x: Rows, length: int, doubt: int) -> Rows:
    """Return the rows of a map resized to ``length``; ``doubt`` rows around, if values are mixed by unknown rules."""
    n = len(x.first)
    if n in (length, 1):
        return x._replace(first=np.broadcast_to(x.first, length), last=np.broadcast_to(x.last, length))
    at = np.arange(length) * n // length
    low, high = np.maximum(at - doubt, 0), np.minimum(at + doubt, n - 1)
    first, last = np.minimum(x.first[low], x.first[at]), np.maximum(x.last[high], x.last[at])
    return Rows(x.stride * n / length, first, last, x.axis)


def _whole(x: Rows) -> Rows:
    """Return the rows if every row depends on every row."""
    return x._replace(stride=0.0, first=x.first.min(keepdims=True), last=x.last.max(keepdims=True))


def _union(several: list[Rows]) -> Rows:
    first, last = np.minimum.reduce([r.first for r in several]), np.maximum.reduce([r.last for r in several])
    return Rows(max(rows.stride for rows in several), first, last, several[0].axis)


def _nothing(length: int) -> Rows:
    return Rows(0.0, np.full(length, NOTHING), np.full(length, -1))
