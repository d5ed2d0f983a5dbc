"""``jaxseg import``: third-party weights in a model of jaxseg's, without their framework."""

import inspect
from pathlib import Path
from typing import Any

import click

from jaxseg.errors import BadInput, suggest


@click.command("import", short_help="Bring weights of others into a model.")
@click.argument("file", metavar="FILE|SOURCE")
@click.option("--model", "name", help="A model of the zoo, as jaxseg list names it.  [default: as FILE states]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder that is written.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="A field of the model; may be repeated.")
@click.option(
    "--from", "implementation", help="Whose names the file has, such as torchvision.  [default: those that fit]"
)
@click.option("--data", "data_set", help="The data set whose classes and colours the model has (jaxseg data list).")
@click.option("--classes", help="Names of the classes: a,b,c or a text file with one a line.")
@click.option("--prefix", default="", help="Of the names in FILE, such as model.  [default: the one that fits, if any]")
@click.option("--licence", default="", help="Of the weights, for the card.")
def command(
    file: str,
    name: str | None,
    out: Path,
    changes: tuple[str, ...],
    implementation: str | None,
    data_set: str | None,
    classes: str | None,
    prefix: str,
    licence: str,
) -> None:
    """Read FILE (safetensors, torch, npz, Caffe, Keras, TFLite, Detectron) into model NAME and write the folder OUT.

    A SOURCE is torchvision:TAG, timm:NAME, smp:NAME, hf:ORG/REPO[/FILE], detectron2:FILE or https://..., or a work
    directory or folder of jaxseg's own.

    A folder or repository that segmentation-models-pytorch saved states which network it is: no --model.

    Statistics of pixels are those that FILE states; --set standardize=imagenet (caffe, unit, centred, ...) or
    --set "standardize=((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))" replaces them.

    Prefixes of the names in FILE (model., net., ema.) are taken off where the rules fit without them, and named.

    Nothing in FILE is run, and torch is not needed. `jaxseg predict OUT photo.png` then works.
    """
    from jaxseg import registry
    from jaxseg.override import parse_argument

    build = _named_by_file if name is None else registry.find(name).build
    known = inspect.signature(build).parameters
    fields = {}
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals:
            raise BadInput(f"--set {change!r} is not of the form field=value, such as num_classes=19")
        if field not in known:
            what = f"model {name!r}" if name else "a network that says itself what it is"
            raise BadInput(f"{what} has no field {field!r}{suggest(field, known)}")
        fields[field] = parse_argument(text, build, field)

    from jaxseg.cli import report
    from jaxseg.conversion.importer import import_weights
    from jaxseg.export import folder
    from jaxseg.train.log import Console

    folder.check_free(out)
    named = () if classes is None else read_classes(classes)
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
            classes=named,
            prefix=prefix,
            on_bytes=lambda done, total: bar.move(100 * done // max(total or done, 1)),
        )
    finally:
        bar.close()
    assert run.card is not None
    folder.write(out, run.card, run.variables)
    for line in run.card.origin["report"]:
        report.say(line)
    report.say(f"{file} as weights of {run.card.origin['implementation']}: {out}")


def read_classes(text: str) -> tuple[str, ...]:
    """Return the names of classes in a text file, one a line, or in the text itself, between commas.

    >>> read_classes("road, sky")
    ('road', 'sky')

    Raises:
      BadInput: there is none, or one twice.
    """
    path = Path(text)
    if path.is_file():
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    elif path.suffix in (".txt", ".csv", ".json"):
        raise BadInput(f"there is no file {text!r} with names of classes")
    else:
        lines = text.split(",")
    names = tuple(line.strip() for line in lines if line.strip())
    twice = [name for name in names if names.count(name) > 1]
    if not names or twice:
        raise BadInput(f"--classes {text!r} {f'has {twice[0]!r} twice' if twice else 'names no class'}: one name each")
    return names


def _named_by_file(num_classes: int = 0, standardize: Any = "") -> None:
    """Return the fields that remain where the file states which network it is."""
