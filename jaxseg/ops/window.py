"""How a window slides over a map: sizes, paddings and output sizes, all known before anything runs."""

from typing import Any, Literal, NamedTuple

from jax import core, export

from jaxseg.errors import BadInput

Pads = tuple[tuple[Any, Any], tuple[Any, Any]]
"""((top, bottom), (left, right)): integers, but symbols where a symbolic map is padded up."""

Extent = tuple[Any, Any]
"""Rows and columns of a map: integers, but symbols while a program is exported for any size."""

Size = int | Extent
"""One number for both axes, or (rows, columns)."""

Padding = int | tuple[int, int] | Pads | Literal["SAME", "VALID"]
"""One number, (rows, columns), ((top, bottom), (left, right)), or XLA's names."""


def pair(size: Size, name: str, *, least: int = 1) -> Extent:
    """(rows, columns) of a size.

    Raises:
      BadInput: a number is below ``least``.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    if surely_below(rows, least) or surely_below(columns, least):
        raise BadInput(f"{name} is {size}; it needs {least} or more along both axes")
    return rows, columns


def explicit_pads(
    padding: Padding, size: Extent, window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Pads:
    """((top, bottom), (left, right)) of a window over a map of ``size``; "SAME" splits as XLA does, more at the end."""
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding == "SAME":
        totals = [
            core.max_dim((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d in zip(size, window, stride, dilation, strict=True)
        ]
        return (totals[0] // 2, totals[0] - totals[0] // 2), (totals[1] // 2, totals[1] - totals[1] // 2)
    return given_pads(padding)


def given_pads(padding: Padding) -> Pads:
    """((top, bottom), (left, right)) of a padding given in numbers.

    Raises:
      BadInput: it is a name, or negative.
    """
    if isinstance(padding, str):
        raise BadInput(f"padding {padding!r} has no meaning here; give numbers")
    if isinstance(padding, int):
        padding = (padding, padding)
    rows, columns = ((p, p) if isinstance(p, int) else p for p in padding)
    if min(*rows, *columns) < 0:
        raise BadInput(f"padding is {padding}; it needs 0 or more (crop with a slice)")
    return rows, columns


def to_multiple(n: Any, multiple: int) -> Any:
    """The least multiple that is not below ``n``; of a symbol, in a form that the factors of ``multiple`` divide."""
    return multiple * ((n + multiple - 1) // multiple)


def effective_kernel_size(window: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns from a window's first tap to its last, both counted."""
    return dilation[0] * (window[0] - 1) + 1, dilation[1] * (window[1] - 1) + 1


def conv_size(size: Any, reach: int, stride: int, pads: Extent) -> Any:
    """Positions of a window that lie wholly in the padded axis (0 when it does not fit)."""
    return core.max_dim((size + sum(pads) - reach) // stride + 1, 0)


def pool_size(size: Any, window: int, stride: int, pads: Extent, *, ceil_mode: bool) -> Any:
    """Positions of a pooling window: rounded down, or up in ``ceil_mode``.

    Rounded up, the last window may hang over the end; it is dropped if it would start wholly in the padding (the rule
    of Caffe's ``PoolingLayer`` and of torch).
    """
    span = size + sum(pads) - window
    if not ceil_mode:
        return core.max_dim(span // stride + 1, 0)
    count = core.max_dim(-(-span // stride) + 1, 0)
    return count - 1 if surely_below(size + pads[0], (count - 1) * stride + 1) else count


def surely_below(a: Any, b: Any) -> bool:
    """Whether ``a < b`` for all values of the symbols in them; of numbers, whether ``a < b``."""
    return bool(core.max_dim(a + 1, b) == b)


def symbolic(*sides: Any) -> bool:
    """Whether any of the sides is a symbol, as while a program is exported for any size."""
    return any(export.is_symbolic_dim(side) for side in sides)


class ConvGeometry(NamedTuple):
    """How a convolution slides: stride, padding (below zero: crops), step between taps, groups of channels."""

    stride: tuple[int, int]
    pads: Pads
    dilation: tuple[int, int]
    groups: int
