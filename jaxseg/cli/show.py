"""``jaxseg show``: describe one model."""

from typing import Any

import click


@click.command("show", short_help="One model.")
@click.argument("name")
@click.option("--size", type=click.IntRange(1), default=256, show_default=True, help="Side of the image for GFLOPs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, size: int, as_json: bool) -> None:
    """Show paper, parameters, GFLOPs, receptive field, output stride and fields of model NAME."""
    from jaxseg import analysis, registry
    from jaxseg.cli import report

    entry = registry.find(name)
    model = entry.build()
    height, width = analysis.fitting_size(model, size)
    stride, field, offset = analysis.receptive_field(model)
    facts: dict[str, Any] = {
        "name": name,
        "summary": entry.summary,
        "task": entry.task,
        "paper": entry.paper,
        "parameters": analysis.parameters(model),
        "parameters_in_paper": entry.params if entry.rounded is None else entry.rounded,
        "image": [height, width],
        "gflops": round(analysis.gflops(model, height, width), 3),
        "receptive_field": field,
        "output_stride": stride,
        "offset": offset,
        "module": f"{entry.build.__module__}.{entry.build.__name__}",
        "fields": {key: _plain(value) for key, value in entry.fields.items()},
        "recipes": analysis.recipes_of(name),
    }
    if as_json:
        return report.say_json(facts)
    paper = f" (paper: {entry.published})" if entry.published else ""
    seen = f"{field} pixels" if field is not None else "the whole image"
    rows = [
        ["summary", entry.summary],
        ["task", entry.task],
        ["paper", entry.paper],
        ["parameters", f"{facts['parameters']:,}{paper}"],
        ["GFLOPs", f"{facts['gflops']:,.2f} for one image of {height}x{width} (a multiply-add counts as two)"],
        ["receptive field", seen],
        ["output stride", str(stride)],
        ["offset", "none: each cell sees the whole image" if offset is None else f"{offset:g}, of the first cell"],
        ["fields", ", ".join(f"{key}={value}" for key, value in facts["fields"].items())],
        ["recipes", ", ".join(facts["recipes"]) or "none"],
        ["file", entry.build.__module__],
    ]
    report.table([name, ""], rows)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.__name__ if isinstance(value, type) else str(value)
