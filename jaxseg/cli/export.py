"""``jaxseg export``: write a model in a format that others read, and check the file against ``model.apply``."""

from pathlib import Path

import click

from jaxseg.errors import BadInput

FORMATS = ("safetensors", "stablehlo", "torch", "onnx")
"""The names of :data:`jaxseg.export.formats.FORMATS`, which would import JAX for ``--help``."""


@click.command("export", short_help="Export a model.")
@click.argument("model", metavar="WORKDIR|DIR")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The file to write; safetensors: or folder."
)
@click.option("--size", type=click.IntRange(1), nargs=2, help="Height and width, where a format or network needs them.")
@click.option("--to", "implementation", help="Whose names a torch file gets, such as torchvision.")
@click.option("--licence", default="", help="Of the weights, for the card.")
@click.option("--push-to", "repository", help="ORG/REPO on the Hugging Face hub; of a safetensors folder.")
@click.option("--last", is_flag=True, help="The latest checkpoint, not the best.")
@click.option("--recipe", help="Recipe file to run first: tasks and models of one's own come from there.")
def command(
    model: str,
    form: str,
    out: Path,
    size: tuple[int, int] | None,
    implementation: str | None,
    licence: str,
    repository: str | None,
    last: bool,
    recipe: str | None,
) -> None:
    """Write the model of WORKDIR (or of a folder that jaxseg import wrote) and print the largest error of the copy.

    StableHLO runs in a process that has only JAX; safetensors is read by jaxseg.load; torch by load_state_dict.
    """
    import jax

    from jaxseg import recipe as recipes
    from jaxseg.cli import report
    from jaxseg.cli.runtime import prepare_runtime
    from jaxseg.conversion.rules import rules_of
    from jaxseg.export.formats import Export, export
    from jaxseg.inference.load import card_of, example_image, load

    if repository and (form != "safetensors" or out.suffix == ".safetensors"):
        raise BadInput("--push-to takes a folder: --format safetensors --out DIR")
    prepare_runtime()
    if recipe is not None:
        recipes.load_file(recipes.find_file(recipe))
    run = load(model, best=not last)
    if run.left_out:
        click.echo(
            f"exported without {', '.join(run.left_out)}, whose code is not here: --recipe FILE has it", err=True
        )
    card, variables = card_of(run, licence=licence), jax.device_get(run.variables)
    rules, example = lambda: rules_of(run.model, card.origin), example_image(run.model).shape
    line, error = export(form, Export(out, card, variables, example, rules, size, implementation))
    if line:
        report.say(line)
    report.say(f"{out}: largest error {error:.3g}")
    if card.geometry and form != "safetensors":
        first = ", ".join(map(repr, card.geometry))
        report.say(f"the file takes images after {first}; jaxseg predict does that by itself and undoes it")
    if repository:
        from jaxseg.export.hub import push_to_hub

        report.say(push_to_hub(out, repository))
