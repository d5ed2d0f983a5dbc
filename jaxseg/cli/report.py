"""What the verbs print: lines, tables and JSON, for a terminal and for a pipe alike."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table


def say(line: str) -> None:
    """One line on stdout."""
    click.echo(line)


def say_json(value: Any) -> None:
    """One JSON document on stdout; figures that are not finite become null."""
    click.echo(json.dumps(_finite(value), indent=2))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None, right: int = 0) -> None:
    """A table whose last ``right`` columns are aligned to the right."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        drawn.add_column(name, justify="right" if position >= len(columns) - right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)


SUMMARY = {
    "miou": "mean IoU, void ignored",
    "miou_void_counted": "mean IoU, void counted as errors",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean class accuracy",
    "fw_iou": "frequency-weighted IoU",
    "boundary_f1": "boundary F1",
}


def metrics_table(metrics: Mapping[str, float], classes: Sequence[str], *, title: str) -> None:
    """IoU of each class, then the summary, in percent; other figures as they are."""
    per_class = {name.removeprefix("iou/"): value for name, value in metrics.items() if name.startswith("iou/")}
    order = [name for name in classes if name in per_class]
    order += [name for name in per_class if name not in order]
    rows = [[name, _percent(per_class[name])] for name in order]
    rows += [[f"[bold]{text}[/bold]", _percent(metrics[name])] for name, text in SUMMARY.items() if name in metrics]
    rest = [name for name in metrics if name not in SUMMARY and not name.startswith("iou/")]
    rows += [[name, f"{metrics[name]:.4g}"] for name in rest]
    table(["class", "IoU %"], rows, title=title, right=1)


def _percent(value: float) -> str:
    return "absent" if value != value else f"{100 * value:.2f}"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inside) for name, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
