"""``jaxseg import``: weights of others in a model of ours, without their framework."""

from pathlib import Path

import click

from jaxseg.types import BadInput, nearest


@click.command("import", short_help="Bring weights of others into a model.")
@click.argument("file", metavar="FILE|SOURCE")
@click.option("--model", "name", required=True, help="A model of the zoo, as jaxseg list names it.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder that is written.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="A field of the model; may be repeated.")
@click.option("--from", "implementation", help="Whose names the file has, such as torchvision.  [default: what fits]")
@click.option("--data", "data_set", help="The data set whose classes and colours the model has (jaxseg data list).")
@click.option("--licence", default="", help="Of the weights, for the card.")
def command(
    file: str,
    name: str,
    out: Path,
    changes: tuple[str, ...],
    implementation: str | None,
    data_set: str | None,
    licence: str,
) -> None:
    """Read FILE (safetensors, torch, npz, Caffe, Keras, Detectron) into model NAME and write the folder OUT.

    A SOURCE is torchvision:TAG, timm:NAME, smp:NAME, hf:ORG/REPO[/FILE] or https://...

    Nothing in FILE is run, and torch is not needed. `jaxseg predict OUT photo.png` then works.
    """
    from jaxseg import registry
    from jaxseg.override import parse_text

    entry = registry.find(name)
    fields = {}
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals:
            raise BadInput(f"--set {change!r} is not of the form field=value, such as num_classes=19")
        if field not in entry.fields:
            raise BadInput(f"model {name!r} has no field {field!r}{nearest(field, entry.fields)}")
        fields[field] = parse_text(text, entry.fields[field], field)

    from jaxseg import __version__, pretrained, viz
    from jaxseg.cli import report
    from jaxseg.data import sets
    from jaxseg.export import folder
    from jaxseg.tasks.semantic import Semantic
    from jaxseg.train.log import Console
    from jaxseg.weights import hub

    folder.check_free(out)
    if entry.task != "semantic":
        raise BadInput(f"{name!r} is of task {entry.task}; weights of others come into semantic models so far")
    facts = None if data_set is None else sets.find(data_set).FACTS
    bar = Console()
    bar.begin(f"download {file}", 100)
    try:
        path = hub.fetch(file, name, on_bytes=lambda done, total: bar.move(100 * done // (total or done)))
    finally:
        bar.close()
    found = pretrained.from_file(path, name, implementation=implementation, fields=fields)
    count = found.model.num_classes
    if facts is not None and facts.num_classes != count:
        raise BadInput(f"{data_set!r} has {facts.num_classes} classes, the model {count}")
    classes = tuple(f"class {k}" for k in range(count)) if facts is None else facts.classes
    card = folder.Card(
        model=found.model,
        task=Semantic(count, classes=classes),
        name=name,
        classes=classes,
        palette=viz.distinct_palette(count) if facts is None else facts.palette,
        licence=licence,
        origin={
            "file": file if ":" in file else path.name,
            "sha256": found.sha256,
            "implementation": found.implementation,
            "fresh": list(found.fresh),
        },
        version=__version__,
    )
    folder.write(out, card, found.variables)
    if found.told:
        report.say(found.told)
    report.say(f"{file} as weights of {found.implementation}: {out}")
