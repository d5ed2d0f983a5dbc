"""``jaxseg new``: write a recipe for a folder of images, or for a data set."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

DECISIONS = (
    click.option("--model", metavar="NAME", help="Network, as `jaxseg list` names it."),
    click.option("--weights", metavar="SOURCE", help="Start from a run, a file, hf:, timm:, smp: or torchvision:."),
    click.option("--freeze", multiple=True, metavar="REGEX", help="Variables that stay as they are; may be repeated."),
    click.option("--layer-decay", type=float, help="Factor of the learning rate from layer to layer, such as 0.8."),
    click.option("--patience", type=int, help="Stop after so many evaluations without improvement."),
    click.option("--precision", type=click.Choice(["float32", "bf16"]), help="Compute in bfloat16: half the memory."),
    click.option("--steps", type=int, help="Updates.  [default: by the number of images]"),
    click.option("--batch-size", type=int, help="Images per update.  [default: by the memory]"),
    click.option("--crop", type=int, nargs=2, metavar="H W", help="Size of a crop.  [default: by the images]"),
    click.option("--group", metavar="REGEX", help="Of a folder: images that match alike stay in one split."),
    click.option("--option", "given", multiple=True, metavar="NAME=VALUE", help="Option of the data set."),
)
"""What the user may decide; shared by `new` and `train`."""


def takes_decisions(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of :data:`DECISIONS` to a command."""
    for option in reversed(DECISIONS):
        command = option(command)
    return command


@click.command("new", short_help="Write a recipe for your images.")
@click.argument("data", metavar="PATH")
@takes_decisions
@click.option("--out", type=click.Path(path_type=Path), help="The file.  [default: DATA_MODEL.py]")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where prepared data sets are.")
def command(data: str, out: Path | None, data_dir: Path | None, **decisions: Any) -> None:
    """Write a commented recipe for PATH, a folder of images with masks or the name of a data set.

    Every decision stands in it with its reason: change what you know better, then `jaxseg train FILE.py`.
    """
    from jaxseg.cli import report
    from jaxseg.configure.make import dataset_of, name_of
    from jaxseg.errors import BadInput

    text = written(data, data_dir, "new", decisions)
    path = Path(f"{name_of(dataset_of(data), decisions['model'])}.py") if out is None else out
    if path.exists():
        raise BadInput(f"{path} is there already: give another --out, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    report.say(f"{path} is written; next: jaxseg train {shlex.quote(str(path))}")


def written(data: str, data_dir: Path | None, verb: str, decisions: Mapping[str, Any]) -> str:
    """Return the text of a recipe for what the user gave.

    Raises:
      BadInput: no model is named, or the data or the weights cannot be used.
    """
    from jaxseg.cli.data import options_of
    from jaxseg.configure.decide import Wishes
    from jaxseg.configure.make import dataset_of, recipe_text
    from jaxseg.errors import BadInput

    if not decisions["model"]:
        raise BadInput("--model is missing: name a network, such as unet_resnet34 (jaxseg list)")
    weights = decisions["weights"] or ""
    if weights and Path(weights).exists():
        weights = str(Path(weights).resolve())
    wishes = Wishes(
        decisions["model"],
        weights=weights,
        freeze=tuple(decisions["freeze"]),
        layer_decay=decisions["layer_decay"],
        patience=decisions["patience"],
        precision=decisions["precision"] or "float32",
        steps=decisions["steps"],
        batch_size=decisions["batch_size"],
        crop=tuple(decisions["crop"]) if decisions["crop"] else None,
    )
    options = options_of(decisions["given"])
    if decisions["group"]:
        options = (*options, ("group", decisions["group"]))
    spelled = command_line(data, verb, decisions)
    return recipe_text(dataset_of(data), wishes, command=spelled, options=options, data_dir=data_dir)


def command_line(data: str, verb: str, decisions: Mapping[str, Any]) -> str:
    """Return the command that the user gave, without what does not change the recipe."""
    words = ["jaxseg", verb, *(["--data"] if verb == "train" else []), data]
    for name, value in decisions.items():
        flag = "--option" if name == "given" else f"--{name.replace('_', '-')}"
        several = name in ("given", "freeze")
        for each in (value or ()) if several else ([value] if value not in (None, (), "") else []):
            words += [flag, *(map(str, each) if isinstance(each, tuple) else [str(each)])]
    return " ".join(map(shlex.quote, words))
