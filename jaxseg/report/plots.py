"""Plots of a report, as SVG: bars of each class, the confusion matrix, the reliability diagram."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.metrics.calibration import Bins
from jaxseg.types import Figure

WRITTEN = 12
"""Classes up to which each cell of the confusion matrix has its number."""

NAMED = 40
"""Classes up to which its rows and columns have names."""

INK, FAINT, BLUE, ORANGE = "#222222", "#8a8a8a", "#2f6fb0", "#d9822b"


def bars(values: Mapping[str, float], figure: Figure) -> bytes:
    """Draw one bar per class, the value behind it.

    Args:
      values: by class, in the order of the bars.
      figure: what they are.

    >>> bars({"sky": 0.9, "road": 0.5}, Figure("iou", "IoU", "%"))[:5]
    b'<?xml'
    """
    canvas, axes = _canvas(7.2, 0.7 + 0.24 * len(values))
    factor = 100 if figure.unit == "%" else 1
    names, numbers = list(values), [factor * value for value in values.values()]
    axes.barh(range(len(names)), numbers, color=BLUE, height=0.7)
    for place, (name, number) in enumerate(zip(names, numbers, strict=True)):
        axes.annotate(figure.format(values[name]), (number, place), (4, 0), **_BESIDE)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 100 if figure.unit == "%" else max(max(numbers, default=1) * 1.1, 1e-9))
    axes.margins(y=0.5 / max(len(names), 1))
    axes.set_xlabel(f"{figure.title} {figure.unit}".strip(), fontsize=9)
    return _svg(canvas)


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> bytes:
    """Draw which classes are taken for which: each row is the share of a true class's pixels.

    Args:
      matrix: pixels by true class (rows) and predicted class, ``[k k]``, or with void as the last of both.
      classes: their names.

    >>> confusion(np.eye(3), ("sky", "road"))[:5]
    b'<?xml'
    """
    number = len(classes)
    inner = np.asarray(matrix, np.float64)[:number]  # void truth is no class
    columns = [*classes, "void"] if inner.shape[1] > number and inner[:, number:].any() else list(classes)
    inner = inner[:, : len(columns)]
    share = inner / np.maximum(inner.sum(1, keepdims=True), 1)
    side = min(10.0, max(3.6, 1.8 + 0.42 * number)) if number <= NAMED else 8.0
    canvas, axes = _canvas(side + 0.9, side)
    drawn = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    if number <= NAMED:
        axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8)
        axes.set_yticks(range(number), classes, fontsize=8)
    if number <= WRITTEN:
        for (row, column), value in np.ndenumerate(share):
            color = "white" if value > 0.55 else INK
            axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xlabel("predicted class", fontsize=9)
    axes.set_ylabel("true class", fontsize=9)
    axes.grid(visible=False)
    bar = canvas.colorbar(drawn, ax=axes, fraction=0.046)
    bar.set_label("% of the true class's pixels", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return _svg(canvas)


def reliability(bins: Bins, error: float) -> bytes:
    """Draw accuracy over confidence, with the share of pixels in each bin below.

    Args:
      bins: of :meth:`jaxseg.metrics.calibration.Calibration.bins`.
      error: the expected calibration error, a fraction of 1.

    >>> reliability(Bins(np.asarray([2, 8]), np.asarray([0.4, 0.9]), np.asarray([0.5, 0.8])), 0.1)[:5]
    b'<?xml'
    """
    number = len(bins.pixels)
    width = 100 / number
    middle = width * (np.arange(number) + 0.5)
    canvas, (above, below) = _canvas(5.2, 5.4, rows=(3.2, 1.0))
    full = bins.pixels > 0
    above.plot([0, 100], [0, 100], color=FAINT, ls="--", lw=1, label="as right as it says")
    above.bar(middle[full], 100 * bins.accuracy[full], width=0.94 * width, color=BLUE, label="accuracy")
    above.plot(100 * bins.confidence[full], 100 * bins.accuracy[full], "o-", color=ORANGE, ms=4, lw=1.2)
    above.set_ylabel("accuracy %", fontsize=9)
    above.set_ylim(0, 100)
    above.legend(fontsize=8, frameon=False, loc="upper left")
    above.set_title(f"expected calibration error {100 * error:.2f} %", fontsize=10, color=INK)
    below.bar(middle, 100 * bins.pixels / max(bins.pixels.sum(), 1), width=0.94 * width, color=FAINT)
    below.set_ylabel("% of pixels", fontsize=9)
    below.set_xlabel("confidence %", fontsize=9)
    for axes in (above, below):
        axes.set_xlim(0, 100)
    return _svg(canvas)


_BESIDE: dict[str, Any] = {
    "textcoords": "offset points",
    "va": "center",
    "fontsize": 8,
    "color": INK,
    "annotation_clip": False,
}


def _canvas(width: float, height: float, *, rows: tuple[float, ...] = ()) -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(canvas)
    axes = canvas.subplots(len(rows) or 1, 1, height_ratios=rows or None)
    for each in np.ravel(axes):
        each.grid(color="#eeeeee", lw=0.8)
        each.set_axisbelow(True)
        each.tick_params(labelsize=9, colors="#444444")
        for side in ("top", "right"):
            each.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            each.spines[side].set_color("#cccccc")
    return canvas, axes


def _svg(canvas: Any) -> bytes:
    """Return the same bytes for the same drawing."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "jaxseg"}):
        canvas.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
