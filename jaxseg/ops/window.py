"""Geometry of sliding windows: sizes, paddings and output sizes, all static."""

from typing import Any, Literal, NamedTuple

from jax import core, export

from jaxseg.errors import BadInput

Pads = tuple[tuple[Any, Any], tuple[Any, Any]]
"""((top, bottom), (left, right)): integers, or symbols if a symbolic map is padded to a multiple."""

Extent = tuple[Any, Any]
"""Rows and columns of a map: integers, or symbols while a program is exported for any size."""

Size = int | Extent
"""One number for both axes, or (rows, columns)."""

Padding = int | tuple[int, int] | Pads | Literal["SAME", "VALID"]
"""One number, (rows, columns), ((top, bottom), (left, right)), or XLA's names."""


def pair(size: Size, name: str, *, least: int = 1) -> Extent:
    """Return (rows, columns) of a size.

    >>> pair(3, "window")
    (3, 3)

    Args:
      size: one number for both axes, or (rows, columns).
      name: of the argument, for the error.
      least: smallest value allowed.

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
    """Return a padding as ((top, bottom), (left, right)); "SAME" puts the odd pixel at the end, as XLA does.

    >>> explicit_pads("SAME", (5, 5), (2, 3), (1, 2), (1, 1))
    ((0, 1), (1, 1))

    Args:
      padding: numbers, "SAME" or "VALID".
      size: rows and columns of the map.
      window: rows and columns.
      stride: step between windows.
      dilation: step between taps.
    """
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
    """Return a numeric padding as ((top, bottom), (left, right)).

    >>> given_pads((1, 2))
    ((1, 1), (2, 2))

    Raises:
      BadInput: the padding is a name, or negative.
    """
    if isinstance(padding, str):
        raise BadInput(f"padding {padding!r} is not supported here; give numbers")
    if isinstance(padding, int):
        padding = (padding, padding)
    rows, columns = ((p, p) if isinstance(p, int) else p for p in padding)
    if min(*rows, *columns) < 0:
        raise BadInput(f"padding is {padding}; it needs 0 or more (crop with a slice)")
    return rows, columns


def to_multiple(n: Any, multiple: int) -> Any:
    """Return the smallest multiple not below ``n``; symbolic sizes keep ``multiple`` as a factor.

    >>> to_multiple(33, 32)
    64
    """
    return multiple * ((n + multiple - 1) // multiple)


def effective_kernel_size(window: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns that a dilated window spans, first and last tap included.

    >>> effective_kernel_size((3, 3), (2, 12))
    (5, 25)
    """
    return dilation[0] * (window[0] - 1) + 1, dilation[1] * (window[1] - 1) + 1


def conv_size(size: Any, reach: int, stride: int, pads: Extent) -> Any:
    """Return the number of positions of a window inside the padded axis; 0 if it does not fit.

    >>> conv_size(7, 3, 2, (1, 1))
    4

    Args:
      size: of the axis.
      reach: effective kernel size.
      stride: step between windows.
      pads: before and after.
    """
    return core.max_dim((size + sum(pads) - reach) // stride + 1, 0)


def pool_size(size: Any, window: int, stride: int, pads: Extent, *, ceil_mode: bool) -> Any:
    """Return the number of positions of a pooling window, rounded down, or up in ``ceil_mode``.

    In ``ceil_mode`` the last window may hang over the end, but is dropped if it would start in the padding (the rule of
    Caffe's ``PoolingLayer`` and of torch).

    >>> pool_size(6, 3, 2, (0, 0), ceil_mode=False), pool_size(6, 3, 2, (0, 0), ceil_mode=True)
    (2, 3)

    Args:
      size: of the axis.
      window: cells along it.
      stride: step between windows.
      pads: before and after.
      ceil_mode: round up.
    """
    span = size + sum(pads) - window
    if not ceil_mode:
        return core.max_dim(span // stride + 1, 0)
    count = core.max_dim(-(-span // stride) + 1, 0)
    return count - 1 if surely_below(size + pads[0], (count - 1) * stride + 1) else count


def surely_below(a: Any, b: Any) -> bool:
    """Return True if ``a < b`` for all values of the symbols in them.

    >>> surely_below(3, 4)
    True
    """
    return bool(core.max_dim(a + 1, b) == b)


def symbolic(*sides: Any) -> bool:
    """Return True if any of the sides is symbolic, as in a program exported for any size.

    >>> from jax import export
    >>> symbolic(64, *export.symbolic_shape("h, w")), symbolic(64, 96)
    (True, False)
    """
    return any(export.is_symbolic_dim(side) for side in sides)


class ConvGeometry(NamedTuple):
    """Geometry of a convolution: stride, padding (negative: crop), dilation, groups.

    >>> ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1), groups=1).groups
    1
    """

    stride: tuple[int, int]
    pads: Pads
    dilation: tuple[int, int]
    groups: int
