"""``jaxseg list``: list the registered models."""

import click


@click.command("list", short_help="The models of the zoo.")
@click.argument("pattern", default="*")
@click.option("--task", help="Only models of one task, such as semantic.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(pattern: str, task: str | None, as_json: bool) -> None:
    """List the models whose names match a shell PATTERN, such as 'fcn*'.

    Decoders on encoders, such as unet_efficientnet_b0, are hundreds: they are listed where a PATTERN asks for some.
    """
    from jaxseg import registry
    from jaxseg.cli import report
    from jaxseg.errors import BadInput, suggest

    combined = pattern != "*"
    entries = {**registry.combinations(), **registry.entries()} if combined else registry.entries()
    tasks = {entry.task for entry in entries.values()}
    if task is not None and task not in tasks:
        raise BadInput(f"no model is of task {task!r}{suggest(task, tasks)}")
    found = [entries[name] for name in registry.list_models(pattern, task, combined=combined)]
    if not found:
        raise BadInput(f"no model matches {pattern!r}{suggest(pattern, entries)}")
    if as_json:
        fields = ("name", "task", "paper", "params", "rounded", "summary")
        return report.say_json([{field: getattr(entry, field) for field in fields} for entry in found])
    rows = [[e.name, e.task, e.paper, e.published, e.summary] for e in found]
    report.table(["name", "task", "paper", "parameters", "what"], rows, right=0)
