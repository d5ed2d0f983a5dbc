"""Curves of a training: loss, learning rate, and the figures of the held-out split over the steps."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.files import atomic
from jaxseg.types import Figure, figure_of

FIGURES = "figures.json"
"""Beside ``metrics.jsonl``: a list of :class:`jaxseg.types.Figure`, the headline first."""

MOST = 6
"""Figures drawn on one pair of axes."""

BESIDES = ("stage", "step", "kind", "split", "time", "seconds")
"""Fields of a line that are no figures."""


def curves(metrics: str | Path, out: str | Path, *, title: str = "") -> None:
    """Draw a run's ``metrics.jsonl`` as a PNG: training on the left, evaluation on the right, axes for each unit.

    Each line of the file is an object with ``kind`` ("train" or "eval"), ``step``, ``stage`` and numbers by name.
    Stages follow one another along the axis. Where a resumed run wrote a step again, the later line counts; a half
    line at the end of a killed run is passed over. What the figures are called, their units and which way is better
    is read from :data:`FIGURES` beside the file; without it names stand for titles, and larger is better. The picture
    replaces the old one in one go.

    Args:
      metrics: the file; missing or empty draws empty axes.
      out: where the PNG goes.
      title: a line above.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     curves("no such file", Path(folder) / "curves.png")
    ...     (Path(folder) / "curves.png").stat().st_size > 1000
    True
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    lines, known = read(metrics), read_figures(Path(metrics).with_name(FIGURES))
    evaluations = [x for x in lines if x.get("kind") == "eval"]
    panels = _panels(evaluations, known)
    canvas = Canvas(figsize=(5.5 * (1 + len(panels)), 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(canvas)
    left, *right = canvas.subplots(1, 1 + len(panels))
    if title:
        canvas.suptitle(title, fontsize=12, color="#222222")
    _draw_training(left, [x for x in lines if x.get("kind") == "train"])
    for axes, figures in zip(right, panels, strict=True):
        _draw_evaluation(axes, evaluations, figures)
    for axes in (left, *right):
        _frame(axes)
        axes.set_xlim(0, max(1.0, 1.03 * max((line["x"] for line in lines), default=1)))
        for name, start in _starts(lines)[1:]:
            axes.axvline(start, color="#bbbbbb", lw=1, ls=":")
            axes.annotate(
                name,
                (start, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -10),
                fontsize=8,
                textcoords="offset points",
                color="#888888",
            )
    out = Path(out)
    with atomic(out) as part:
        canvas.savefig(part, format="png")


def read(metrics: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a ``metrics.jsonl`` in order of steps, the last of each step, ``x`` the running step.

    ``x`` counts on over the stages; of lines of the same stage, kind, split and step the last one stays.

    >>> read("no such file")
    []
    """
    path = Path(metrics)
    kept: dict[Any, dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            kept[(line.get("stage", ""), line.get("kind"), line.get("split"), line["step"])] = line
    lines = list(kept.values())
    starts: dict[str, int] = {}
    last: dict[str, int] = {}
    for line in lines:
        stage = line.get("stage", "")
        last[stage] = max(last.get(stage, 0), line["step"])
    start = 0
    for stage in last:
        starts[stage] = start
        start += last[stage]
    lines = [{**line, "x": starts[line.get("stage", "")] + line["step"]} for line in lines]
    return sorted(lines, key=lambda line: line["x"])


def read_figures(path: Path) -> dict[str, Figure]:
    """Return the figures that a ``figures.json`` describes, by name; none where the file is missing or damaged.

    >>> read_figures(Path("no such file"))
    {}
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {row["name"]: Figure(**row) for row in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def figures_text(figures: Iterable[Figure]) -> str:
    """Return what :func:`read_figures` reads.

    >>> print(figures_text([Figure("rmse", "error", "m", False)]))
    [
     {"name": "rmse", "title": "error", "unit": "m", "higher_is_better": false, "definition": ""}
    ]
    <BLANKLINE>
    """
    rows = [json.dumps(asdict(figure)) for figure in figures]
    return "[\n " + ",\n ".join(rows) + "\n]\n"


def _starts(lines: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Stages in order with the step at which each begins."""
    starts: dict[str, int] = {}
    for line in lines:
        starts.setdefault(str(line.get("stage", "")), line["x"] - line["step"])
    return sorted(starts.items(), key=lambda item: item[1])


def _series(lines: list[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one number."""
    pairs = [(x["x"], float(x[key])) for x in lines if isinstance(x.get(key), int | float) and math.isfinite(x[key])]
    return np.asarray([p[0] for p in pairs]), np.asarray([p[1] for p in pairs])


def _draw_training(axes: Any, lines: list[dict[str, Any]]) -> None:
    """Draw the loss, faint as logged and strong smoothed, with the learning rate on an axis of its own."""
    axes.set_title("training loss", fontsize=11, color="#222222")
    axes.set_xlabel("step")
    low, high = math.inf, 0.0
    for of_stage in _by_stage(lines):
        x, y = _series(of_stage, "loss")
        if not x.size:
            continue
        smooth = _smooth(y)
        axes.plot(x, y, color="#1f77b4", alpha=0.3, lw=1)
        axes.plot(x, smooth, color="#1f77b4", lw=2)
        axes.annotate(
            f"{smooth[-1]:.3g}",
            (x[-1], smooth[-1]),
            xytext=(-2, 14),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color="#1f77b4",
        )
        low, high = min(low, y.min()), max(high, y.max())
    if low > 0 and high / low > 30:
        axes.set_yscale("log")
    rates = [_series(of_stage, "learning_rate") for of_stage in _by_stage(lines)]
    if any(x.size for x, _ in rates):
        twin = axes.twinx()
        for x, y in rates:
            twin.plot(x, y, color="#999999", lw=1, ls="--")
        twin.set_ylabel("learning rate (dashed)", color="#999999", fontsize=9)
        twin.tick_params(colors="#999999", labelsize=8)
        twin.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
        twin.set_ylim(0, None)
        for side in ("top", "left", "bottom"):
            twin.spines[side].set_visible(False)
        twin.spines["right"].set_color("#dddddd")


def _panels(lines: list[dict[str, Any]], known: Mapping[str, Figure]) -> list[list[Figure]]:
    """Return the figures to draw, grouped by unit, headlines first; at least one list."""
    numbers = {k for x in lines for k, v in x.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    drawn = [known[name] for name in known if name in numbers]
    if not drawn:
        others = sorted(k for k in numbers if "/" not in k and k not in BESIDES and k != "x")
        drawn = [figure_of(known, name) for name in others]
    units: dict[str, list[Figure]] = {}
    for figure in drawn:
        units.setdefault(figure.unit, []).append(figure)
    return [figures[:MOST] for figures in units.values()] or [[]]


def _draw_evaluation(axes: Any, lines: list[dict[str, Any]], figures: list[Figure]) -> None:
    """Draw the figures of each split; the best value of the first figure on the first split is marked."""
    unit = figures[0].unit if figures else ""
    axes.set_title("evaluation" + f" ({unit})" * bool(unit), fontsize=11, color="#222222")
    axes.set_xlabel("step")
    splits = list(dict.fromkeys(x.get("split", "") for x in lines))
    best: tuple[float, int] | None = None
    for s, split in enumerate(splits):
        for c, figure in enumerate(figures):
            text = (
                figure.title + f" ({split})" * (len(splits) > 1) + " (lower is better)" * (not figure.higher_is_better)
            )
            for i, of_stage in enumerate(_by_stage([x for x in lines if x.get("split", "") == split])):
                x, y = _series(of_stage, figure.name)
                shown = 100 * y if unit == "%" else y
                axes.plot(
                    x,
                    shown,
                    color=f"C{c}",
                    ls=("-", "--", ":")[s % 3],
                    lw=2.4 if c == 0 else 1.3,
                    marker="o",
                    ms=4 if c == 0 else 2.5,
                    label=text if i == 0 else None,
                    zorder=3 if c == 0 else 2,
                )
                if c == 0 and s == 0 and x.size:
                    at = int(y.argmax() if figure.higher_is_better else y.argmin())
                    if best is None or figure.is_better(float(y[at]), best[0]):
                        best = (float(y[at]), int(x[at]))
    if best is not None:
        value, at, text = best[0], best[1], figures[0].format(best[0])
        place = (at, 100 * value if unit == "%" else value)
        axes.annotate(text, place, xytext=(0, 8), textcoords="offset points", ha="center", fontsize=10, color="C0")
        axes.set_title(
            f"evaluation: best {figures[0].title} {text}{f' {unit}' * bool(unit)} at step {at:,}", fontsize=11
        )
    drawn = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    values = np.concatenate([*drawn, np.zeros(0)])
    if values.size:
        axes.legend(fontsize=9, frameon=False, loc="best")
        top = 100 if unit == "%" else 1
        if values.min() >= 0 and top / 10 < values.max() <= top:
            axes.set_ylim(0, top)


def _by_stage(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the lines of each stage, in order."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        stages.setdefault(str(line.get("stage", "")), []).append(line)
    return list(stages.values())


def _smooth(y: np.ndarray) -> np.ndarray:
    """Return a running mean over about a twentieth of the curve, one-sided at its ends."""
    half = len(y) // 40
    total = np.concatenate([[0.0], np.cumsum(y)])
    i = np.arange(len(y))
    low, high = np.maximum(i - half, 0), np.minimum(i + half, len(y) - 1) + 1
    return (total[high] - total[low]) / (high - low)


def _frame(axes: Any) -> None:
    axes.grid(color="#eeeeee", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors="#555555")
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#cccccc")
