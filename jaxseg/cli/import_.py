"""``jaxseg import``: weights of others in a model of ours, without their framework."""

from pathlib import Path

import click

from jaxseg.errors import BadInput, suggest


@click.command("import", short_help="Bring weights of others into a model.")
@click.argument("file", metavar="FILE|SOURCE")
@click.option("--model", "name", help="A model of the zoo, as jaxseg list names it.  [default: what FILE says it is]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder that is written.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="A field of the model; may be repeated.")
@click.option("--from", "implementation", help="Whose names the file has, such as torchvision.  [default: what fits]")
@click.option("--data", "data_set", help="The data set whose classes and colours the model has (jaxseg data list).")
@click.option("--licence", default="", help="Of the weights, for the card.")
def command(
    file: str,
    name: str | None,
    out: Path,
    changes: tuple[str, ...],
    implementation: str | None,
    data_set: str | None,
    licence: str,
) -> None:
    """Read FILE (safetensors, torch, npz, Caffe, Keras, TFLite, Detectron) into model NAME and write the folder OUT.

    A SOURCE is torchvision:TAG, timm:NAME, smp:NAME, hf:ORG/REPO[/FILE], detectron2:FILE or https://...

    A folder or repository that segmentation-models-pytorch saved says itself which network it is: no --model.

    Nothing in FILE is run, and torch is not needed. `jaxseg predict OUT photo.png` then works.
    """
    from jaxseg import registry
    from jaxseg.override import parse_text

    known = {"num_classes": 0} if name is None else registry.find(name).fields
    fields = {}
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals:
            raise BadInput(f"--set {change!r} is not of the form field=value, such as num_classes=19")
        if field not in known:
            what = f"model {name!r}" if name else "a network that says itself what it is"
            raise BadInput(f"{what} has no field {field!r}{suggest(field, known)}")
        fields[field] = parse_text(text, known[field], field)

    from jaxseg.cli import report
    from jaxseg.conversion.importer import import_weights
    from jaxseg.export import folder
    from jaxseg.train.log import Console

    folder.check_free(out)
    bar = Console()
    bar.begin(f"import {file}", 100)
    try:
        run = import_weights(
            file,
            name,
            implementation=implementation,
            fields=fields,
            data=data_set,
            licence=licence,
            on_bytes=lambda done, total: bar.move(100 * done // max(total or done, 1)),
        )
    finally:
        bar.close()
    assert run.card is not None
    folder.write(out, run.card, run.variables)
    if run.card.origin["summary"]:
        report.say(run.card.origin["summary"])
    report.say(f"{file} as weights of {run.card.origin['implementation']}: {out}")
