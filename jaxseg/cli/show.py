"""``jaxseg show``: describe one model."""

from typing import Any

import click

UNKNOWN = "not known: the trace does not follow this network"


@click.command("show", short_help="One model.")
@click.argument("name")
@click.option("--size", type=click.IntRange(1), default=256, show_default=True, help="Side of the image for GFLOPs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, size: int, as_json: bool) -> None:
    """Show paper, parameters, GFLOPs, receptive field, output stride and fields of model NAME."""
    from jaxseg import registry
    from jaxseg.cli import report

    entry = registry.find(name)
    facts = facts_of(entry, entry.build(), size)
    if as_json:
        return report.say_json(facts)
    paper = f" (paper: {entry.published})" if entry.published else ""
    height, width = facts["image"]
    field, stride, offset = (facts[key] for key in ("receptive_field", "output_stride", "offset"))
    seen = f"{field} pixels" if field is not None else "the whole image"
    centre = "none: each cell sees the whole image" if offset is None else f"{offset:g}, of the first cell"
    rows = [
        ["summary", entry.summary],
        ["task", entry.task],
        ["paper", entry.paper],
        ["parameters", f"{facts['parameters']:,}{paper}"],
        ["GFLOPs", f"{facts['gflops']:,.2f} for one image of {height}x{width} (a multiply-add counts as two)"],
        ["receptive field", seen if stride is not None else UNKNOWN],
        ["output stride", str(stride) if stride is not None else UNKNOWN],
        ["offset", centre if stride is not None else UNKNOWN],
        ["fields", ", ".join(f"{key}={value}" for key, value in facts["fields"].items())],
        ["recipes", ", ".join(facts["recipes"]) or "none"],
        ["file", entry.module],
    ]
    report.table([name, ""], rows)


def facts_of(entry: Any, model: Any, size: int) -> dict[str, Any]:
    """Return what is known of a model; stride, receptive field and offset are None where its program is not followed.

    Args:
      entry: of the registry.
      model: what it built.
      size: side of the image for GFLOPs.
    """
    from jaxseg import analysis

    height, width = analysis.fitting_size(model, size)
    try:
        stride, field, offset = analysis.receptive_field(model)
    except (AssertionError, LookupError, TypeError, ValueError):  # an operation that the trace does not know
        stride = field = offset = None
    return {
        "name": entry.name,
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
        "module": f"{entry.module}.{entry.name}",
        "fields": {key: _plain(value) for key, value in entry.fields.items()},
        "recipes": analysis.recipes_of(entry.name),
    }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.__name__ if isinstance(value, type) else str(value)
