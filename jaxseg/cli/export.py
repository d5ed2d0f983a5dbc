"""``jaxseg export``: a model as others read it, checked against ``model.apply`` before it is handed on."""

from pathlib import Path

import click

from jaxseg.errors import BadInput, suggest

FORMATS = ("safetensors", "stablehlo", "torch", "onnx")


@click.command("export", short_help="Hand a model on.")
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
    import numpy as np

    from jaxseg import recipe as recipes
    from jaxseg.cli import report
    from jaxseg.cli.runtime import prepare_runtime
    from jaxseg.inference.load import card_of, load, smallest_size

    if repository and (form != "safetensors" or out.suffix == ".safetensors"):
        raise BadInput("--push-to takes a folder: --format safetensors --out DIR")
    prepare_runtime()
    if recipe is not None:
        recipes.load_file(recipes.find_file(recipe))
    run = load(model, best=not last)
    card, variables = card_of(run, licence=licence), jax.device_get(run.variables)
    if out.is_dir() and form != "safetensors":
        raise BadInput(f"{out} is a folder; give the name of a file")
    if form == "safetensors":
        from jaxseg.export import folder

        folder.write(out, card, variables)
        error = folder.verify(out, variables)
    elif form == "stablehlo":
        from jaxseg.export import stablehlo

        shape = stablehlo.write(out, card, variables, size=size)
        sides = size or smallest_size(run.model)
        if shape == stablehlo.ANY_SIZE[0].replace(",", ""):
            sides = (sides[0] + 3, sides[1] + 11)  # odd, so that what pads and crops is seen too
        image = np.random.default_rng(0).integers(0, 256, (2, *sides, 3), dtype=np.uint8)
        error = stablehlo.verify(out, card, variables, image)
        report.say(f"takes u8[{shape}], on {', '.join(stablehlo.PLATFORMS)}")
    elif form == "torch":
        from jaxseg.conversion.importer import rules_of
        from jaxseg.export import torch

        known = rules_of(run.model, card.origin)
        implementation = next(iter(known)) if implementation is None else implementation
        if implementation not in known:
            raise BadInput(f"there are no names of {implementation!r} for this model{suggest(implementation, known)}")
        torch.write(out, variables, known[implementation])
        error = torch.verify(out, variables, known[implementation])
        report.say(f"names of {implementation}")
    else:
        from jaxseg.export import onnx

        if size is None:
            raise BadInput("an ONNX file is of one size of image: --size HEIGHT WIDTH")
        error = onnx.write(out, card, variables, size=size)
    report.say(f"{out}: largest error {error:.3g}")
    if repository:
        from jaxseg.export.hub import push_to_hub

        report.say(push_to_hub(out, repository))
