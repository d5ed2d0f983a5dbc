"""Output of the commands: lines, tables and JSON, for terminals and pipes."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from jaxseg.types import Figure, figure_of


def say(line: str) -> None:
    """Print one line on stdout."""
    click.echo(line)


def say_json(value: Any) -> None:
    """Print one JSON document on stdout; non-finite figures become null."""
    click.echo(as_json(value))


def as_json(value: Any) -> str:
    """Return a JSON document; non-finite figures become null."""
    return json.dumps(_finite(value), indent=2)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None, right: int = 0) -> None:
    """Return a table whose last ``right`` columns are right-aligned."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        drawn.add_column(name, justify="right" if position >= len(columns) - right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)


def metrics_table(
    metrics: Mapping[str, float], figures: Mapping[str, Figure], *, classes: Sequence[str] = (), title: str = ""
) -> None:
    """Print one row per figure: those of each class, ``iou/car``, then the summary in bold.

    Args:
      metrics: values by name.
      figures: how they are shown, see :func:`jaxseg.tasks.protocol.task_figures`.
      classes: the order of rows of classes.
      title: a line above the table.
    """
    groups: dict[str, list[str]] = {}
    for name in metrics:
        figure = figure_of(figures, name)
        if figure.name != name:
            groups.setdefault(figure.name, []).append(name)
    for group, names in groups.items():
        own, heading = figures[group], _heading(figures[group])
        known = {name.removeprefix(f"{group}/"): name for name in names}
        order = [c for c in classes if c in known] + [c for c in known if c not in classes]
        rows = [[c, own.format(metrics[known[c]])] for c in order]
        table(["class", heading], rows, title=title, right=1)
        title = ""
    summary = [name for name in figures if name in metrics] + [n for n in metrics if figure_of(figures, n).name == n]
    rows = []
    for name in dict.fromkeys(summary):
        figure = figure_of(figures, name)
        better = "" if figure.higher_is_better else ", lower is better"
        rows.append([f"[bold]{figure.title}{better}[/bold]", figure.format(metrics[name]), figure.unit])
    table(["figure", "value", "unit"], rows, title=title or None)


def _heading(figure: Figure) -> str:
    return f"{figure.title} {figure.unit}".strip()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inside) for name, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
